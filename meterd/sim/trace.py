"""A periodic time series, interpolated, with its exact integral."""

import math
from collections.abc import Sequence
from itertools import accumulate

MINUTE = 60.0


class Trace:
    """Values of whole minutes, linearly interpolated, with a small ripple.

    The ripple is a sine of `cycles` whole periods a minute and of `ripple` times the value,
    so it is 0 at whole minutes, never changes the sign, and has an integral in closed form.
    """

    def __init__(self, minutes: Sequence[float], *, ripple: float = 0.0, cycles: int = 1) -> None:
        self._minutes = tuple(minutes)
        self._ripple = ripple
        self._omega = 2 * math.pi * cycles / MINUTE
        self.period = MINUTE * len(self._minutes)
        whole = (self._within(minute, MINUTE) for minute in range(len(self._minutes)))
        self._sums = tuple(accumulate(whole, initial=0.0))

    def at(self, t: float) -> float:
        """The value at second `t`, which may be negative or beyond the period."""
        minute, x = divmod(t, MINUTE)
        start, slope = self._segment(int(minute))
        return (start + slope * x) * (1 + self._ripple * math.sin(self._omega * x))

    def integral(self, t: float) -> float:
        """The integral from second 0 to `t`, in value-seconds."""
        rounds, rest = divmod(t, self.period)
        minute, x = divmod(rest, MINUTE)
        index = min(int(minute), len(self._minutes) - 1)
        return rounds * self._sums[-1] + self._sums[index] + self._within(index, x)

    def _segment(self, minute: int) -> tuple[float, float]:
        count = len(self._minutes)
        start, end = self._minutes[minute % count], self._minutes[(minute + 1) % count]
        return start, (end - start) / MINUTE

    def _within(self, minute: int, x: float) -> float:
        """The integral over the first `x` seconds of a minute."""
        start, slope = self._segment(minute)
        w = self._omega
        rippled = start * (1 - math.cos(w * x)) / w
        rippled += slope * (math.sin(w * x) / w**2 - x * math.cos(w * x) / w)
        return start * x + slope * x * x / 2 + self._ripple * rippled
