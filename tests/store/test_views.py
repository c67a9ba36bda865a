"""docs/sql.md is right: its questions run, and the views say what the reader says."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import meterd
from meterd.store.db import plain_rows, store_url, views

from .rigs import Hands, rows, store
from .test_hours import DAY, HOUR, START, feed, history

PAGE = (Path(meterd.__file__).parent.parent / "docs" / "sql.md").read_text("utf-8")
QUESTIONS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


async def filled(path: Path, hours: float = 50, **options: object) -> None:
    hands = Hands(START)
    async with store(path, clock=hands, **options) as (writer, _):
        await feed(writer, hands, history(1, START, hours))
        await writer.settle()


async def test_every_question_of_the_page_has_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, rows=86_400.0 * 365)
    assert len(QUESTIONS) == 7
    for question in QUESTIONS:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            found = connection.execute(question).fetchall()
        assert found or "correction" in question, question


def test_every_view_and_column_is_told() -> None:
    for name in views.NAMES:
        assert f"`{name}`" in PAGE
    for word in ("min", "mean", "max", "increase", "n", "time_ms", "quality", "reason"):
        assert f"`{word}`" in PAGE


async def test_hours_and_days_are_what_the_reader_says(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(2, START, 50))
        await writer.settle()
        for view, step in (("v_hourly", HOUR), ("v_daily", DAY)):
            for column, agg in (("max", "max"), ("n", "count"), ("mean", "avg")):
                (told,) = await reader.range(
                    ["main"], ["active_power"], START, START + 2 * DAY, step, agg
                )
                question = (
                    f"SELECT time_ms, {column} FROM {view} WHERE quantity = 'active_power' "
                    f"AND time_ms < {START + 2 * DAY} ORDER BY time_ms"
                )
                assert rows(path, question) == [(time, pytest.approx(v)) for time, v in told.points]
        quarters = reader.quarters(("main", "active_energy.import", "Wh"), START, START + 2 * DAY)
    rise = sum(one.increase or 0 for one in quarters.values()) / 1000
    for view in ("v_hourly", "v_daily"):
        question = (
            f"SELECT sum(increase) FROM {view} WHERE quantity = 'active_energy.import' "
            f"AND time_ms < {START + 2 * DAY}"
        )
        assert rows(path, question)[0][0] == pytest.approx(rise)


async def test_times_are_utc_in_words(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path)
    assert rows(path, "SELECT min(time), min(time_ms) FROM v_hourly") == [
        ("2023-12-09T00:00:00.000Z", START)
    ]
    assert rows(path, "SELECT DISTINCT day FROM v_daily ORDER BY day LIMIT 1") == [("2023-12-09",)]
    assert rows(path, "SELECT first_time FROM v_series LIMIT 1") == [("2023-12-09T00:00:00.000Z",)]


async def test_plain_rows_are_kept_for_as_long_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands, rows=6 * 3600.0) as (writer, _):
        await feed(writer, hands, history(1, START, 30))
        hands.elapsed += 30 * 3600
        await writer.settle()
    edge = START + 30 * HOUR - 10_000 - 6 * HOUR
    ((oldest, newest, count),) = rows(
        path, "SELECT min(time_ms), max(time_ms), count(*) FROM v_sample"
    )
    assert (oldest, newest) == (edge, START + 30 * HOUR - 10_000)
    polls = [one for one in history(1, START, 30) if one.time >= edge]
    assert count == sum(len(one.values) for one in polls)
    nulls = rows(path, "SELECT DISTINCT quality, reason FROM v_sample WHERE value IS NULL")
    assert nulls == [("invalid", "not available")]


async def test_without_being_asked_for_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 3)
    assert rows(path, "SELECT count(*) FROM v_sample") == [(0,)]


async def test_old_rows_go_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 2, rows=86_400.0)
    (before,) = rows(path, "SELECT count(*) FROM sample")[0]
    opened = store_url.find(f"sqlite:///{path}").writing()
    try:
        with opened.begin() as connection:
            assert plain_rows.forget(connection, START + HOUR, 100)
        (after,) = rows(path, "SELECT count(*) FROM sample")[0]
        assert isinstance(before, int)
        assert isinstance(after, int)
        assert 100 <= before - after < 110
        for _ in range(100):
            with opened.begin() as connection:
                if not plain_rows.forget(connection, START + HOUR, 100):
                    break
    finally:
        opened.close()
    assert rows(path, "SELECT min(time) FROM sample") == [(START + HOUR,)]
