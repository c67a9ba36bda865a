"""Guarded totals and energy follow corrections of their counters, and return with their undoing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meterd.daemon.corrected_totals import following
from meterd.daemon.counter_state import CounterState
from meterd.model.sample import Layout, Poll
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.tools import check
from meterd.store.tools.correct import Ask, Corrections
from meterd.store.writer import Writer
from tests.store.rigs import Hands, store, url_of
from tests.store.test_hours import DAY, HOUR, START
from tests.store.tools.test_correct_undo import contents

ENERGY = "active_energy.import"
GUARDED = f"guarded.{ENERGY}"
LAYOUT = Layout.of([("active_power", "W"), (ENERGY, "Wh")])
MINUTE = 60_000


def readings(days: float, wrong: dict[int, float]) -> list[Poll]:
    """1 kW, read every 5 minutes; some readings are wrong, by their number."""
    return [
        Poll("main", START + n * 5 * MINUTE, LAYOUT, (1000.0, wrong.get(n, n * 1000 / 12)))
        for n in range(int(days * 288))
    ]


async def rise(reader: Reader, start: int, end: int) -> float:
    """Of the guarded total, from the last reading before to the last one within."""
    found = await reader.range(["main"], [GUARDED], 0, 1 << 50, 0, "avg")
    points = [(time, value) for one in found for time, value in one.points]
    first = max((time, value) for time, value in points if time <= start)
    last = max((time, value) for time, value in points if time <= end)
    return last[1] - first[1]


async def test_a_right_value_of_a_counter_changes_its_energy_and_comes_back(tmp_path: Path) -> None:
    path, hands = tmp_path / "meterd.db", Hands(START)
    # The readings of the last hour are 2 kWh too high.
    wrong = {n: n * 1000 / 12 + 2000 for n in range(852, 864)}
    async with store(path, clock=hands) as (writer, reader):
        for one in readings(3, wrong):
            writer.take(one)
            hands.now = one.time
        await writer.flush()
        recount = following(writer, reader)
        await recount("main", ENERGY, START, hands.now)
        before, was = contents(path), await rise(reader, START + DAY, START + 3 * DAY)
        assert was == pytest.approx(863 * 1000 / 12 - 24_000 + 2000)
        corrections = Corrections(writer, reader, recount)
        start, end = START + 71 * HOUR, START + 72 * HOUR - 1
        made = await corrections.mark(
            Ask("main", ENERGY, start, end, "misread", "anna", 71.0, "kWh"), hands.now
        )
        assert (made.n, made.state) == (12, "set")
        assert await rise(reader, START + DAY, START + 3 * DAY) == pytest.approx(47_000)
        await corrections.undo(made.id, "anna", hands.now)
        assert await rise(reader, START + DAY, START + 3 * DAY) == was
        assert contents(path) == before
    assert list(check.problems(store_url.find(url_of(path)))) == []


async def test_marked_readings_of_a_counter_are_none(tmp_path: Path) -> None:
    path, hands = tmp_path / "meterd.db", Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        for one in readings(2, {n: n * 1000 / 12 + 7000 for n in range(100, 600)}):
            writer.take(one)
            hands.now = one.time
        await writer.flush()
        recount = following(writer, reader)
        await recount("main", ENERGY, START, hands.now)
        before = contents(path)
        corrections = Corrections(writer, reader, recount)
        made = await corrections.mark(
            Ask("main", ENERGY, START + 8 * HOUR, START + 9 * HOUR, "jump", "anna"), hands.now
        )
        found = await asyncio.to_thread(reader.day, "main", START // DAY, {("main", GUARDED, "Wh")})
        assert found is not None
        (column,) = found.chunk.columns
        times = found.chunk.times_of(column)
        marked = [t for t in times if START + 8 * HOUR <= t < START + 9 * HOUR]
        assert len(marked) == 12
        assert contents(path) != before
        await corrections.undo(made.id, "anna", hands.now)
        assert contents(path) == before


async def test_live_polls_go_on_from_the_corrected_total(tmp_path: Path) -> None:
    hands, memory = Hands(START), CounterState()
    wrong = {n: n * 1000 / 12 + 2000 for n in range(276, 288)}
    asked: list[str] = []

    @asynccontextmanager
    async def still(device: str) -> AsyncIterator[None]:
        asked.append(device)
        yield

    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        for one in readings(1, wrong):
            writer.take(one)
            hands.now = one.time
        await writer.flush()
        recount = following(writer, reader, memory, still=still)
        await recount("main", ENERGY, START, hands.now)
        assert total(memory, writer) == pytest.approx(287 * 1000 / 12 + 2000)
        corrections = Corrections(writer, reader, recount)
        window = START + 23 * HOUR, START + DAY
        asked.clear()
        made = await corrections.mark(Ask("main", ENERGY, *window, "x", "me", 23_000.0), hands.now)
        assert total(memory, writer) == pytest.approx(23_000)
        assert asked == ["main"]
        await corrections.undo(made.id, "me", hands.now)
        assert total(memory, writer) == pytest.approx(287 * 1000 / 12 + 2000)


def total(memory: CounterState, writer: Writer) -> float | None:
    state = memory.state("main", writer)
    return None if state is None else state.guards[ENERGY].total
