"""A source that holds its samples in memory."""

from collections.abc import Mapping, Sequence

import numpy as np

from meterd.promql.source import Labelled, Times, Values


class Memory:
    """Series in the order added; remembers what it was asked for."""

    def __init__(self) -> None:
        self._names: list[Labelled] = []
        self._data: list[tuple[Times, Values]] = []
        self.fetched: list[tuple[int, int, int]] = []

    def add(
        self,
        labels: Mapping[str, str],
        times: Sequence[int],
        values: Sequence[float] | Values,
        interval: int = 0,
        *,
        history: bool = False,
    ) -> None:
        """`history`: it may hold samples that come rarely."""
        extent = (int(times[0]), int(times[-1])) if history and len(times) else None
        self._names.append(Labelled(labels, interval, extent))
        self._data.append((np.asarray(times, dtype=np.int64), np.asarray(values, dtype=np.float64)))

    def names(self) -> Sequence[Labelled]:
        return self._names

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        self.fetched.append((len(ids), start, end))
        found = []
        for each in ids:
            times, values = self._data[each]
            low = int(np.searchsorted(times, start, side="right"))
            high = int(np.searchsorted(times, end, side="right"))
            found.append((times[low:high], values[low:high]))
        return found
