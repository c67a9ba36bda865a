from pathlib import Path

import pytest

from meterd.config.interpolation import SECRET_MAX_BYTES
from tests.config.judge import MINIMAL, problem, problems, settings

HOOK = "alerts: {{hooks: {{h: {{type: webhook, {}}}}}}}\n"


def secret(folder: Path, text: str | bytes, name: str = "secret", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_variables_are_filled_in_wherever_a_text_stands() -> None:
    text = """\
    site: {name: "${A}-${B}"}
    links: {b: {url: "tcp://${HOST}:502"}}
    devices:
      m:
        driver: meter
        map: m
        link: b
        unit: ${UNIT}
        enabled: ${ON}
        interval: ${EVERY}
        labels: {where: "${A}$$${B} $5 $${A} ${EMPTY}"}
    """
    environ = {"A": "x", "B": "y", "HOST": "h", "UNIT": "7", "ON": "false", "EVERY": "5s"}
    made = settings(text, environ | {"EMPTY": ""})
    assert made.site.name == "x-y"
    assert made.links["b"].url == "tcp://h:502"
    device = made.devices["m"]
    assert (device.options.unit, device.enabled, device.interval) == (7, False, 5.0)
    assert device.labels == {"where": "x$y $5 ${A} "}


def test_a_variable_is_not_read_as_yaml_or_filled_in_again() -> None:
    made = settings('site: {name: "${A}"}\n' + MINIMAL, {"A": "${B}: [x", "B": "no"})
    assert made.site.name == "${B}: [x"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("${NOPE}", "the environment variable NOPE is not set"),
        ("${A-b}", "'${A-b}' holds a '${' that names no variable"),
        ("${A", "'${A' holds a '${' that names no variable"),
        ("${}", "'${}' holds a '${' that names no variable"),
        ("${1A}", "'${1A}' holds a '${' that names no variable"),
    ],
)
def test_a_variable_without_value_is_one_problem(text: str, what: str) -> None:
    found = problem(f'site: {{name: "{text}"}}\n')
    assert (found.code, found.line, found.column, found.what) == ("C009", 1, 14, what)


def test_an_unset_variable_does_not_hide_other_mistakes() -> None:
    text = """\
    devices:
      m: {link: "${NOPE}", interval: 1}
    alerts: {rules: {r: {quantity: device.up, above: "${NOPE}"}}}
    """
    assert [(p.line, p.code) for p in problems(text)] == [
        (2, "C021"),
        (2, "C009"),
        (2, "C025"),
        (3, "C009"),
    ]


def test_what_comes_from_outside_is_never_printed(tmp_path: Path) -> None:
    secret(tmp_path, "hunter2-file")
    text = """\
    links:
      a: {url: "tcp://${PASSWORD}/x"}
      b: {url_file: secret}
    devices:
      m: {driver: meter, link: a, map: "odd ${PASSWORD}", mode_file: secret}
    api: {listen: "${PASSWORD}"}
    store: {url_file: secret, commit: "${PASSWORD}"}
    alerts:
      rules: {r: {quantity: "${PASSWORD}", device: "${PASSWORD}", above: 1, notify: "${PASSWORD}"}}
    """
    found = problems(text, {"PASSWORD": "hunter2"}, tmp_path)
    assert len(found) >= 9
    assert "hunter2" not in "\n".join(map(str, found))


def test_a_file_key_stands_for_the_key_without_file(tmp_path: Path) -> None:
    secret(tmp_path, "http://127.0.0.1/secret\n")
    secret(tmp_path, "Bearer x", "token")
    secret(tmp_path, "A: 1\n\nB:  two words \n", "headers")
    one = HOOK.format("url_file: secret, headers: {Authorization_file: token}")
    hook = settings(one + MINIMAL, folder=tmp_path).alerts.hooks["h"]
    assert (hook.url, hook.headers) == ("http://127.0.0.1/secret", {"Authorization": "Bearer x"})
    assert "secret" not in repr(hook)
    assert "Bearer" not in repr(hook)
    two = HOOK.format("url: 'http://h', headers_file: headers")
    hook = settings(two + MINIMAL, folder=tmp_path).alerts.hooks["h"]
    assert hook.headers == {"A": "1", "B": "two words"}


def test_an_absolute_path_and_a_drivers_own_secret(tmp_path: Path) -> None:
    path = secret(tmp_path, "pw\n")
    text = "devices: {{m: {{driver: meter, link: 'tcp://h', map: m, password_file: {}}}}}\n"
    assert settings(text.format(path)).devices["m"].options.password == "pw"
    environ = {"DIR": str(tmp_path)}
    assert settings(text.format("'${DIR}/secret'"), environ).devices["m"].options.password == "pw"


def test_names_that_people_choose_may_end_in_file(tmp_path: Path) -> None:
    text = """\
    links: {a_file: {url: "tcp://h"}}
    devices: {m_file: {driver: open, link: a_file, labels: {log_file: x}}}
    alerts:
      rules: {r_file: {quantity: device.up, equals: 0, notify: h_file}}
      hooks: {h_file: {type: webhook, url: "http://h"}}
    """
    made = settings(text, folder=tmp_path)
    assert made.devices["m_file"].labels == {"log_file": "x"}


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff", b"a\0b", b"x" * (SECRET_MAX_BYTES + 1)])
def test_a_secret_that_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    secret(tmp_path, data)
    found = problem("site: {name_file: secret}\n", folder=tmp_path)
    assert found.code == "C010"
    assert "must be a text of 1 to 65536 bytes in UTF-8" in found.what


@pytest.mark.parametrize("value", ["7", "''", "null", "gone", ".", '"nul\\0"'])
def test_a_secret_that_is_no_file_is_refused(tmp_path: Path, value: str) -> None:
    found = problem(f"site: {{name_file: {value}}}\n", folder=tmp_path)
    assert (found.code, found.line, found.column) == ("C010", 1, 19)


def test_a_secret_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    secret(tmp_path, "x")
    monkeypatch.setattr(Path, "open", refuse)
    found = problem("site: {name_file: secret}\n", folder=tmp_path)
    assert found.code == "C010"
    assert found.what.endswith("cannot be read: Permission denied")


def test_systemds_credentials_may_show_group_bits(tmp_path: Path) -> None:
    secret(tmp_path, "Home", mode=0o440)
    text = "site: {name_file: '${CREDENTIALS_DIRECTORY}/secret'}\n" + MINIMAL
    assert settings(text, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).site.name == "Home"
