import logging
from pathlib import Path

import pytest

from meterd.api.auth import tokens
from meterd.api.auth.token_store import TokenStore
from meterd.testing import FakeClock

NOW = 1_800_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meterd.tokens"


def test_a_token_opens_as_soon_as_it_is_made_and_shuts_within_a_second(path: Path) -> None:
    clock = FakeClock()
    token_store = TokenStore(path, clock)
    assert token_store.who("meterd_nonsense") is None
    secret = tokens.add(path, "phone", ("admin",), NOW)
    who = token_store.who(secret)
    assert who is not None
    assert (who.name, who.may("read"), who.may("admin"), who.may("command")) == (
        "phone",
        True,
        True,
        False,
    )
    tokens.revoke(path, "phone")
    clock.pass_by(1.0)
    assert token_store.who(secret) is None


def test_it_expires_to_the_second(path: Path) -> None:
    clock = FakeClock(utc_ms=NOW * 1000)
    token_store = TokenStore(path, clock)
    secret = tokens.add(path, "guest", ("read",), NOW, NOW + 60)
    clock.pass_by(59)
    assert token_store.who(secret)
    clock.pass_by(1)
    assert token_store.who(secret) is None


@pytest.mark.parametrize("damage", ["text", "mode"])
def test_a_damaged_file_opens_nothing_until_it_is_mended(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    token_store = TokenStore(path, clock)
    secret = tokens.add(path, "a", ("read",), NOW)
    assert token_store.who(secret)
    good = path.read_bytes()
    if damage == "text":
        path.write_text("{")
    else:
        path.chmod(0o644)
    clock.pass_by(1.0)
    with caplog.at_level(logging.ERROR):
        assert [token_store.who(secret) for _ in range(5)] == [None] * 5
    assert len(caplog.records) == 1
    tokens.replace(path, good)
    clock.pass_by(1.0)
    assert token_store.who(secret)


def test_last_use_is_noted_beside_the_file_for_tokens_that_are_there(path: Path) -> None:
    clock = FakeClock(utc_ms=NOW * 1000)
    token_store = TokenStore(path, clock)
    token_store.note()
    assert not tokens.used_file(path).exists()
    first, second = (tokens.add(path, name, ("read",), NOW) for name in "ab")
    assert token_store.who(first)
    assert token_store.who(second)
    tokens.revoke(path, "b")
    clock.pass_by(5)
    assert token_store.who(first)
    token_store.note()
    assert tokens.last_used(path) == {tokens.digest(first): NOW + 5}
    assert tokens.used_file(path).stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_there_once_is_not_forgotten(path: Path) -> None:
    clock = FakeClock()
    token_store = TokenStore(path, clock)
    existed = [token_store.exists]
    tokens.add(path, "a", ("read",), NOW)
    clock.pass_by(1)
    existed.append(token_store.exists)
    path.unlink()
    clock.pass_by(1)
    assert [*existed, token_store.exists] == [False, True, True]
    assert len(token_store) == 0


def test_without_a_file_nothing_opens() -> None:
    token_store = TokenStore(None, FakeClock())
    assert token_store.who("meterd_x") is None
    assert not token_store.exists
