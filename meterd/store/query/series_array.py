"""Times and values of series as numpy arrays, from memory and from blocks alike."""

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from meterd.store.blocks import array_decoder
from meterd.store.blocks.chunk import State
from meterd.store.blocks.quality_codes import INVALID, QUALITIES
from meterd.store.head.catalog import Name
from meterd.store.head.series_batch import SeriesBatch

Times: TypeAlias = "NDArray[np.int64]"
Values: TypeAlias = "NDArray[np.float64]"
Order: TypeAlias = "NDArray[np.intp]"


class SeriesArray(NamedTuple):
    """One series: ascending Unix ms, and values; NaN for null and for what is invalid."""

    times: Times
    values: Values

    def within(self, start: int, end: int) -> "SeriesArray":
        low, high = np.searchsorted(self.times, (start, end))
        return SeriesArray(self.times[low:high], self.values[low:high])

    def without_nulls(self) -> "SeriesArray":
        """Without the nulls."""
        is_value = ~np.isnan(self.values)
        return self if is_value.all() else SeriesArray(self.times[is_value], self.values[is_value])


EMPTY = SeriesArray(np.empty(0, np.int64), np.empty(0, np.float64))


def concatenate(parts: Sequence[SeriesArray]) -> SeriesArray:
    """All of them in time order; of equal times the last part's counts."""
    parts = [part for part in parts if len(part.times)]
    if len(parts) < 2 and not (parts and _disordered(parts[0].times)):
        return parts[0] if parts else EMPTY
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    if not _disordered(times):
        return SeriesArray(times, values)
    order = _order(times)
    return SeriesArray(times[order], values[order])


class SharedTimes:
    """Cuts and joins series of a device, which mostly share their times: each once for all of them.

    What comes of series that share their times (the same object) shares its times, too.
    """

    def __init__(self) -> None:
        # By the ids of arrays, which live as long as they are kept here.
        self._cuts: dict[int, tuple[Times, int, int, Times]] = {}
        self._joined: dict[tuple[int, ...], tuple[list[Times], Times, Order | None]] = {}

    def within(self, track: SeriesArray, start: int, end: int) -> SeriesArray:
        """The samples with start <= time < end, which are the same for all calls."""
        cut = self._cuts.get(id(track.times))
        if cut is None:
            low, high = map(int, np.searchsorted(track.times, (start, end)))
            times = track.times if high - low == len(track.times) else track.times[low:high]
            cut = self._cuts[id(track.times)] = track.times, low, high, times
        _, low, high, times = cut
        return track if times is track.times else SeriesArray(times, track.values[low:high])

    def concatenate(self, parts: Sequence[SeriesArray]) -> SeriesArray:
        """See `concatenate`."""
        parts = [part for part in parts if len(part.times)]
        if not parts:
            return EMPTY
        key = tuple([id(part.times) for part in parts])
        joined = self._joined.get(key)
        if joined is None:
            each = [part.times for part in parts]
            times = each[0] if len(each) == 1 else np.concatenate(each)
            order = _order(times) if _disordered(times) else None
            joined = self._joined[key] = each, times if order is None else times[order], order
        values = parts[0].values
        if len(parts) > 1:
            values = np.concatenate([part.values for part in parts])
        return SeriesArray(joined[1], values if joined[2] is None else values[joined[2]])


def _order(times: Times) -> Order:
    """The places of the times in ascending order; of equal ones the last."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    return np.asarray(order[np.append(ordered[1:] != ordered[:-1], True)])


def _disordered(times: Times) -> bool:
    return bool((times[1:] <= times[:-1]).any())


def of_block(body: bytes, wanted: Container[int]) -> Iterator[tuple[int, SeriesArray]]:
    """The wanted series of a block, by number. Raises StoreError (corrupt)."""
    for line in array_decoder.decode(body, wanted):
        yield line.series, SeriesArray(line.times, _trusted(line.values, line.states))


def _trusted(values: Values, states: Sequence[State]) -> Values:
    if any(state[1] == INVALID for state in states):
        values = values.copy()
        start = 0
        for count, quality, _ in states:
            if quality == INVALID:
                values[start : start + count] = np.nan
            start += count
    return values


def of_batch(batch: SeriesBatch, wanted: Container[Name]) -> Iterator[tuple[Name, SeriesArray]]:
    """The wanted series of polls in memory, in the order of arrival."""
    times = np.frombuffer(batch.times, np.int64)
    kinds = np.frombuffer(batch.kinds, np.uint8)
    tables = {
        number: np.frombuffer(table, np.float64).reshape(-1, len(batch.seen[number].places))
        for number, table in batch.tables.items()
        if table
    }
    for place, (quantity, unit) in enumerate(batch.columns):
        name = batch.device, quantity, unit
        if name not in wanted:
            continue
        values, there = np.empty(len(times)), np.zeros(len(times), bool)
        for number, table in tables.items():
            column = batch.seen[number].column_of.get(place)
            if column is not None:
                mine = kinds == number
                values[mine] = table[:, column]
                there |= mine
        for row, doubts in batch.doubts.items():
            if place in doubts and QUALITIES[doubts[place].quality] == INVALID:
                values[row] = np.nan
        if there.all():
            yield name, SeriesArray(times, values)
        else:
            yield name, SeriesArray(times[there], values[there])
