"""Joins a counter's days, each folded on its own, to quarter hours without gaps between days.

A day's samples tell what the counter rose by from its first one to its last one. What it rose by
between two days, however many lie between, is on the straight line from the one's last sample to
the other's first one:

    day 1            nobody read it           day 60
    ···············/─────────────────────────/···············
       its quarters   the line's quarters       its quarters

So it does not matter which day was written first, or what was known when a day was rolled up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, nan
from statistics import median_low

from meterd.store.blocks.counter_increase import (
    HOLE_MS,
    Point,
    Power,
    hole_threshold,
    proportion,
    thousandths,
)
from meterd.store.blocks.rollup import QUARTER_MS, QuarterRollup, fold
from meterd.store.blocks.sample_order import misplaced

_FEW = 3  # samples that tell a usual step
_EMPTY = QuarterRollup(0, nan, nan, 0.0, 0)


@dataclass(frozen=True, slots=True)
class CounterDay:
    """The samples of a UTC day: its first and last one, and its quarter hours by number.

    `rolled`: they come from a roll-up, which may have counted up to samples beside the day.
    `steady`: nothing tells that the counter fell that day. `total`: it is a guarded total, which
    never falls; a register may begin anew between two days that are both steady.
    """

    first: Point
    last: Point
    quarters: Mapping[int, QuarterRollup]
    rolled: bool = False
    steady: bool = False
    total: bool = False

    @classmethod
    def of(
        cls,
        times: Sequence[int],
        values: Sequence[float],
        power: Power | None = None,
        *,
        total: bool = False,
    ) -> "CounterDay | None":
        """Of a day's samples; None where there are none."""
        quarters = fold(times, values, counter=True, power=power, total=total)
        points = [p for p in zip(times, values, strict=True) if p[1] == p[1]]
        if not points:
            return None
        return cls(points[0], points[-1], quarters, steady=total, total=total)

    @property
    def usual(self) -> int:
        """The usual interval between samples in ms, estimated from the quarter hours; 0:
        unknown.
        """
        full = {number: quarter.n for number, quarter in self.quarters.items() if quarter.n}
        if sum(full.values()) < _FEW:
            return 0
        apart = [after - before for before, after in pairwise(sorted(full))]
        return median_low(apart or [1]) * QUARTER_MS // median_low(full.values())


Bounds = tuple[CounterDay | None, CounterDay | None]
"""The nearest days with samples before and after some days, where there are any."""


def join_days(
    days: Sequence[CounterDay], around: Bounds, wanted: range
) -> dict[int, QuarterRollup]:
    """The quarter hours with these numbers, ascending; `days` in time order."""
    before, after = around
    row = _in_line([*filter(None, (before,)), *days, *filter(None, (after,))])
    quarters: dict[int, QuarterRollup] = {}
    for place, day in enumerate(row):
        if day is before or day is after:
            continue
        previous = row[place - 1] if place else None
        following = row[place + 1] if place + 1 < len(row) else None
        own = _own(day, previous, following)
        if day.total and (leap := _leap(day, previous, following)):
            own = _without(own, leap)
        quarters.update((number, own[number]) for number in own if number in wanted)
    for earlier, later in pairwise(row):
        _bridge(quarters, earlier, later, wanted)
        _spread(quarters, earlier, later)
    if before is None and days:
        _begin(quarters, days[0].first[0])
    if after is None and days:
        _end(quarters, days[-1].last[0], days[0].first[0] if before is None else 0)
    return dict(sorted(quarters.items()))


def _in_line(days: Sequence[CounterDay]) -> Sequence[CounterDay]:
    """Without days of which all samples are ones that a wrong clock put there.

    They are those of a total that never falls, where it leaps back to them and returns.
    """
    if not all(day.total for day in days):
        return days
    gone = set(misplaced([point[1] for day in days for point in (day.first, day.last)]))
    wrong = {place // 2 for place in gone if place % 2 == 0 and place + 1 in gone}
    return [day for place, day in enumerate(days) if place not in wrong]


def _leap(day: CounterDay, previous: CounterDay | None, following: CounterDay | None) -> int:
    """By how much a total that never falls leapt within a day, between two clocks.

    The day begins with samples of long before, or ends with some of long after; in thousandths.
    """
    first, last = day.first[1], day.last[1]
    if previous is not None and first < previous.last[1] <= last:
        return thousandths(previous.last[1]) - thousandths(first)
    if following is not None and first <= following.first[1] < last <= following.last[1]:
        return thousandths(last) - thousandths(following.first[1])
    return 0


def _without(own: Mapping[int, QuarterRollup], leap: int) -> Mapping[int, QuarterRollup]:
    """The quarter hours without a leap: one of them has it, or those of a hole have."""
    quarters = dict(own)
    for number in sorted(own, key=lambda number: -(own[number].increase or 0)):
        increase = own[number].increase or 0
        gone = min(leap, increase)
        quarters[number] = replace(own[number], increase=increase - gone, estimated=True)
        leap -= gone
        if leap <= 0:
            break
    return quarters


def _ends(earlier: CounterDay, later: CounterDay) -> tuple[Point, Point]:
    """From where to where a counter rose between two days: not from or to what leaps back."""
    last, first = earlier.last, later.first
    if earlier.total and later.total:
        top = max((quarter.max for quarter in earlier.quarters.values() if quarter.n), default=nan)
        if last[1] < top <= first[1]:
            last = last[0], top
        low = min((quarter.min for quarter in later.quarters.values() if quarter.n), default=nan)
        if last[1] <= low < first[1]:
            first = first[0], low
    return last, first


def _bridge(
    quarters: dict[int, QuarterRollup], earlier: CounterDay, later: CounterDay, wanted: range
) -> None:
    """Adds what the counter rose by between two days with samples."""
    line = _Line.of(*_ends(earlier, later))
    guessed = False
    if line.rise_or_fall and line.width > HOLE_MS:
        steps = [usual for usual in (earlier.usual, later.usual) if usual]
        guessed = line.width > hole_threshold(min(steps, default=0))
    first, end = earlier.last[0] // QUARTER_MS, -(-later.first[0] // QUARTER_MS)
    for number in range(max(first, wanted.start), min(end, wanted.stop)):
        quarter = quarters.get(number, _EMPTY)
        increase = (quarter.increase or 0) + line.within(number)
        estimated = quarter.estimated or guessed
        quarters[number] = replace(quarter, increase=increase, estimated=estimated)


def _spread(quarters: dict[int, QuarterRollup], earlier: CounterDay, later: CounterDay) -> None:
    """A counter that was frozen over midnight: a day's first quarter hours tell all of its jump.

    They give so much of it to the last ones of the day before, which stood, as these would have
    brought at the usual rate.
    """
    is_near = later.first[0] - earlier.last[0] <= HOLE_MS
    if not is_near or earlier.last[1] != later.first[1]:
        return
    lead = _while(later, later.first[0] // QUARTER_MS, 1, lambda it: it.estimated)
    stood = _while(earlier, earlier.last[0] // QUARTER_MS, -1, lambda it: it.increase == 0)
    rises = [
        it.increase
        for number, it in later.quarters.items()
        if number not in lead and not it.estimated and it.increase
    ]
    if not lead or later.last[0] // QUARTER_MS in lead or len(rises) < _FEW:
        return
    whole = sum(later.quarters[number].increase or 0 for number in lead)
    count = min(len(stood), round(whole / median_low(rises)) - len(lead))
    if count <= 0:
        return
    region = [*reversed(stood[:count]), *lead]
    for place, number in enumerate(region):
        part = proportion(whole, place + 1, len(region)) - proportion(whole, place, len(region))
        own = (later.quarters[number].increase or 0) if number in lead else 0
        if (quarter := quarters.get(number)) is not None:
            increase = (quarter.increase or 0) + part - own
            quarters[number] = replace(quarter, increase=increase, estimated=True)


def _while(
    day: CounterDay, number: int, step: int, holds: Callable[[QuarterRollup], bool]
) -> list[int]:
    """Quarter hours with samples, one after the other, as long as something holds."""
    numbers: list[int] = []
    while (quarter := day.quarters.get(number)) is not None and quarter.n and holds(quarter):
        numbers.append(number)
        number += step
    return numbers


@dataclass(frozen=True, slots=True)
class _Line:
    """From one sample to the next, `rise` thousandths up in `width` ms."""

    start: int
    width: int
    rise: int
    rise_or_fall: int

    @classmethod
    def of(cls, start: Point, end: Point) -> "_Line":
        rise = thousandths(end[1]) - thousandths(start[1])
        return cls(start[0], end[0] - start[0], max(0, rise), rise)

    def within(self, number: int) -> int:
        """The part of the rise that lies in a quarter hour."""
        start = number * QUARTER_MS
        return self._at(start + QUARTER_MS) - self._at(start)

    def _at(self, time: int) -> int:
        since = min(max(0, time - self.start), self.width)
        return proportion(self.rise, since, self.width) if self.width > 0 else 0


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a roll-up counted beside its samples, `extra`, and what lies there now, thousandths.

    `head` is before the first sample, `tail` after the last one, in their quarter hours.
    """

    extra: int
    head: int
    tail: int

    @classmethod
    def of(
        cls, day: CounterDay, previous: CounterDay | None, following: CounterDay | None
    ) -> "_Beside":
        first, last = day.first[0] // QUARTER_MS, day.last[0] // QUARTER_MS
        own = (quarter for number, quarter in day.quarters.items() if first <= number <= last)
        whole = sum(quarter.increase or 0 for quarter in own)
        head = _Line.of(previous.last, day.first).within(first) if previous is not None else 0
        tail = _Line.of(day.last, following.first).within(last) if following is not None else 0
        return cls(whole - (thousandths(day.last[1]) - thousandths(day.first[1])), head, tail)


def stale(days: Sequence[CounterDay], around: Bounds) -> list[int]:
    """Those that were rolled up when other samples stood beside them, or that fell; as places."""
    row = (around[0], *days, around[1])
    return [
        place
        for place, day in enumerate(days)
        if day.rolled
        and (beside := _Beside.of(day, row[place], row[place + 2])).extra
        != beside.head + beside.tail
    ]


def _own(
    day: CounterDay, previous: CounterDay | None, following: CounterDay | None
) -> Mapping[int, QuarterRollup]:
    """What rose between the samples of a day, without what a roll-up counted beside them.

    A roll-up has counted up to the samples next to the day, as far as they were known when it
    was made. What it counted too much is its sum less the rise of the samples.
    """
    if not day.rolled:
        return day.quarters
    first, last = day.first[0] // QUARTER_MS, day.last[0] // QUARTER_MS
    own = {number: quarter for number, quarter in day.quarters.items() if first <= number <= last}
    beside = _Beside.of(day, previous, following)
    extra, head, tail = beside.extra, beside.head, beside.tail
    if extra <= 0:
        return own
    if day.steady and (day.total or not _hides_a_fall(day, previous, following)):
        # All of it is beside the samples, of whatever stood there then.
        head = min(head, extra, own[first].increase or 0)
        tail = min(extra - head, own[last].increase or 0)
        head = extra - tail
    elif head + tail > extra:
        # Falls are counted as well: the most that fits was counted beside the samples.
        fits = [pair for pair in ((0, tail), (head, 0)) if sum(pair) <= extra]
        head, tail = max(fits, key=sum, default=(0, 0))
    _subtract(own, first, head)
    _subtract(own, last, tail)
    return own


def _hides_a_fall(
    day: CounterDay, previous: CounterDay | None, following: CounterDay | None
) -> bool:
    """Whether a register of which the day's ends tell no fall began anew within the day.

    A quarter hour then begins below where the one before it had ended, or rose by more than lies
    between its neighbours: in the day's first one as well what was counted up to its first sample,
    in the last one what was counted from its last sample on.
    """
    full = [quarter for _, quarter in sorted(day.quarters.items()) if quarter.n]
    if not full:
        return False
    lows = [*(thousandths(quarter.min) for quarter in full), thousandths(day.last[1])]
    highs = [thousandths(day.first[1]), *(thousandths(quarter.max) for quarter in full)]
    if any(low < high for low, high in zip(lows[1:-1], highs[1:-1], strict=True)):
        return True
    # Registers begin at 0, and nobody knows how far those of later days went.
    beside = [0.0] * len(full)
    beside[0] += thousandths(day.first[1]) if previous is not None else 0
    beside[-1] += inf if following is not None else 0
    return any(
        (quarter.increase or 0) > after - before + extra
        for quarter, before, after, extra in zip(full, highs, lows[1:], beside, strict=False)
    )


def _subtract(own: dict[int, QuarterRollup], number: int, increase: int) -> None:
    quarter = own[number]
    if increase:
        own[number] = replace(quarter, increase=(quarter.increase or 0) - increase)


def _begin(quarters: dict[int, QuarterRollup], time: int) -> None:
    """Nothing is known of a counter before its first sample."""
    quarter = quarters.get(time // QUARTER_MS)
    if quarter is not None:
        covered = QUARTER_MS - time % QUARTER_MS
        quarters[time // QUARTER_MS] = replace(quarter, covered=covered)


def _end(quarters: dict[int, QuarterRollup], time: int, first: int) -> None:
    """Nor after its last one."""
    quarter = quarters.get(time // QUARTER_MS)
    if quarter is not None:
        start = max(first, time - time % QUARTER_MS)
        quarters[time // QUARTER_MS] = replace(quarter, covered=time - start)
