"""`meterd token`, and the doors that it opens."""

import json
from pathlib import Path

import pytest

from tests.cli.inside import inside

CONFIG = """\
devices: {ups: {driver: megatec, link: "serial:///dev/nowhere"}}
store: {url: "sqlite:///STORE"}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "meterd.yaml"
    path.write_text(CONFIG.replace("STORE", str(tmp_path / "meterd.db")))
    return str(path)


def test_a_token_is_shown_once_and_listed_without_itself(
    config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("token", "add", "phone", "--scope", "admin", "--expires", "90d", "-c", config)
    added = inside(capsys, *words)
    secret = added.out.strip()
    assert (added.code, secret[:7]) == (0, "meterd_")
    assert str(tmp_path / "meterd.tokens") in added.err
    assert secret not in added.err
    assert inside(capsys, "token", "add", "plain", "-c", config).code == 0
    listed = inside(capsys, "token", "list", "-c", config, "--format", "json")
    phone, plain = listed.document
    assert secret not in listed.out
    assert (phone["name"], phone["scopes"], phone["state"]) == ("phone", "admin", "valid")
    assert phone["expires"] > phone["created"]
    assert (plain["scopes"], plain["expires"], plain["last_used"]) == ("read", None, None)


def test_a_token_is_revoked_once(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    inside(capsys, "token", "add", "phone", "-c", config)
    assert inside(capsys, "token", "revoke", "phone", "-c", config).code == 0
    again = inside(capsys, "token", "revoke", "phone", "-c", config)
    assert (again.code, again.out) == (1, "")
    assert "there is no token 'phone'" in again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "a b"), "up to 64 letters"),
        (("add", "../x"), "up to 64 letters"),
        (("add", "x", "--scope", "root"), "'read', 'admin', 'command'"),
        (("add", "x", "--expires", "90"), "such as 90d"),
        (("add", "x", "--expires", "1s"), "from 1m"),
        (("add",), "NAME"),
        (("list", "--format", "yaml"), "'table'"),
    ],
)
def test_wrong_usage_is_code_2(
    config: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    ended = inside(capsys, "token", *words, "-c", config)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_taken_name_is_a_failure(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    inside(capsys, "token", "add", "x", "-c", config)
    again = inside(capsys, "token", "add", "x", "-c", config)
    assert (again.code, again.out) == (1, "")
    assert "there is a token 'x' already" in again.err


def test_the_file_may_stand_anywhere(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(config).write_text(Path(config).read_text() + "api: {tokens: keys/api.json}\n")
    assert inside(capsys, "token", "add", "x", "-c", config).code == 0
    kept = tmp_path / "keys" / "api.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [entry["name"] for entry in json.loads(kept.read_text())["tokens"]] == ["x"]
