"""The polls that no block holds yet, in memory as columns: written from here, and read here.

The event loop appends, the writer's thread commits and seals, readers copy. The lock is held
for as long as references or some kilobytes move, never while anything is written.

A stretch is the polls of one device that have a common set of columns:

    times   t0 t1 t2 …
    values  v00 v01 … v0w  v10 v11 … v1w  …     row by row, NaN where there is no value
    kinds   which of the layouts seen each row has; a column that it lacks is absent there
"""

import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise, repeat
from operator import itemgetter
from typing import Any

from meterd.model.sample import Doubt, Layout, Poll
from meterd.store import cuts
from meterd.store.columns import Column, Sheet, Span, regular, runs
from meterd.store.schema import GOOD, INVALID, QUALITIES, REASON_LENGTH

_NAN = float("nan")
_MOST_KINDS = 250

Naming = Callable[[str, str, str], int]
"""The number of a series, by device, quantity and unit."""


@dataclass(slots=True)
class _Kind:
    """A layout, and how its values become a row of its stretch."""

    layout: Layout
    pick: Callable[[Any], Any] | None
    places: tuple[int, ...]  # of the layout's columns in the stretch
    placed: frozenset[int]


@dataclass(slots=True)
class Stretch:
    """Polls in the order they were taken. `kept` rows, the first ones, are in the journal."""

    device: str
    columns: tuple[tuple[str, str], ...]
    index: Mapping[tuple[str, str], int]
    times: "array[int]" = field(default_factory=lambda: array("q"))
    kinds: "array[int]" = field(default_factory=lambda: array("B"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    doubts: dict[int, Mapping[int, Doubt]] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=dict)  # id(layout) -> its number
    seen: list[_Kind] = field(default_factory=list)
    kept: int = 0
    origin: "Stretch | None" = None  # what this is a copy of
    present: dict[frozenset[int], Sequence[int]] = field(default_factory=dict)
    order: list[tuple[int, int]] = field(default_factory=list)  # see `_order`; empty until asked

    @classmethod
    def of(cls, poll: Poll) -> "Stretch":
        columns = tuple(zip(poll.layout.quantities, poll.layout.units, strict=True))
        return cls(poll.device, columns, {column: i for i, column in enumerate(columns)})

    def number(self, layout: Layout) -> int | None:
        """The layout's number here; None where it has columns that this stretch has not."""
        found = self.known.get(id(layout))
        return self._learn(layout) if found is None else found

    def _learn(self, layout: Layout) -> int | None:
        columns = tuple(zip(layout.quantities, layout.units, strict=True))
        if len(self.seen) >= _MOST_KINDS or any(one not in self.index for one in columns):
            return None
        places = tuple(self.index[column] for column in columns)
        pick: Callable[[Any], Any] | None = None
        if columns != self.columns:
            # What the layout lacks is taken from a NaN that stands behind its values.
            source = {place: i for i, place in enumerate(places)}
            wanted = [source.get(i, len(places)) for i in range(len(self.columns))]
            pick = itemgetter(*wanted) if len(wanted) > 1 else lambda row: (row[wanted[0]],)
        self.known[id(layout)] = len(self.seen)
        # The layout is kept, so that its id() is not given to another one.
        self.seen.append(_Kind(layout, pick, places, frozenset(places)))
        return self.known[id(layout)]

    def add(self, poll: Poll, number: int) -> None:
        kind = self.seen[number]
        try:
            row = array("d", kind.pick((*poll.values, _NAN)) if kind.pick else poll.values)
        except TypeError:
            values = [_NAN if value is None else value for value in poll.values]
            row = array("d", kind.pick((*values, _NAN)) if kind.pick else values)
        if poll.doubts:
            self.doubts[len(self.times)] = {
                kind.places[column]: doubt for column, doubt in poll.doubts.items()
            }
        self.times.append(poll.time)
        self.kinds.append(number)
        self.values.extend(row)

    def copy(self, start: int, end: int) -> "Stretch":
        """Rows start to end, for whoever reads them without the lock."""
        width = len(self.columns)
        doubts = {row - start: d for row, d in self.doubts.items() if start <= row < end}
        return Stretch(
            self.device,
            self.columns,
            self.index,
            self.times[start:end],
            self.kinds[start:end],
            self.values[start * width : end * width],
            doubts,
            self.known,
            self.seen,
            end - start,
            self,
            order=self.order,
        )

    def remove(self, start: int, end: int) -> None:
        """Rows start to end are somewhere else now."""
        width = len(self.columns)
        del self.times[start:end]
        del self.kinds[start:end]
        del self.values[start * width : end * width]
        gone = end - start
        self.doubts = {
            row if row < start else row - gone: doubts
            for row, doubts in self.doubts.items()
            if not start <= row < end
        }
        self.kept -= max(0, min(self.kept, end) - start)

    def older(self, before: int) -> list[tuple[int, int]]:
        """The rows in the journal that are older than `before`, as ranges."""
        old = [row for row, time in enumerate(self.times[: self.kept]) if time < before]
        if old and old[-1] - old[0] == len(old) - 1:
            return [(old[0], old[-1] + 1)]
        return [(row, row + 1) for row in old]

    @property
    def samples(self) -> int:
        return sum(self.kinds.count(i) * len(kind.places) for i, kind in enumerate(self.seen))

    def extents(self) -> Iterator[tuple[_Kind, int, int]]:
        """The first and last time at which each layout was seen."""
        for number in set(self.kinds):
            times = [t for t, kind in zip(self.times, self.kinds, strict=True) if kind == number]
            yield self.seen[number], min(times), max(times)

    def newest(self) -> Iterator[tuple[tuple[str, str], int, float, Doubt | None]]:
        """(column, time, value, doubt) of the last row of each layout; NaN is a null."""
        width = len(self.columns)
        for number in set(self.kinds):
            row = len(self.kinds) - 1 - self.kinds[::-1].index(number)
            doubts = self.doubts.get(row, {})
            for place in self.seen[number].places:
                value = self.values[row * width + place]
                yield self.columns[place], self.times[row], value, doubts.get(place)

    # -- as spans -----------------------------------------------------------------------------

    def spans(self, device: int, naming: Naming, before: int | None = None) -> Iterator[Span]:
        """In the order of arrival; in each the times ascend. `before`: only older rows."""
        for start, end in self._runs():
            piece = self if end - start == len(self.times) else self.copy(start, end)
            span = piece._span(device, naming)
            yield span if before is None else cuts.until(span, before)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Rows of ascending times: all of them, unless the clock was set back."""
        breaks = [i for i, (a, b) in enumerate(pairwise(self.times), 1) if b <= a]
        yield from pairwise([0, *breaks, len(self.times)])

    def _span(self, device: int, naming: Naming) -> Span:
        count, width = len(self.times), len(self.columns)
        whole = sum(self.values)
        plain = not self.doubts and whole == whole  # NaN is no equal of itself
        used = [kind for number, kind in enumerate(self.seen) if self.kinds.count(number)]
        if plain and all(len(kind.places) == width for kind in used):
            ids, places = zip(*self._order(naming), strict=True)
            if places == tuple(range(width)):
                return Sheet(device, self.times, ids, self.values)
            rows = range(count)
            lanes = (self.values[place::width] for place in places)
            return Span(device, self.times, tuple(map(Column, ids, repeat(rows), lanes)))
        found = [self.column(place, one) for one, place in self._order(naming)]
        return Span(device, self.times, tuple([column for column in found if column.values]))

    def _order(self, naming: Naming) -> list[tuple[int, int]]:
        """(series, place) of each column, ascending by series. Numbers stay what they are."""
        if not self.order:
            names = enumerate(self.columns)
            self.order += sorted((naming(self.device, *one), place) for place, one in names)
        return self.order

    def column(self, place: int, series: int) -> Column:
        values = self.values[place :: len(self.columns)]
        rows = self._rows(place)
        if len(rows) != len(values):
            values = array("d", [values[row] for row in rows])
        states = self._states(place, rows, values)
        return Column(series, regular(rows), values, states)

    def _rows(self, place: int) -> Sequence[int]:
        lacking = frozenset(i for i, kind in enumerate(self.seen) if place not in kind.placed)
        if not lacking:
            return range(len(self.times))
        if lacking not in self.present:
            self.present[lacking] = regular(
                [row for row, kind in enumerate(self.kinds) if kind not in lacking]
            )
        return self.present[lacking]

    def _states(
        self, place: int, rows: Sequence[int], values: "array[float]"
    ) -> tuple[tuple[int, int, str], ...]:
        doubted = (
            {row: doubts[place] for row, doubts in self.doubts.items() if place in doubts}
            if self.doubts
            else {}
        )
        whole = sum(values)
        if not doubted and whole == whole:
            return ()
        return runs(map(_state, map(doubted.get, rows), values), values)


def _state(doubt: Doubt | None, value: float) -> tuple[int, int, str]:
    if doubt is None:
        # A driver's null without a word: it is not good all the same.
        return (1, GOOD, "") if value == value else (1, INVALID, "")
    return 1, QUALITIES[doubt.quality], doubt.reason[:REASON_LENGTH]


class Hot:
    """Every poll since its device's last block."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._stretches: dict[str, list[Stretch]] = {}
        self._waiting = 0  # samples that no commit has confirmed

    def take(self, poll: Poll) -> None:
        """Never waits for the disk and never raises."""
        with self._guard:
            stretches = self._stretches.setdefault(poll.device, [])
            last = stretches[-1] if stretches else None
            number = last.number(poll.layout) if last is not None else None
            if last is None or number is None:
                last = Stretch.of(poll)
                number = last.number(poll.layout)
                stretches.append(last)
            last.add(poll, number or 0)
            self._waiting += len(poll.values)

    def adopt(self, journal: "Hot") -> None:
        """What was found in the journal comes before what was taken since."""
        with self._guard:
            for device, stretches in journal._stretches.items():
                for stretch in stretches:
                    stretch.kept = len(stretch.times)
                self._stretches[device] = [*stretches, *self._stretches.get(device, ())]

    @property
    def waiting(self) -> int:
        """Samples that no commit has confirmed."""
        return self._waiting

    def uncommitted(self, most: int) -> list[Stretch]:
        """Copies of the rows that are not in the journal, about `most` samples, oldest first."""
        found: list[Stretch] = []
        with self._guard:
            for stretch in self._all():
                rows = max(1, most // len(stretch.columns))
                end = min(len(stretch.times), stretch.kept + rows)
                if end > stretch.kept:
                    found.append(stretch.copy(stretch.kept, end))
                    most -= (end - stretch.kept) * len(stretch.columns)
                if most <= 0:
                    break
        return found

    def confirm(self, written: Sequence[Stretch]) -> int:
        """Those copies are in the journal now; returns their samples."""
        with self._guard:
            for copy in written:
                (copy.origin or copy).kept += len(copy.times)
            samples = sum(copy.samples for copy in written)
            self._waiting -= samples
            return samples

    def forget(self, moved: Sequence[Stretch]) -> int:
        """Those copies of uncommitted rows are elsewhere, or lost; returns their samples."""
        with self._guard:
            for copy in moved:
                origin = copy.origin or copy
                origin.remove(origin.kept, origin.kept + len(copy.times))
            samples = sum(copy.samples for copy in moved)
            self._waiting -= samples
            return samples

    def unconfirm(self) -> None:
        """The journal is gone: what was in it waits for a commit again."""
        with self._guard:
            for stretch in self._all():
                if stretch.kept:
                    self._waiting += stretch.copy(0, stretch.kept).samples
                    stretch.kept = 0

    def sealed(self, device: str, before: int) -> None:
        """What is older, and in the journal, is in blocks now."""
        with self._guard:
            stretches = self._stretches.get(device, [])
            for stretch in stretches:
                for start, end in reversed(stretch.older(before)):
                    stretch.remove(start, end)
            # The newest stays even when it is empty: its layouts are known.
            self._stretches[device] = [s for s in stretches[:-1] if s.times] + stretches[-1:]

    def stretches(self, device: str, *, kept: bool = False) -> list[Stretch]:
        """Copies of all rows of a device, or of those in the journal, in order of arrival."""
        with self._guard:
            found = self._stretches.get(device, ())
            return [one.copy(0, one.kept if kept else len(one.times)) for one in found]

    def extents(self) -> dict[tuple[str, str, str], tuple[int, int]]:
        """The first and last time of each series here."""
        found: dict[tuple[str, str, str], tuple[int, int]] = {}
        with self._guard:
            for stretch in self._all():
                for kind, first, last in stretch.extents():
                    for place in kind.places:
                        name = stretch.device, *stretch.columns[place]
                        known = found.get(name, (first, last))
                        found[name] = min(known[0], first), max(known[1], last)
        return found

    def devices(self) -> list[str]:
        with self._guard:
            return list(self._stretches)

    def oldest(self, device: str) -> int | None:
        """The time (Unix ms) of the device's oldest poll here."""
        with self._guard:
            times = [min(one.times) for one in self._stretches.get(device, ()) if one.times]
        return min(times, default=None)

    def _all(self) -> Iterator[Stretch]:
        return chain.from_iterable(self._stretches.values())
