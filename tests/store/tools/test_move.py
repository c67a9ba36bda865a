"""Moves: a copy is the same store; broken off it goes on; what is in use is not overwritten."""

from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.tools import check
from meterd.store.tools.move import SENT, move
from meterd.store.writer import Writer
from tests.store.rigs import METER, NEVER, Hands, opened, poll, rows, samples, store, url_of
from tests.store.test_hours import DAY, HOUR, START, alike, answers, feed, history


def same(one: Path, other: Path) -> None:
    for table in SENT:
        question = f"SELECT * FROM {table.name} ORDER BY 1"
        assert rows(one, question) == rows(other, question), table.name


async def test_a_copy_of_a_running_store_answers_alike(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    hands = Hands(START)
    told: list[tuple[str, int]] = []
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(1, START, 50))
        await writer.settle()
        moved = move(store_url.find(url_of(path)), url_of(copy), lambda *some: told.append(some))
        expected = await answers(reader, START, START + 50 * HOUR)
    assert moved.sent == sum(moved.rows.values()) == sum(count for _, count in told)
    outside = Reader.outside(url_of(copy))
    alike(await answers(outside, START, START + 50 * HOUR), expected)
    outside.close()
    assert list(check.problems(store_url.find(url_of(copy)))) == []


async def test_again_it_catches_up_with_what_changed(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, history(2, START, 50))
        await writer.settle()
        first = move(store_url.find(url_of(path)), url_of(copy))
        assert move(store_url.find(url_of(path)), url_of(copy)).sent == 0
        await feed(writer, hands, history(3, START + 50 * HOUR, 30, energy=90_000.0))
        # A late poll changes a block in the middle.
        writer.take(poll(START + 5 * HOUR + 1, 111.0))
        await writer.settle()
        second = move(store_url.find(url_of(path)), url_of(copy))
    assert 0 < second.sent < first.sent
    assert second.deleted > 0
    same(path, copy)


async def test_broken_off_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, history(4, START, 60))
        await writer.settle()

    def stop(table: str, count: int) -> None:
        if table == "rollup":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(store_url.find(url_of(path)), url_of(copy), stop)
    there = rows(copy, "SELECT count(*) FROM block")[0][0]
    moved = move(store_url.find(url_of(path)), url_of(copy))
    assert moved.sent < sum(moved.rows.values()) - int(str(there)) + 1
    same(path, copy)


async def test_polls_of_a_journal_file_come_along_from_a_running_store(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    hands = Hands(START)
    async with store(path, clock=hands, to_file=True) as (writer, reader):
        await feed(writer, hands, history(5, START, 5.5))
        await writer.settle()
        first = move(store_url.find(url_of(path)), url_of(copy))
        assert samples(copy) == samples(path)
        await feed(writer, hands, history(6, START + 6 * HOUR, 2.5, energy=90_000.0))
        second = move(store_url.find(url_of(path)), url_of(copy))
        assert samples(copy) == samples(path)
        expected = await answers(reader, START, START + 9 * HOUR)
    assert (first.rows["journal"], second.rows["journal"]) == (1, 1)
    assert list(check.problems(store_url.find(url_of(copy)))) == []
    async with store(copy, clock=hands) as (writer, reader):
        alike(await answers(reader, START, START + 9 * HOUR), expected)
        await writer.settle()
        alike(await answers(reader, START, START + 9 * HOUR), expected)


async def test_plain_rows_come_along_and_go_with_those_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterd.store.tools.move._PLAIN", 500)
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    hands = Hands(START)
    told: list[tuple[str, int]] = []
    question = "SELECT * FROM sample ORDER BY time, series"
    async with store(path, clock=hands, rows=2 * 86_400) as (writer, _):
        await feed(writer, hands, history(7, START, 3))
        await writer.settle()

        def stop(table: str, count: int) -> None:
            told.append((table, count))
            if table == "sample" and len(told) > 15:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            move(store_url.find(url_of(path)), url_of(copy), stop)
        there = len(rows(copy, question))
        assert 0 < there < len(rows(path, question))
        again = move(store_url.find(url_of(path)), url_of(copy))
        assert again.sent == len(rows(path, question)) - there
        assert rows(copy, question) == rows(path, question)
        # One is other, some are too old, some are new.
        writer.take(poll(START + HOUR, 1.0, None, 3.0, layout=METER))
        hands.now = START + 2 * DAY + HOUR
        writer.take(poll(hands.now, 230.0))
        hands.elapsed += 2 * 86_400
        await writer.settle()
        last = move(store_url.find(url_of(path)), url_of(copy))
    assert rows(copy, question) == rows(path, question)
    assert last.deleted > 1000
    assert last.rows["sample"] == len(rows(path, question))


async def test_another_store_is_never_overwritten(tmp_path: Path) -> None:
    path, other, copy = (tmp_path / name for name in ("a.db", "other.db", "copy.db"))
    for file in (path, other):
        async with opened(Writer(url_of(file), commit=NEVER)) as writer:
            writer.take(poll(START, 230.0))
    source = store_url.find(url_of(path))
    with pytest.raises(StoreError, match="holds another store"):
        move(source, url_of(other))
    with pytest.raises(StoreError, match="the same store"):
        move(source, url_of(path))
    move(source, url_of(copy))
    with pytest.raises(StoreError, match="is a copy of"):
        move(store_url.find(url_of(other)), url_of(copy))


async def test_a_copy_that_was_used_since_is_left_alone(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        writer.take(poll(START, 230.0))
    source = store_url.find(url_of(path))
    move(source, url_of(copy))
    async with opened(Writer(url_of(copy), commit=NEVER)) as writer:
        writer.take(poll(START + DAY, 231.0))
        await writer.flush()
        with pytest.raises(StoreError) as refused:
            move(source, url_of(copy))
        assert refused.value.code == "already_running"
    with pytest.raises(StoreError, match="newer samples"):
        move(source, url_of(copy))
    assert len(samples(copy)) == 2
