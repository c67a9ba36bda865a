"""The interface of the engine's storage: labelled series, and their samples as arrays."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Values = NDArray[np.float64]

# Prometheus' staleness marker (value.StaleNaN): a NaN with these bits.
STALE_BITS = 0x7FF0000000000002
STALE = float(np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0])


def stale_mark() -> Values:
    """A one-element array with the stale marker: Python floats may change a NaN's bits."""
    return np.array([STALE_BITS], dtype=np.uint64).view(np.float64)


def is_stale(values: Values) -> NDArray[np.bool_]:
    """Mask of the stale markers; any other NaN is a sample."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    return np.asarray(bits == STALE_BITS)


class Labelled(NamedTuple):
    """One series: labels with __name__; `interval` in ms between samples, 0 if unknown.

    `extent`, where given, are the times (ms) of its first and last sample: such a series may
    hold history with sparser samples, whose lookback follows their spacing (spacing.py).
    """

    labels: Mapping[str, str]
    interval: int = 0
    extent: tuple[int, int] | None = None


class Folded(NamedTuple):
    """One number a window and row, NaN where `present` is false."""

    values: Values
    present: NDArray[np.bool_]


class SeriesSource(Protocol):
    """A storage of series, identified by their index."""

    def names(self) -> Sequence[Labelled]:
        """All series; the index in the sequence is the id that `fetch` takes."""

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """Samples with start < t <= end (Unix ms) of each id, in the order of `ids`.

        Times are int64, ascending and unique; values are float64, stale markers included.
        """


@runtime_checkable
class FoldingSource(SeriesSource, Protocol):
    """A storage that can fold windows without reading every sample."""

    def samples(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """As `fetch` gives them, but without stale markers, which range vectors leave out."""

    def fold(
        self, ids: Sequence[int], function: str, starts: Times, ends: Times
    ) -> Sequence[Folded | None]:
        """avg, sum, min, max, count or present of each id's samples with start < t <= end.

        `starts` and `ends` are ascending Unix ms, one for each window. None for a series that is
        to be folded from its samples.
        """
