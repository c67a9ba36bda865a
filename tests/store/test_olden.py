"""Stores of every schema that was ever released, dumped as their own meterd left them."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meterd.store import chores
from meterd.store.writer import Writer

from .rigs import Hands, poll, raw, rows, samples, store, url_of

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.sql"))
START = 1_699_999_200_000  # two hours before midnight UTC
Sample = tuple[int, str, float | None]


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "meterd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(request.param.read_text("utf-8"))
    return path


def told(path: Path) -> list[Sample]:
    """What an old store's plain rows say."""
    question = "SELECT time, quantity, value FROM sample JOIN series ON series.id = series"
    return sorted((int(str(t)), str(q), v) for t, q, v in rows(path, question))  # type: ignore[misc]


def count(path: Path) -> int:
    return int(str(rows(path, "SELECT count(*) FROM sample")[0][0]))


def test_every_schema_before_the_blocks_has_its_fixture() -> None:
    assert [path.stem for path in FIXTURES] == ["0001", "0002"]


async def test_an_old_store_keeps_its_history(old: Path) -> None:
    expected = told(old)
    assert len(expected) == 240 * 4 + 48 * 2
    hands = Hands(START + 5 * 3_600_000)
    async with store(old, clock=hands) as (writer, reader):
        await writer.settle()
        assert len(await raw(reader)) == 235  # five nulls are no points
        assert await reader.range(["ups"], ["battery.charge"], 0, 1 << 50, 0, "avg")
        found = await reader.range(["main"], ["active_energy.import"], 0, 1 << 50, 3_600_000, "max")
        assert [value for _, value in found[0].points] == [1737.5, 2487.5, 3237.5, 3987.5]
        hands.now += 80 * 3_600_000
        await writer.settle()
    assert samples(old) == expected
    assert rows(old, "SELECT count(*) FROM sample") == [(0,)]
    # The counter rose by 12.5 Wh a minute, across midnight and into closed days.
    question = "SELECT sum(increase) FROM rollup WHERE series_id = 3"
    assert rows(old, question) == [(239 * 12.5,)]


async def test_what_was_remembered_and_the_names_stay(old: Path) -> None:
    question = "SELECT id, device_id, quantity, unit, kind FROM series ORDER BY id"
    names, ((schema,),) = rows(old, question), rows(old, "SELECT * FROM alembic_version")
    async with store(old) as (writer, _):
        remembered = writer.recall("counters main")
    assert remembered == (None if schema == "0001" else "where they stood")
    assert rows(old, question) == names


async def test_the_store_is_copied_before_its_schema_changes(old: Path) -> None:
    expected = told(old)
    schema = rows(old, "SELECT version_num FROM alembic_version")[0][0]
    async with store(old):
        pass
    copy = old.with_name(f"meterd.db.schema-{schema}")
    assert rows(copy, "SELECT version_num FROM alembic_version") == [(schema,)]
    assert told(copy) == expected


async def test_moving_goes_on_where_it_was_cut_short(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = told(old)
    monkeypatch.setattr(chores, "_PAUSE", 1e9)  # seconds: one hour's rows a start
    left = [len(expected)]
    for _ in range(6):
        writer = Writer(url_of(old), commit=1e9, clock=Hands(START + 5 * 3_600_000))
        await writer.open()
        while left[-1] and count(old) == left[-1]:
            await asyncio.sleep(0.01)
        await writer.close()
        left.append(count(old))
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == 5
    assert left[-1] == 0
    assert samples(old) == expected


async def test_new_polls_and_old_rows_meet_in_one_history(old: Path) -> None:
    expected = told(old)
    last = max(time for time, _, _ in expected)
    hands = Hands(last + 60_000)
    async with store(old, clock=hands) as (writer, reader):
        for step in range(1, 400):
            writer.take(poll(last + step * 10_000, 231.0))
        hands.now = last + 3 * 3_600_000
        await writer.settle()
        points = await raw(reader)
    assert len(points) == 235 + 399
    assert points == sorted(points)
    assert len(samples(old)) == len(expected) + 399


async def test_plain_rows_that_are_wanted_are_not_moved_away(old: Path) -> None:
    expected = told(old)
    hands = Hands(START + 5 * 3_600_000)
    async with store(old, clock=hands, rows=30 * 86_400.0) as (writer, _):
        await writer.settle()
    assert told(old) == expected
    assert samples(old) == expected
