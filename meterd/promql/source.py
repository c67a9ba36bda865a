"""What the engine needs from the outside: labelled series, and arrays between two times."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Values = NDArray[np.float64]

# Prometheus' mark "the series ends here": one NaN among many, told by its bits.
STALE_BITS = 0x7FF0000000000002
STALE = float(np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0])


def stale_mark() -> Values:
    """An array with the one stale mark: Python floats may change a NaN's bits, arrays do not."""
    return np.array([STALE_BITS], dtype=np.uint64).view(np.float64)


def is_stale(values: Values) -> NDArray[np.bool_]:
    """Which values are the stale mark; any other NaN is data."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    return np.asarray(bits == STALE_BITS)


class Labelled(NamedTuple):
    """One series: labels with __name__; interval is the usual ms between samples, 0 if unknown.

    `extent`, where it is given, are the times of its first and last sample (ms): such a series
    may hold history whose samples are further apart, and then each stands for as long as they
    are (spacing.py).
    """

    labels: Mapping[str, str]
    interval: int = 0
    extent: tuple[int, int] | None = None


class SeriesSource(Protocol):
    """Series by number, and their samples."""

    def names(self) -> Sequence[Labelled]:
        """All series; the place in the sequence is the id that fetch takes."""

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """Samples with start < t <= end, ms since 1970, for each id in the order asked.

        Times are int64, ascending and unique; values are float64. Stale marks are handed out too.
        """
