"""By how much a counter rose between two times, in whole thousandths."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, pairwise
from math import inf
from operator import gt, ne, sub
from statistics import median_low
from typing import NamedTuple, TypeAlias

from meterd.store.blocks.sample_order import misplaced

HOLE_MS = 900_000
_HOLE_STEPS = 3
# Whoever reads more rarely than that tells sums, and no quarter hours.
_SLOWEST_STEP_MS = 3_600_000
_MOST = 2.0**52  # 4.5 PWh in Wh; whoever reads more reads no counter
# A frozen counter is told by a step that is so many times the largest of the others, of which
# there are so many at least.
_FROZEN_FACTOR = 2
_FROZEN_OTHERS = 3
# What power came to while a counter stood may differ from its jump by this part of it.
_POWER_PART = 3

Point = tuple[int, float]

Power: TypeAlias = Callable[[int, int], int | None]
"""What the device's power came to between two times (Unix ms), in thousandths of the counter's
unit; None where it is not known."""


def usual_step(times: Sequence[int]) -> int:
    """The lower median of the steps in ms, an hour at most; 0 for fewer than three samples."""
    if len(times) < 3:
        return 0
    median: int = median_low(map(sub, times[1:], times))
    return min(median, _SLOWEST_STEP_MS)


def hole_threshold(usual: int) -> int:
    """Steps longer than these ms are holes, in ms, where `usual` is the usual step."""
    return max(HOLE_MS, _HOLE_STEPS * min(usual, _SLOWEST_STEP_MS))


@dataclass(frozen=True, slots=True)
class CounterIncrease:
    """A counter's readings as a line through its samples.

    A fall counts as no rise, and the line goes on from there. `falls` has what was lost up to
    each sample, or nothing where the counter never fell. `holes` are places of the samples that
    end a hole, in which something rose: a step that is too long (hole_after), the time for which
    the counter stood before it jumped, or where a sample of a wrong time was taken out.
    """

    times: Sequence[int]
    values: Sequence[float]
    falls: Sequence[int]
    holes: Sequence[int]

    @classmethod
    def of(
        cls,
        times: Sequence[int],
        values: Sequence[float],
        before: Point | None = None,
        after: Point | None = None,
        power: Power | None = None,
        *,
        total: bool = False,
    ) -> "CounterIncrease":
        """Samples without nulls, and the nearest ones outside.

        Of a running `total`, which never falls, samples that a wrong clock put into a wrong place
        are left out, and what rose around them counts as interpolated.
        """
        times, values = _believable(times, values)
        own = times
        gaps: frozenset[int] = frozenset()
        if total and (gone := misplaced(values)):
            times, values, gaps = _without(times, values, gone)
        times, values, thawed = _thawed(times, values, power)
        for point in (before, after):
            if point is not None and abs(point[1]) < _MOST:
                place = bisect_left(times, point[0])
                times = [*times[:place], point[0], *times[place:]]
                values = [*values[:place], point[1], *values[place:]]
        falls = _falls(values) if any(map(gt, values, values[1:])) else ()
        steps = list(map(sub, times[1:], times))
        wide = max(steps, default=0) > HOLE_MS
        limit = hole_threshold(usual_step(own)) if wide else 0
        holes = [
            place
            for place, step in enumerate(steps if wide else (), 1)
            if (step > limit or times[place] in thawed) and values[place] != values[place - 1]
        ]
        if gaps:
            places = (bisect_left(times, time) for time in gaps)
            holes = sorted({*holes, *(place for place in places if 0 < place < len(times))})
        return cls(times, values, falls, holes)

    def between(self, start: int, end: int) -> tuple[int, bool]:
        """The rise in thousandths, and whether it was interpolated over a hole."""
        guessed = any(
            self.times[place - 1] < end and start < self.times[place] for place in self.holes
        )
        return self._reading(end) - self._reading(start), guessed

    def _reading(self, time: int) -> int:
        """The counter's reading at a time; it stands still before the first and after the last
        sample.
        """
        place = bisect_right(self.times, time)
        if place == 0:
            return self._sample(0) if self.times else 0
        reading = self._sample(place - 1)
        if place == len(self.times):
            return reading
        since = time - self.times[place - 1]
        return reading + proportion(self._sample(place) - reading, since, self._step(place))

    def _step(self, place: int) -> int:
        return self.times[place] - self.times[place - 1]

    def _sample(self, place: int) -> int:
        lost = self.falls[place] if self.falls else 0
        return thousandths(self.values[place]) + lost


def _believable(
    times: Sequence[int], values: Sequence[float]
) -> tuple[Sequence[int], Sequence[float]]:
    if min(values, default=0.0) > -_MOST and max(values, default=0.0) < _MOST:
        return times, values
    pairs = [pair for pair in zip(times, values, strict=True) if abs(pair[1]) < _MOST]
    return [time for time, _ in pairs], [value for _, value in pairs]


def _without(
    times: Sequence[int], values: Sequence[float], gone: Sequence[int]
) -> tuple[Sequence[int], Sequence[float], frozenset[int]]:
    """What is left, and the times of what followed something that is gone."""
    left = sorted(set(range(len(times))).difference(gone))
    gaps = frozenset(times[b] for a, b in pairwise(left) if b != a + 1)
    return [times[place] for place in left], [values[place] for place in left], gaps


def thousandths(value: float) -> int:
    return round(value * 1000)


def proportion(rise: int, since: int, step: int) -> int:
    """The part of a rise, rounded to the nearest whole number; integer arithmetic, so exact."""
    return (2 * rise * since + step) // (2 * step)


def _falls(values: Sequence[float]) -> list[int]:
    readings = map(thousandths, values)
    lost = [max(0, one - other) for one, other in pairwise(readings)]
    return list(accumulate(lost, initial=0))


class _CounterRun(NamedTuple):
    """A counter that stood from place `first` to `last`, and then rose by `jump` thousandths."""

    first: int
    last: int
    jump: int


def _thawed(
    times: Sequence[int], values: Sequence[float], power: Power | None
) -> tuple[Sequence[int], Sequence[float], frozenset[int]]:
    """Samples without those of a counter that was frozen, and the times at which it went on."""
    changed = list(map(ne, values[1:], values))
    turns = [*times[:1], *compress(times[1:], changed)]
    # Nearly always it turned often, and that is quick to see.
    if len(turns) <= _FROZEN_OTHERS or max(map(sub, turns[1:], turns)) < HOLE_MS:
        return times, values, frozenset()
    begins = [0, *compress(range(1, len(values)), changed)]
    stands = [times[end - 1] - times[begin] for begin, end in pairwise(begins)]
    if max(stands) < HOLE_MS:
        return times, values, frozenset()
    runs = [
        _CounterRun(begin, end - 1, thousandths(values[end]) - thousandths(values[begin]))
        for begin, end in pairwise(begins)
    ]
    pairs = list(zip(runs, stands, strict=True))
    judge = _Judge.of(times, [run for run, stand in pairs if stand < HOLE_MS], power)
    frozen = [run for run, stand in pairs if stand >= HOLE_MS and judge.is_frozen(times, run)]
    if not frozen:
        return times, values, frozenset()
    gone = {place for run in frozen for place in range(run.first + 1, run.last + 1)}
    left = [place for place in range(len(times)) if place not in gone]
    ends = frozenset(times[run.last + 1] for run in frozen)
    return [times[place] for place in left], [values[place] for place in left], ends


@dataclass(frozen=True, slots=True)
class _Judge:
    """Tells a frozen counter from one that nothing passed: what its other steps came to.

    `usual` is the usual step in ms, `top` the largest rise in such a step, and `typical` the
    median, in thousandths.
    """

    usual: int
    top: int
    typical: int
    power: Power | None

    @classmethod
    def of(
        cls, times: Sequence[int], others: Sequence[_CounterRun], power: Power | None
    ) -> "_Judge":
        usual = max(1, usual_step(times))
        limit = hole_threshold(usual)
        rises = [
            run.jump
            for run in others
            if run.jump > 0 and times[run.last + 1] - times[run.last] <= limit
        ]
        few = len(rises) < _FROZEN_OTHERS
        return cls(usual, 0, 0, None) if few else cls(usual, max(rises), median_low(rises), power)

    def is_frozen(self, times: Sequence[int], run: _CounterRun) -> bool:
        start, last, end = times[run.first], times[run.last], times[run.last + 1]
        # A last step that is a hole itself may bring more.
        steps = max(1.0, (end - last) / self.usual)
        if not self.top or run.jump <= 0 or run.jump <= _FROZEN_FACTOR * self.typical * steps:
            return False
        whole = self.power(start, end) if self.power is not None else None
        standing = self.power(start, last) if self.power is not None else None
        if whole is not None and standing is not None:
            near = abs(whole - run.jump) <= run.jump // _POWER_PART + self.typical
            return near and 2 * standing >= whole
        most = _FROZEN_FACTOR * self.top * (end - start) / self.usual
        # Of one that stood from the first sample on nobody knows here since when.
        most = most if run.first else inf
        return _FROZEN_FACTOR * self.top * steps < run.jump <= most
