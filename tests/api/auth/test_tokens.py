import json
import threading
from pathlib import Path

import pytest

from meterd.api.auth import tokens
from meterd.errors import MeterdError

NOW = 1_795_255_200


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meterd.tokens"


def test_a_token_is_256_bits_and_only_its_hash_is_kept(path: Path) -> None:
    secret = tokens.add(path, "grafana", ("read",), NOW, NOW + 60)
    assert secret.startswith("meterd_")
    assert len(secret) == len("meterd_") + 43
    assert secret not in path.read_text()
    (kept,) = tokens.load(path)
    assert kept == tokens.ApiToken("grafana", tokens.digest(secret), ("read",), NOW, NOW + 60)
    assert tokens.add(path, "other", ("admin", "command"), NOW) != secret


def test_the_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(path: Path) -> None:
    tokens.add(path, "a", ("read",), NOW)
    tokens.add(path, "b", ("read",), NOW)
    tokens.revoke(path, "a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert [token.name for token in tokens.load(path)] == ["b"]


def test_after_the_last_token_the_file_stays(path: Path) -> None:
    tokens.add(path, "a", ("read",), NOW)
    tokens.revoke(path, "a")
    assert path.exists()
    assert tokens.load(path) == []


def test_a_name_is_given_once(path: Path) -> None:
    tokens.add(path, "a", ("read",), NOW)
    with pytest.raises(MeterdError, match="revoke it, or choose another"):
        tokens.add(path, "a", ("read",), NOW)
    with pytest.raises(MeterdError, match="there is: a"):
        tokens.revoke(path, "b")


def test_no_file_is_no_tokens(path: Path) -> None:
    assert tokens.load(path) == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", '{"tokens": 1}', '{"tokens": [{}]}', "[" * 100_000),
        json.dumps({"tokens": [{"name": "a", "hash": "00", "scopes": [], "created": "x"}]}),
        json.dumps(
            {
                "tokens": [
                    {
                        "name": "a",
                        "hash": "00" * 32,
                        "scopes": ["root"],
                        "created": "2026-11-21T10:00:00Z",
                    }
                ]
            }
        ),
    ],
)
def test_a_damaged_file_says_so(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(MeterdError, match="no file of tokens any more"):
        tokens.load(path)


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    tokens.add(path, "a", ("read",), NOW)
    path.chmod(0o640)
    with pytest.raises(MeterdError, match="chmod 600"):
        tokens.load(path)


def test_a_folder_that_cannot_be_written_says_who_may(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MeterdError, match="cannot be written"):
        tokens.add(tmp_path / "file" / "meterd.tokens", "a", ("read",), NOW)


def test_none_is_lost_where_two_write_at_once(path: Path) -> None:
    def add(first: int) -> None:
        for number in range(10):
            tokens.add(path, f"t{first + number}", ("read",), NOW)

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.load(path)) == 30
