"""One truth in a real store: imports in any order and pieces, live polls before, between, after."""

import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from meterd.daemon.counter_state import CounterState
from meterd.daemon.replacing import count_anew
from meterd.model.quantity import GUARDED
from meterd.model.sample import Layout, Poll, Quality
from meterd.poll.counters import Counters
from meterd.store.reader import Reader
from meterd.store.tools.backfill import backfill
from meterd.store.tools.csv_import import ImportedSample
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, opened, url_of

Q = "active_energy.import"
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 20_000 * DAY
ENERGY = Layout.of([(Q, "Wh"), ("device.up", "1")])

Reads = list[tuple[int, float]]


class House:
    """A store, a daemon's memory of counters, and who brings reads."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self.writer = writer
        self.reader = reader
        self.memory = CounterState()

    async def imports(self, reads: Reads) -> None:
        rows = [ImportedSample(t, "main", Q, "Wh", value, Quality.GOOD, "") for t, value in reads]
        await backfill(self.writer, rows, lambda _: None, closing=False)
        times = [time for time, _ in reads]
        await count_anew(
            self.writer,
            self.reader,
            self.memory,
            "main",
            min(times),
            max(times),
            still=nullcontext(),
            is_same=True,
        )

    async def polls(self, reads: Reads) -> None:
        """Live, through the guards of a daemon that goes on where the last one stopped."""
        state = self.memory.state("main", self.writer)
        counters = Counters("main", interval=600.0, state=state)
        self.memory.add("main", counters)
        for time, value in reads:
            poll = Poll("main", time, ENERGY, (value, 1.0), {})
            guarded, _ = counters.step(poll, now=time / 1000)
            self.writer.take(guarded)
        await self.writer.settle()

    def energy(self) -> dict[int, int | None]:
        """By quarter hour, in mWh."""
        name = "main", GUARDED + Q, "Wh"
        found = self.reader.quarters(name, START - DAY, START + 400 * DAY)
        return {number: one.increase for number, one in found.items() if one.increase}

    def total(self) -> int:
        return sum(one or 0 for one in self.energy().values())


async def energy_of(path: Path, parts: list[Reads]) -> dict[int, int | None]:
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        reader = Reader(url_of(path), writer.memory)
        house = House(writer, reader)
        for part in parts:
            await house.imports(part)
        found = house.energy()
        reader.close()
        return found


def register(days: int, step: int, dice: random.Random) -> Reads:
    """Through zeros, spikes, another meter, a reset, holes of hours and of a week."""
    found, time, value = Reads(), START + dice.randint(0, HOUR), 5e6
    while time < START + days * DAY:
        chance = dice.random()
        value += dice.choice([0, 500, 1000, 2000]) * step / HOUR
        shown = value
        if chance < 0.01:
            shown = 0.0
        elif chance < 0.02:
            shown = value + 900e3
        elif chance < 0.025:
            value = shown = value + 7e6
        elif chance < 0.03:
            value = shown = 100.0
        found.append((time, round(shown, 1)))
        time += step * (dice.choice([20, 700]) if dice.random() < 0.005 else 1)
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_and_any_split_gives_the_same_energy(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    reads = register(5, dice.choice([10, 15, 60]) * MINUTE, dice)
    whole = await energy_of(tmp_path / "whole.db", [reads])
    by_day: dict[int, Reads] = {}
    for time, value in reads:
        by_day.setdefault(time // DAY, []).append((time, value))
    days = list(by_day.values())
    dice.shuffle(days)
    assert await energy_of(tmp_path / "days.db", days) == whole
    mixed, parts = list(reads), list[Reads]()
    dice.shuffle(mixed)
    while mixed:
        count = dice.randint(1, len(mixed))
        # What is wrong at first is imported anew, rightly.
        parts += [[(time, value / 2) for time, value in mixed[:3]], mixed[:count]]
        mixed = mixed[count:]
    assert await energy_of(tmp_path / "mixed.db", parts) == whole


STEPS = {
    "before": [("polls", 2, 3), ("imports", 0, 2)],
    "after": [("polls", 0, 1), ("imports", 1, 3)],
    "after, and polls again": [("polls", 0, 1), ("imports", 1, 2), ("polls", 2, 3)],
    "between": [("polls", 0, 1), ("polls", 2, 3), ("imports", 1, 2)],
    "before and after": [("polls", 1, 2), ("imports", 2, 3), ("imports", 0, 1)],
}


@pytest.mark.parametrize("resets", [(), (90,), (90, 200, 350)])
@pytest.mark.parametrize("name", STEPS)
async def test_the_seam_between_imports_and_live_polls(
    tmp_path: Path, name: str, resets: tuple[int, ...]
) -> None:
    """Three days at 1.2 kW, some of them imported: all is counted, once, whatever came first."""
    reads, value = Reads(), 5e6
    for number in range(3 * 144):
        value = 0.0 if number in resets else value + 200.0
        reads.append((START + number * 10 * MINUTE, value))
    async with opened(Writer(url_of(tmp_path / "s.db"), commit=NEVER)) as writer:
        reader = Reader(url_of(tmp_path / "s.db"), writer.memory)
        house = House(writer, reader)
        for way, first, last in STEPS[name]:
            part = reads[first * 144 : last * 144]
            await (house.imports(part) if way == "imports" else house.polls(part))
        # A live guard counts from the third read on that it ever sees.
        begin = 2 if ("polls", 0, 1) in STEPS[name] else 0
        assert house.total() == (3 * 144 - 1 - len(resets) - begin) * 200_000
        # The next live poll goes on there.
        before = house.total()
        time, value = reads[-1]
        await house.polls([(time + 10 * MINUTE, value + 200.0)])
        assert house.total() - before == 200_000
        reader.close()
