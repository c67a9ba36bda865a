"""By how much a counter rose between two times, in whole thousandths."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import gt, sub

from meterd.store.format.order import strays

_HOLE_MS = 900_000
_HOLE_STEPS = 3
_MOST = 2.0**52  # 4.5 PWh in Wh; whoever reads more reads no counter

Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Rise:
    """A counter's readings as a line through its samples.

    A fall counts as no rise, and the line goes on from there. `falls` has what was lost up to
    each sample, or nothing where the counter never fell. `holes` are places of the samples that
    end a hole: one that is wider than 15 min and three usual steps, and in which something rose;
    or one that a sample of a wrong time was taken out of.
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
        before: Point | None,
        after: Point | None,
        usual: int,
        *,
        total: bool = False,
    ) -> "Rise":
        """Samples without nulls, and the nearest ones outside; `usual` in ms.

        Of a running `total`, which never falls, samples that a wrong clock put into a wrong place
        are left out, and what rose around them counts as interpolated.
        """
        for point in (before, after):
            if point is not None:
                place = bisect_left(times, point[0])
                times = [*times[:place], point[0], *times[place:]]
                values = [*values[:place], point[1], *values[place:]]
        times, values = _believable(times, values)
        gaps: list[int] = []
        if total and (gone := strays(values)):
            times, values, gaps = _without(times, values, gone)
        falls = _falls(values) if any(map(gt, values, values[1:])) else ()
        limit = max(_HOLE_MS, _HOLE_STEPS * usual)
        steps = list(map(sub, times[1:], times))
        wide = max(steps, default=0) > limit
        holes = [
            place
            for place, step in enumerate(steps if wide else (), 1)
            if step > limit and values[place] != values[place - 1]
        ]
        return cls(times, values, falls, sorted({*holes, *gaps}) if gaps else holes)

    def between(self, start: int, end: int) -> tuple[int, bool]:
        """The rise in thousandths, and whether it was interpolated over a hole."""
        guessed = any(
            self.times[place - 1] < end and start < self.times[place] for place in self.holes
        )
        return self._reading(end) - self._reading(start), guessed

    def _reading(self, time: int) -> int:
        """At a time; before the first sample and after the last one the counter stands."""
        place = bisect_right(self.times, time)
        if place == 0:
            return self._sample(0) if self.times else 0
        reading = self._sample(place - 1)
        if place == len(self.times):
            return reading
        since = time - self.times[place - 1]
        return reading + _share(self._sample(place) - reading, since, self._step(place))

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
) -> tuple[Sequence[int], Sequence[float], list[int]]:
    """What is left, and the places of what followed something that is gone."""
    left = sorted(set(range(len(times))).difference(gone))
    gaps = [place for place, (a, b) in enumerate(pairwise(left), 1) if b != a + 1]
    return [times[place] for place in left], [values[place] for place in left], gaps


def thousandths(value: float) -> int:
    return round(value * 1000)


def _share(rise: int, since: int, step: int) -> int:
    """The part of a rise, rounded to the nearest; in whole numbers, so that it is exact."""
    return (2 * rise * since + step) // (2 * step)


def _falls(values: Sequence[float]) -> list[int]:
    readings = map(thousandths, values)
    lost = [max(0, one - other) for one, other in pairwise(readings)]
    return list(accumulate(lost, initial=0))
