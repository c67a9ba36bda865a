"""A counter's stored reads through the guard: what a person expects of each trouble."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from meterd.model.event import EventKind
from meterd.poll.counter_replay import WRAPS, CounterReplay, CounterTerms, Raw, Total
from meterd.poll.guard_state import GuardState

START = 1_770_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TERMS = CounterTerms(wraps=WRAPS)


def folded(
    reads: Sequence[tuple[int, float | None]],
    terms: CounterTerms = TERMS,
    swaps: Sequence[int] = (),
) -> tuple[list[Total], CounterReplay]:
    fold = CounterReplay(terms, swaps=swaps)
    found = [total for time, value in reads for total in fold.take(Raw(time, value))]
    found += fold.end()
    return sorted(found), fold


def steady(step: int, count: int, first: float = 5e6, power: float = 1000.0) -> list[float]:
    """A register in Wh, to a tenth, every `step` ms."""
    return [round(first + power * number * step / HOUR, 1) for number in range(count)]


def timed(values: Sequence[float], step: int) -> list[tuple[int, float | None]]:
    return [(START + number * step, value) for number, value in enumerate(values)]


def risen(totals: Sequence[Total]) -> float:
    """What energy makes of them: never less than what was, and falls count as no rise."""
    known = [total.value for total in totals if total.value is not None]
    rises = [max(0.0, b - a) for a, b in pairwise(known)]
    return round(sum(rises), 3)


def at(place: int, change: Callable[[float], float], reads: int = 1) -> Callable[..., list[float]]:
    def spoilt(values: list[float]) -> list[float]:
        there = range(place, place + reads)
        return [change(one) if n in there else one for n, one in enumerate(values)]

    return spoilt


def shifted(place: int, change: Callable[[float], float]) -> Callable[..., list[float]]:
    """From there on."""

    def spoilt(values: list[float]) -> list[float]:
        by = change(values[place]) - values[place]
        return [round(one + by, 3) if n >= place else one for n, one in enumerate(values)]

    return spoilt


# What is done to a register at 1 kW, and how many of its steps' energy are not known then.
TROUBLES: dict[str, tuple[Callable[[list[float]], list[float]], int, EventKind | None]] = {
    "nothing": (lambda values: values, 0, None),
    "a zero": (at(30, lambda _: 0.0), 0, EventKind.GLITCH),
    "two zeros": (at(30, lambda _: 0.0, 2), 0, EventKind.GLITCH),
    "five zeros": (at(30, lambda _: 0.0, 5), 0, EventKind.GLITCH),
    "a spike by 900 kWh": (at(30, lambda value: value + 900e3), 0, EventKind.GLITCH),
    "a spike by 20 kWh": (at(30, lambda value: value + 20e3), 0, EventKind.GLITCH),
    "a spike to the largest of 32 bits": (at(30, lambda _: 4294967295.0), 0, EventKind.GLITCH),
    "two spikes": (at(30, lambda value: value + 100e3, 2), 0, EventKind.GLITCH),
    "a dip by 50 kWh": (at(30, lambda value: value - 50e3), 0, EventKind.GLITCH),
    "a dip of six reads": (at(30, lambda value: value - 50e3, 6), 0, EventKind.GLITCH),
    "a zero at first": (at(0, lambda _: 0.0), 1, None),
    "a spike at last": (at(95, lambda value: value + 900e3), 1, None),
    "a zero at last": (at(95, lambda _: 0.0), 1, None),
    "another meter, higher": (shifted(40, lambda value: value + 7e6), 1, EventKind.RESET),
    "another meter, lower": (shifted(40, lambda _: 1.2e6), 1, EventKind.RESET),
    "a new meter": (shifted(40, lambda _: 0.0), 1, EventKind.RESET),
    "its last digit dithers": (
        lambda values: [one - (n % 2) * 0.1 for n, one in enumerate(values)],
        0,
        None,
    ),
}


@pytest.mark.parametrize("step", [10_000, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR])
@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_of_a_register_at_a_kilowatt(name: str, step: int) -> None:
    spoil, unknown, kind = TROUBLES[name]
    totals, fold = folded(timed(spoil(steady(step, 96)), step))
    energy = risen(totals)
    expected = 95 * step / 3600
    assert expected - unknown * step / 3600 - 0.2 <= energy <= expected + 0.2
    kinds = {one.kind for one in fold.happened}
    assert kinds == ({kind} if kind is not None else kinds)


QUARTER = 91 * DAY
SPARSE: dict[str, tuple[int, list[float], float, list[EventKind]]] = {
    "quarterly": (QUARTER, [1000, 2000, 3100, 4000, 5000], 4000, []),
    "two yearly readings": (365 * DAY, [1000, 5000], 4000, []),
    "a new meter from 0 on": (QUARTER, [0, 1000, 2000, 3000], 3000, []),
    "one reading": (DAY, [1000], 0, []),
    "daily": (DAY, [1000, 1024, 1048, 1072], 72, []),
    "quarterly, a zero": (QUARTER, [1000, 2000, 0, 4000, 5000], 4000, [EventKind.GLITCH]),
    "quarterly, a digit too many": (
        QUARTER,
        [1000, 2000, 31_000, 4000, 5000, 6000],
        5000,
        [EventKind.GLITCH],
    ),
    "quarterly, reset": (QUARTER, [4000, 5000, 300, 1300, 2300], 3300, [EventKind.RESET]),
    "monthly, rollover": (
        30 * DAY,
        [99_000, 99_500, 99_900, 400, 900, 1300],
        2300,
        [EventKind.ROLLOVER],
    ),
    "daily, another meter": (
        DAY,
        [*(5000 + 24 * n for n in range(10)), *(12_000 + 24 * n for n in range(10))],
        18 * 24,
        [EventKind.RESET],
    ),
}


@pytest.mark.parametrize("name", SPARSE)
def test_what_is_read_once_a_day_to_once_a_year(name: str) -> None:
    step, values, expected, kinds = SPARSE[name]
    totals, fold = folded(timed([1000.0 * one for one in values], step))
    assert risen(totals) == 1000 * expected
    assert [one.kind for one in fold.happened] == kinds


def test_a_rise_over_a_hole_counts_however_long_it_is() -> None:
    values = steady(15 * MINUTE, 20)
    reads = [*timed(values, 15 * MINUTE)]
    reads += [(time + 58 * DAY, float(value or 0) + 58 * 24e3) for time, value in reads]
    totals, fold = folded(reads)
    assert risen(totals) == pytest.approx(58 * 24e3 + 4750)
    assert fold.happened == []


def test_what_somebody_says_can_flow_is_the_limit() -> None:
    values = [*steady(15 * MINUTE, 20), *steady(15 * MINUTE, 20, 5e6 + 700e3)]
    told = CounterTerms(max_power=5e6, is_given=True)
    assert risen(folded(timed(values, 15 * MINUTE), told)[0]) == pytest.approx(700e3 + 4750)
    told = CounterTerms(max_power=50e3, is_given=True)
    totals, fold = folded(timed(values, 15 * MINUTE), told)
    assert risen(totals) == pytest.approx(38 * 250)
    assert [one.kind for one in fold.happened] == [EventKind.RESET]


def test_nothing_is_booked_across_a_swap() -> None:
    values = [*steady(HOUR, 20), *steady(HOUR, 20, 5e6 + 30e3)]
    totals, fold = folded(timed(values, HOUR), swaps=[START + 20 * HOUR - 1])
    assert risen(totals) == 38 * 1000
    assert [one.kind for one in fold.happened] == [EventKind.SWAP]
    assert all(total.value is not None for total in totals)


def test_what_is_no_value_has_no_total_and_a_reason() -> None:
    reads = timed([1000.0, -5.0, float("inf"), 1000.5, 1001.0], HOUR)
    reads.insert(1, (START + 1, None))
    totals, _ = folded(reads)
    assert [total.value for total in totals] == [1000.0, None, None, None, 1000.5, 1001.0]
    assert "no value that a counter can have" in totals[2].doubt.reason


def test_live_polls_go_on_where_the_history_ends() -> None:
    _, fold = folded(timed([*steady(HOUR, 20), 50.0, 1050.0, 2050.0, 3050.0], HOUR))
    state = fold.state()
    assert isinstance(state, GuardState)
    assert (state.raw, state.total) == (3050.0, 5e6 + 19_000 + 3050)
    assert state.time == START + 23 * HOUR
