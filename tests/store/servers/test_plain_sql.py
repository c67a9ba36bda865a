"""Views, plain rows, moves and corrections on servers, as people's SQL clients see them."""

import re
from pathlib import Path

import pytest

import meterd
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.tools import check, overview
from meterd.store.tools.correct import Ask, Corrections
from meterd.store.tools.move import move
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, Hands, opened, url_of
from tests.store.test_hours import DAY, HOUR, START, alike, answers, feed, history

from .engines import Engine

PAGE = (Path(meterd.__file__).parent.parent / "docs" / "sql.md").read_text("utf-8")
QUESTIONS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


async def test_the_pages_questions_have_the_answers_of_sqlite(
    single: Engine, tmp_path: Path
) -> None:
    (url, *_), path = single.urls("plain"), tmp_path / "meterd.db"
    hands = Hands(START)
    for place in (url, url_of(path)):
        hands.now = START
        writer = Writer(place, commit=NEVER, clock=hands, rows=86_400.0 * 365)
        async with opened(writer):
            await feed(writer, hands, history(1, START, 30))
            await writer.settle()
    assert len(QUESTIONS) == 7
    for question in QUESTIONS:
        own = question.replace(") / 86400000", ") DIV 86400000")
        found = single.ask(question if single.kind == "postgresql" else own, "plain")
        with store_url.find(url_of(path)).reading() as connection:
            expected = connection.exec_driver_sql(question).fetchall()
        assert len(found) == len(expected), question
    daily = "SELECT device, time_ms, n, mean, increase FROM v_daily ORDER BY quantity"
    with store_url.find(url_of(path)).reading() as connection:
        expected = connection.exec_driver_sql(daily).fetchall()
    for row, other in zip(single.ask(daily, "plain"), expected, strict=True):
        assert tuple(row[:3]) == tuple(other[:3])
        assert row[3] == pytest.approx(other[3])
        assert row[4] == (None if other[4] is None else pytest.approx(other[4]))
    ((time,),) = single.ask("SELECT min(time) FROM v_hourly", "plain")
    assert time.strftime("%Y-%m-%dT%H:%M:%S") == "2023-12-09T00:00:00"


async def test_a_store_moves_to_a_server_and_back(single: Engine, tmp_path: Path) -> None:
    (url, *_), path, back = single.urls("moved"), tmp_path / "a.db", tmp_path / "b.db"
    hands = Hands(START)
    async with opened(Writer(url_of(path), commit=NEVER, clock=hands)) as writer:
        await feed(writer, hands, history(2, START, 50))
        await writer.settle()
        reader = Reader(url_of(path), writer.memory)
        expected = await answers(reader, START, START + 50 * HOUR)
        reader.close()
        first = move(store_url.find(url_of(path)), url)
        assert first.sent == sum(first.rows.values())
        assert move(store_url.find(url_of(path)), url).sent == 0
        await feed(writer, hands, history(3, START + 3 * DAY, 2, energy=90_000.0))
        await writer.settle()
        assert 0 < move(store_url.find(url_of(path)), url).sent < first.sent
    server_side = store_url.find(url)
    assert list(check.problems(server_side)) == []
    assert overview.info(server_side).samples == overview.info(store_url.find(url_of(path))).samples
    outside = Reader.outside(url)
    alike(await answers(outside, START, START + 50 * HOUR), expected)
    outside.close()
    move(server_side, url_of(back))
    outside = Reader.outside(url_of(back))
    alike(await answers(outside, START, START + 50 * HOUR), expected)
    outside.close()


async def test_corrections_work_on_a_server(single: Engine) -> None:
    (url, *_) = single.urls("corrected")
    hands = Hands(START)
    async with opened(Writer(url, commit=NEVER, clock=hands)) as writer:
        reader = Reader(url, writer.memory)
        await feed(writer, hands, history(4, START, 30))
        await writer.settle()
        corrections = Corrections(writer, reader)
        asked = Ask("main", "active_power", START + HOUR, START + 2 * HOUR, "clamp", "anna")
        made = await corrections.mark(asked, hands.now)
        assert made.n == 360
        (told,) = await reader.range(["main"], ["active_power"], START, START + DAY, DAY, "count")
        assert told.points == [(START, 23 * 360)]
        await corrections.undo(made.id, "anna", hands.now)
        (told,) = await reader.range(["main"], ["active_power"], START, START + DAY, DAY, "count")
        assert told.points == [(START, 24 * 360)]
        reader.close()
    assert single.ask("SELECT who, why, n FROM correction", "corrected") == [("anna", "clamp", 360)]
