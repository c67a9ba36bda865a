"""Totals counted anew: any order and any split of the same reads gives the same, bit for bit."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.daemon.counter_recount import Cell, CounterHistory, Work, unknown_terms
from meterd.model.sample import Quality, QualityFlag
from meterd.poll.counter_replay import CounterReplay, Raw, Total
from meterd.store.blocks.slicing import DAY

Q = "active_energy.import"
START = 20_000 * DAY
NULL = QualityFlag(Quality.INVALID, "imported empty")


class Shelf(CounterHistory):
    """Reads and totals in memory."""

    def __init__(self) -> None:
        self.reads: dict[int, Raw] = {}
        self.by_day: dict[int, set[int]] = {}
        self.totals: dict[int, Total] = {}
        self.looked = 0

    def days(self) -> list[int]:
        return sorted(self.by_day)

    def begins_later(self, quantity: str, first: int) -> bool:
        return False

    def cells(self, day: int) -> dict[str, list[Cell]]:
        times = sorted(self.by_day[day])
        self.looked += len(times)
        return {Q: [Cell(self.reads[time], self.totals.get(time)) for time in times]}

    def put(self, reads: Sequence[Raw]) -> int:
        """As an import does; how many totals changed."""
        for read in reads:
            self.reads[read.time] = read
            self.by_day.setdefault(read.time // DAY, set()).add(read.time)
        times = [read.time for read in reads]
        return self.recount(min(times), max(times))

    def recount(self, since: int, until: int) -> int:
        work = Work(self, [(Q, "Wh")], since, until, unknown_terms, ())
        work.begin()
        is_all, written = False, 0
        while not is_all:
            found, is_all = work.go_on()
            self.totals.update((time, one[Q]) for time, one in found.items())
            written += len(found)
        return written


def folded(reads: Sequence[Raw]) -> dict[int, Total]:
    """All of them at once."""
    fold = CounterReplay(unknown_terms(Q, "Wh"))
    found = [total for read in sorted(reads) for total in fold.take(read)]
    return {total.time: total for total in (*found, *fold.end())}


def history(dice: random.Random, size: int) -> list[Raw]:
    """A register under trouble: zeros, spikes, dips, swaps, resets, nulls, holes, rest."""
    step = dice.choice([10_000, 60_000, 900_000, 3_600_000, DAY, 90 * DAY])
    power = dice.choice([0.0, 300.0, 1000.0, 50_000.0])
    digits = dice.choice([-2, 0, 1, 3])
    trouble = dice.choice([0.0, 0.02, 0.1, 0.4])
    time, value, reads = START, dice.choice([0.0, 50.0, 5e6, 99_999_000.0]), list[Raw]()
    for _ in range(size):
        wide = dice.random() < 0.02
        pause = max(1, step * (dice.randint(2, 400) if wide else 1) + dice.randint(-50, 50))
        time += pause
        value += power * pause / 3_600_000 * dice.choice([0, 0.5, 1, 1, 2])
        if dice.random() < trouble:
            shown, value = trouble_of(dice, value)
            reads.append(
                Raw(time, None, NULL) if shown is None else Raw(time, round(shown, digits))
            )
        else:
            reads.append(Raw(time, round(value, digits)))
    return reads


def trouble_of(dice: random.Random, value: float) -> tuple[float | None, float]:
    """What is read, and what the register is from then on."""
    return dice.choice(
        [
            (0.0, value),
            (None, value),
            (value * dice.choice([1.001, 1.5, 100]), value),
            (value - dice.choice([0.1, 100, 50_000]), value),
            (value + dice.choice([-100, 100]), value),
            (value + 7e6, value + 7e6),
            (0.0, 0.0),
            (120.0, 120.0),
            (value * 0.7, value * 0.7),
        ]
    )


@pytest.mark.parametrize("way", ["forward", "backward", "shuffled", "one by one"])
@given(seed=st.integers(0, 10**9))
@settings(max_examples=150, deadline=None)
def test_any_order_and_any_split_gives_the_same_totals(way: str, seed: int) -> None:
    dice = random.Random(seed)
    reads = history(dice, dice.choice([3, 10, 40, 150, 400]))
    shelf, rest = Shelf(), list(reads)
    parts: list[list[Raw]] = []
    if way == "shuffled":
        dice.shuffle(rest)
    while rest:
        count = 1 if way == "one by one" and len(reads) < 60 else dice.randint(1, len(rest))
        parts.append(rest[:count])
        rest = rest[count:]
    if way == "backward":
        parts.reverse()
    for part in parts:
        shelf.put(part)
    assert shelf.totals == folded(reads)
