"""A meter that was replaced: one history, nothing booked across, told at once or a day later."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from meterd.daemon.counter_recount import recount
from meterd.daemon.counter_state import CounterState
from meterd.daemon.energy_queries import EnergyQueries
from meterd.daemon.replacing import Replaced, replace_meter
from meterd.errors import MeterdError
from meterd.model.sample import Layout, Poll
from meterd.poll.counters import Counters
from meterd.store.db.replacements import Replacement
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.store.rigs import store

IMPORT = "active_energy.import"
LAYOUT = Layout.of([(IMPORT, "Wh"), ("device.up", "1")])
MINUTE = 60_000
DAY = 1440 * MINUTE
# Wh: a live guard counts from the third read of a meter on.
NEAR = 70
START = 1_700_006_400_000 // DAY * DAY
NOON = START + DAY // 2


class Meter:
    """Polled each minute by the daemon's own path: 1 kW, so 1,000 Wh an hour."""

    def __init__(self, writer: Writer, memory: CounterState) -> None:
        self.writer = writer
        self.counters = Counters("main")
        memory.add("main", self.counters)

    def poll(self, time: int, count: float) -> None:
        poll = Poll("main", time, LAYOUT, (count, 1.0))
        self.writer.take(self.counters.step(poll, now=time / 1000)[0])

    def run(self, start: int, end: int, count: float) -> float:
        """What it shows at the end."""
        for time in range(start, end, MINUTE):
            self.poll(time, count)
            count += 1000 / 60
        return count


async def day(reader: Reader, start: int = START) -> float:
    """What was consumed in it, in Wh."""
    found, _ = await EnergyQueries(lambda: reader, lambda _: 60.0).quarters(
        "main", IMPORT, start, start + DAY
    )
    return sum(one.increase for one in found) / 1000


async def told(
    writer: Writer, reader: Reader, memory: CounterState, at: int, *, undo: bool = False
) -> Replaced:
    one = Replacement(at, START + 2 * DAY, "anna")
    return await replace_meter(writer, reader, memory, "main", one, still=nullcontext(), undo=undo)


@pytest.mark.parametrize("new", [0.0, 5_003_000.0, 4_999_000.0])
async def test_told_a_day_later(tmp_path: Path, new: float) -> None:
    """Out for an hour at noon; the next meter shows less, or more, as if an hour had counted it."""
    async with store(tmp_path / "meterd.db") as (writer, reader):
        memory = CounterState()
        meter = Meter(writer, memory)
        meter.run(START, NOON, 4_988_000.0)
        count = meter.run(NOON + 60 * MINUTE, START + 2 * DAY, new)
        await writer.flush()
        await told(writer, reader, memory, NOON + 10 * MINUTE)
        # Both counted, but for the hour out and the minute before it.
        assert await day(reader) == pytest.approx(24_000 - 1000 - 1000 / 60, abs=NEAR)
        assert await day(reader, START + DAY) == pytest.approx(24_000, abs=NEAR)
        # Live polls go on from there.
        meter.run(START + 2 * DAY, START + 3 * DAY, count)
        await writer.flush()
        assert await day(reader, START + 2 * DAY) == pytest.approx(24_000, abs=NEAR)
        # And whoever counts anew later begins a segment there, too.
        await recount(writer, reader, "main", START, START + 3 * DAY)
        assert await day(reader) == pytest.approx(24_000 - 1000 - 1000 / 60, abs=1)


async def test_undone_it_is_as_before(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        memory = CounterState()
        meter = Meter(writer, memory)
        meter.run(START, NOON, 4_988_000.0)
        meter.run(NOON + 60 * MINUTE, START + 2 * DAY, 5_003_000.0)
        await writer.flush()
        before = await day(reader)
        assert before == pytest.approx(24_000 + 2000, abs=NEAR)
        assert (await told(writer, reader, memory, NOON)).written > 600
        assert await day(reader) < before - 2000
        await told(writer, reader, memory, NOON, undo=True)
        assert await day(reader) == before


async def test_told_at_once_before_the_new_meter_is_read(tmp_path: Path) -> None:
    """The next read begins a segment, in memory and after a restart."""
    async with store(tmp_path / "meterd.db") as (writer, reader):
        memory = CounterState()
        meter = Meter(writer, memory)
        meter.run(START, NOON, 4_988_000.0)
        await told(writer, reader, memory, NOON + MINUTE)
        meter.run(NOON + 5 * MINUTE, START + DAY, 5_000_050.0)
        await writer.flush()
        assert await day(reader) == pytest.approx(24_000 - 6 * 1000 / 60, abs=NEAR)


async def test_told_while_no_daemon_runs(tmp_path: Path) -> None:
    """What the next start recalls stands where the recount ended."""
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        memory = CounterState()
        meter = Meter(writer, memory)
        meter.run(START, NOON, 4_988_000.0)
        count = meter.run(NOON + 60 * MINUTE, START + DAY, 5_003_000.0)
        memory.save(writer)
    async with store(path) as (writer, reader):
        await told(writer, reader, CounterState(), NOON + 10 * MINUTE)
    async with store(path) as (writer, reader):
        memory = CounterState()
        meter = Meter(writer, memory)
        meter.counters = Counters("main", state=CounterState().state("main", writer))
        meter.run(START + DAY, START + 2 * DAY, count)
        await writer.flush()
        assert await day(reader) == pytest.approx(23_000, abs=NEAR)
        assert await day(reader, START + DAY) == pytest.approx(24_000, abs=NEAR)


async def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        memory = CounterState()
        with pytest.raises(MeterdError, match="no device main"):
            await told(writer, reader, memory, NOON)
        Meter(writer, memory).run(NOON, NOON + 10 * MINUTE, 1000.0)
        with pytest.raises(MeterdError, match="nothing to separate"):
            await told(writer, reader, memory, START)
        with pytest.raises(MeterdError, match="was not replaced at that time"):
            await told(writer, reader, memory, START, undo=True)
