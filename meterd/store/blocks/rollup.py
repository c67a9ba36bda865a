"""Quarter hours: what 15 minutes of a series come to.

A quarter is [t, t + 15 min) and is known by its number since 1970. `increase` is the difference
of the counter's readings at both ends, so those of neighbours add up exactly. How a day of them
is packed: rollup_codec.py.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import fsum, isnan, nan
from typing import NamedTuple, TypeAlias

from meterd.store.blocks.counter_increase import CounterIncrease, Power

QUARTER_MS = 900_000
QUARTERS = 96  # of a UTC day
ALIGNMENT_MS = 1_800_000
"""A sample exactly at a multiple of it is kept apart, so that windows may leave out their start."""
_DIGITS = 6  # meterd's values have no more
# Rounding a sum may undo the error of binary fractions, and change nothing else.
_TIDY = 1e-12

Point = tuple[int, float]


class AlignedSample(NamedTuple):
    """The sample exactly at the start of a quarter hour, and what the others come to.

    Without others, `min` and `max` are NaN and `sum` is 0.
    """

    value: float
    min: float
    max: float
    sum: float


@dataclass(frozen=True, slots=True)
class QuarterRollup:
    """`n` values, none of them null; where `n` is 0, `min` and `max` are NaN and `sum` is 0.

    `increase` is in thousandths of the unit, None for what does not count. It is `estimated`
    where it was interpolated over a hole. `covered` of its ms lie between two readings of the
    counter: fewer than all in the quarters of its first and its last one. `aligned` is None where
    no sample stands at the start, or where that is no multiple of ALIGNMENT_MS. (It may hold NaN,
    which equals nothing, and is not compared.)
    """

    n: int
    min: float
    max: float
    sum: float
    increase: int | None = None
    estimated: bool = False
    covered: int = QUARTER_MS
    aligned: AlignedSample | None = field(default=None, compare=False)


Quarters: TypeAlias = dict[int, QuarterRollup]
"""By their numbers since 1970."""


def fold(
    times: Sequence[int],
    values: Sequence[float],
    *,
    counter: bool,
    before: Point | None = None,
    after: Point | None = None,
    power: Power | None = None,
    within: range | None = None,
    total: bool = False,
) -> dict[int, QuarterRollup]:
    """Quarters by number, ascending, of ascending times (Unix ms) and their values (NaN: null).

    `before` and `after` are the nearest values outside, from which a counter's readings at the
    edges are interpolated; without them it counts from the first value and to the last one.
    A counter has quarters in holes as well, right up to `before` and `after`. `power` helps to
    tell whether it was frozen. `within` cuts the answer to those quarters. A counter that is a
    running `total` never falls: samples by which it does are no part of its rise. A quarter that
    the window cuts in two is not whole: give all of its values.
    """
    # A list is read twice as quickly as an array.
    times, values = _without_nulls(times, list(values))
    quarters = dict(_gauges(times, values))
    if counter:
        rise = CounterIncrease.of(times, values, before, after, power, total=total)
        chunk = _counted(times, before, after)
        if within is not None:
            chunk = range(max(chunk.start, within.start), min(chunk.stop, within.stop))
        empty = QuarterRollup(0, nan, nan, 0.0)
        for number in sorted({*chunk, *quarters}):
            gauge = quarters.pop(number, empty)
            start = number * QUARTER_MS
            increase, guessed = rise.between(start, start + QUARTER_MS)
            quarters[number] = replace(gauge, increase=increase, estimated=guessed)
    if within is not None:
        quarters = {number: quarter for number, quarter in quarters.items() if number in within}
    return quarters


def total(quarters: Iterable[QuarterRollup]) -> QuarterRollup:
    """The sum of several quarters."""
    listed = list(quarters)
    full = [quarter for quarter in listed if quarter.n]
    increases = [quarter.increase for quarter in listed if quarter.increase is not None]
    return QuarterRollup(
        sum(quarter.n for quarter in full),
        min((quarter.min for quarter in full), default=nan),
        max((quarter.max for quarter in full), default=nan),
        tidy_sum([quarter.sum for quarter in full]),
        sum(increases) if increases else None,
        any(quarter.estimated for quarter in listed),
    )


def _without_nulls(
    times: Sequence[int], values: Sequence[float]
) -> tuple[Sequence[int], Sequence[float]]:
    if not isnan(sum(values)):
        return times, values
    pairs = [pair for pair in zip(times, values, strict=True) if not isnan(pair[1])]
    return [time for time, _ in pairs], [value for _, value in pairs]


def _gauges(times: Sequence[int], values: Sequence[float]) -> Iterable[tuple[int, QuarterRollup]]:
    at = 0
    while at < len(times):
        number = times[at] // QUARTER_MS
        end = bisect_left(times, (number + 1) * QUARTER_MS, at)
        mine = values[at:end]
        aligned = None
        if times[at] % ALIGNMENT_MS == 0:
            others = mine[1:]
            aligned = AlignedSample(
                mine[0], min(others, default=nan), max(others, default=nan), tidy_sum(others)
            )
        yield number, QuarterRollup(end - at, min(mine), max(mine), tidy_sum(mine), aligned=aligned)
        at = end


def tidy_sum(values: Sequence[float]) -> float:
    """The sum, rounded to decimals where it only differs by binary rounding: 690.3, not
    690.3000000000001.
    """
    try:
        exact = fsum(values)
    except OverflowError:
        return sum(values)
    rounded = round(exact, _DIGITS)
    return rounded if abs(rounded - exact) <= _TIDY * abs(exact) else exact


def _counted(times: Sequence[int], before: Point | None, after: Point | None) -> range:
    """The quarters for which the counter's readings are known at both ends."""
    starts = [time // QUARTER_MS for time in times[:1]]
    ends = [time // QUARTER_MS + 1 for time in times[-1:]]
    if before is not None:
        starts.append(before[0] // QUARTER_MS + 1)
    if after is not None:
        ends.append(after[0] // QUARTER_MS)
    if not times and (before is None or after is None):
        return range(0)
    return range(min(starts), max(ends))
