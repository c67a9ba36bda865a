"""Every code of the table is provoked once, at its exact place."""

from pathlib import Path

import pytest

from meterd.config.codes import MEANING, Code
from meterd.config.load import load
from meterd.errors import ConfigError
from tests.config.judge import DRIVERS, MINIMAL, place_of, problem

TARIFF = "tariffs: {{t: {{currency: EUR, prices: [{}]}}}}\n"
# code, text, and the part of the text at whose beginning the problem stands.
CASES = [
    (Code.SYNTAX, "site: {name: a\ndevices: 1", ": 1"),
    (Code.DUPLICATE, "site: {name: a, name: b}\n", "name: b"),
    (Code.EMPTY, "# devices:\n", "#"),
    (Code.SHAPE, "- devices:\n", "- "),
    (Code.SHAPE, "site: [Home]\n", "[Home]"),
    (Code.FEATURE, "site: {name: !secret a}\n", "!secret"),
    (Code.FEATURE, MINIMAL + "---\nsite: {}\n", "---"),
    (Code.VARIABLE, "site: {name: '${NOPE}'}\n", "'${"),
    (Code.FILE_KEY, "site:\n  name_file: no/such/file\n", "no/such"),
    (Code.FILE_KEY_TWICE, "site: {name: a, name_file: b}\n", "name_file"),
    (Code.UNKNOWN_KEY, "site: {nmae: a}\n", "nmae"),
    (Code.MISSING, "links:\n  b: {gap: 1s}\n", "b:"),
    (Code.TYPE, "site: {name: 7}\n", "7"),
    (Code.RANGE, "store: {commit: 61s}\n", "61s"),
    (Code.CHOICE, "devices:\n  m: {driver: open, link: 'tcp://h', direction: back}\n", "back"),
    (Code.DURATION, "store: {commit: 10}\n", "10"),
    (Code.VALUE, "devices:\n  m: {driver: meter, link: 'tcp://h', map: odd}\n", "odd"),
    (Code.NAME, "devices:\n  Main: {driver: open, link: 'tcp://h'}\n", "Main"),
    (Code.TIMEZONE, "site: {timezone: Europe/Belrin}\n", "Europe"),
    (Code.LABEL, "devices:\n  m: {driver: open, link: 'tcp://h', labels: {a-b: c}}\n", "a-b"),
    (Code.LINK, "links:\n  b: {url: 'http://h'}\n", "'http"),
    (Code.STORE, "store: {url: 'sqlite://x.db'}\n", "'sqlite"),
    (Code.LISTEN, "api: {listen: 127.0.0.1}\n", "127"),
    (Code.OPEN_LISTEN, "api: {listen: 0.0.0.0:8420}\n", "0.0"),
    (Code.HOOK, "alerts: {hooks: {h: {type: webhook, url: 'ftp://h'}}}\n", "'ftp"),
    (
        Code.HEADER,
        "alerts: {hooks: {h: {type: webhook, url: 'http://h', headers: {'a b': c}}}}\n",
        "'a b'",
    ),
    (Code.UNKNOWN_DRIVER, "devices:\n  m: {driver: metre, link: 'tcp://h'}\n", "metre"),
    (Code.UNKNOWN_LINK, "devices:\n  m: {driver: open, link: basement}\n", "basement"),
    (
        Code.UNKNOWN_DEVICE,
        "alerts: {rules: {r: {device: [main, mian], quantity: voltage.l1, above: 1}}}\n",
        "mian",
    ),
    (
        Code.UNKNOWN_HOOK,
        "alerts: {rules: {r: {quantity: voltage.l1, above: 1, notify: [ops]}}}\n",
        "ops",
    ),
    (Code.UNKNOWN_QUANTITY, "alerts: {rules: {r: {quantity: voltage.l9, above: 1}}}\n", "voltage"),
    (Code.CONDITION, "alerts: {rules: {r: {quantity: voltage.l1}}}\n", "r: "),
    (
        Code.CLEAR,
        "alerts: {rules: {r: {quantity: voltage.l1, above: 1, clear_below: 2}}}\n",
        "2}",
    ),
    (Code.NO_DEVICES, "site: {name: a}\ndevices: {}\n", "devices"),
    (
        Code.TARIFF_TIME,
        TARIFF.format("{rates: {a: 1}, rules: [{rate: a, time: 1:01-2:00}], else: a}"),
        "1:01",
    ),
    (Code.TARIFF_DAY, TARIFF.format("{from: 2026-02-30, rates: {a: 1}, else: a}"), "2026"),
    (Code.PRICE, TARIFF.format("{rates: {a: cheap}, else: a}"), "cheap"),
    (
        Code.PRICE_ORDER,
        TARIFF.format("{rates: {a: 1}, else: a}, {rates: {b: 1}, else: b}"),
        "{rates: {b",
    ),
    (Code.RATE, TARIFF.format("{rates: {a: 1}, else: b}"), "b}]"),
    (Code.TLS, "api: {tls: {certificate: no/c.pem, key: no/k.pem}}\n", "tls"),
    (Code.ACCOUNT, "api: {users: {a: {password: short}}}\n", "short"),
    (Code.BASE_PATH, "api: {base_path: meterd}\n", "meterd"),
    (Code.ORIGIN, "api: {cors: [https://a.example, '*']}\n", "'*'"),
    (Code.PROXY, "api: {trusted_proxies: [10.0.0.0/8, proxy.lan]}\n", "proxy.lan"),
]


@pytest.mark.parametrize(("code", "text", "part"), CASES)
def test_a_mistake_has_its_code_and_its_exact_place(code: Code, text: str, part: str) -> None:
    found = problem(text)
    line, column = place_of(text, part)
    assert (found.file, found.line, found.column, found.code) == ("m.yaml", line, column, code)
    assert found.what


def _load_error(path: Path) -> tuple[str, int, int]:
    with pytest.raises(ConfigError) as caught:
        load(path, options_of=DRIVERS.get, driver_names=list(DRIVERS), environ={})
    (found,) = caught.value.problems
    assert found.file == str(path)
    return found.code, found.line, found.column


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"site: \xff", (Code.NO_TEXT, 1, 7)),
        (b"a: b\nc: \x00", (Code.NO_TEXT, 2, 4)),
        ("a: ü\r\nb: ü\x07".encode(), (Code.NO_TEXT, 2, 5)),
        (b"\x7fELF\x02\x01\x01\x00", (Code.NO_TEXT, 1, 1)),
        ("devices: {}".encode("utf-16"), (Code.NO_TEXT, 1, 1)),
        (b"#" * 5_000_000, (Code.TOO_LARGE, 1, 1)),
        (b"a: " + b"[" * 200_000, (Code.TOO_LARGE, 1, 36)),
        (b"", (Code.EMPTY, 1, 1)),
    ],
)
def test_a_file_that_is_no_configuration_is_one_clear_problem(
    tmp_path: Path, data: bytes, expected: tuple[str, int, int]
) -> None:
    path = tmp_path / "meterd.yaml"
    path.write_bytes(data)
    assert _load_error(path) == expected


def test_a_file_that_is_not_there_or_a_folder_is_unreadable(tmp_path: Path) -> None:
    assert _load_error(tmp_path / "none.yaml") == (Code.UNREADABLE, 1, 1)
    assert _load_error(tmp_path) == (Code.UNREADABLE, 1, 1)
    assert _load_error(Path("nul\0byte")) == (Code.UNREADABLE, 1, 1)


def test_a_secret_that_others_can_read_is_refused_with_its_mode(tmp_path: Path) -> None:
    secret = tmp_path / "name"
    secret.write_text("Home\n")
    secret.chmod(0o640)
    found = problem("site: {name_file: name}\n", folder=tmp_path)
    assert (found.code, found.line, found.column) == (Code.FILE_KEY_MODE, 1, 19)
    assert "0640" in found.what
    assert found.hint == f"chmod 600 {secret}"


def test_every_code_has_a_sentence_of_its_own_and_a_test() -> None:
    assert set(MEANING) == set(Code)
    assert len(set(MEANING.values())) == len(Code)
    tested = {code for code, _, _ in CASES}
    assert set(Code) - tested == {
        Code.UNREADABLE,
        Code.NO_TEXT,
        Code.TOO_LARGE,
        Code.FILE_KEY_MODE,
        # Not of a file: `meterd check` tells it of the machine that it runs on.
        Code.STORE_DRIVER,
    }
