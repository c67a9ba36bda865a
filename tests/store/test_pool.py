"""Readers keep their connections between questions, as long as it is the same file."""

from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.db.connections import Connections, Database, Opened
from meterd.store.reader import Reader
from meterd.store.writer import Writer

from .rigs import opened, poll, url_of

ASK = text("SELECT count(*) FROM sqlite_master")


def made(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Database, list[Opened]]:
    """A database that keeps one reader, and which connections were ever opened."""
    found: list[Opened] = []
    real = Connections.open

    def counted(self: Connections) -> Opened:
        found.append(real(self))
        return found[-1]

    monkeypatch.setattr(Connections, "open", counted)
    place = store_url.find(url_of(path), kept=1)
    path.touch()
    return place, found


def ask(place: Database) -> int:
    with place.reading() as connection:
        return int(connection.scalar(ASK) or 0)


def test_the_next_question_uses_the_same_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, found = made(tmp_path / "m.db", monkeypatch)
    assert [ask(place) for _ in range(3)] == [0, 0, 0]
    assert len(found) == 1
    place.rest()
    ask(place)
    ask(place)
    assert len(found) == 3


def test_questions_at_once_have_one_each_and_only_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, found = made(tmp_path / "m.db", monkeypatch)
    with place.reading():
        ask(place)
    ask(place)
    assert len(found) == 2
    place.rest()


def test_another_file_in_its_place_is_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.db"
    place, found = made(path, monkeypatch)
    ask(place)
    path.rename(tmp_path / "aside.db")
    writing = store_url.find(url_of(path)).writing()
    with writing.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE one (id INTEGER)")
    writing.close()
    assert ask(place) == 1
    assert len(found) == 3
    place.rest()


def test_a_connection_that_failed_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, found = made(tmp_path / "m.db", monkeypatch)
    with suppress(StoreError), place.reading() as connection:
        connection.exec_driver_sql("SELECT nonsense")
    ask(place)
    assert len(found) == 2
    place.rest()


def beside(path: Path) -> list[str]:
    return [one.name for one in path.parent.glob(f"{path.name}-*")]


async def test_a_reader_at_rest_lets_the_writer_put_the_log_away(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    url = url_of(path)
    async with opened(Writer(url)) as writer:
        reader = Reader(url, writer.memory)
        writer.take(poll(1000, 1.0))
        await writer.flush()
        assert await reader.range(None, None, 0, 2000, 0, "avg")
        reader.rest()
    assert beside(path) == []
    reader.close()
