"""A series batch: polls of one device in memory as columns, from taking them to their block.

A batch has polls with a common set of columns:

    times   t0 t1 t2 …
    kinds   which of the layouts seen each row has; a column that it lacks is absent there
    tables  of each of these, v00 v01 … v0w  v10 v11 … v1w  …   row by row, NaN for null

A batch is bounded (`most` rows), so that whatever is done with one of them takes a bounded time.
Once another one follows it nothing is added to it, and its arrays are replaced, never changed:
whoever reads it shares them.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, compress, groupby, pairwise, repeat
from operator import ge, gt, itemgetter
from typing import Any, NamedTuple

from meterd.model.sample import LARGEST, Layout, Poll, Quality, QualityFlag
from meterd.store.blocks import slicing
from meterd.store.blocks.chunk import (
    NOT_FINITE,
    Chunk,
    ChunkColumn,
    RowBatch,
    as_range,
    has_infinity,
    run_lengths,
    without_infinities,
)
from meterd.store.blocks.quality_codes import GOOD, INVALID, QUALITIES, REASON_LENGTH

_NAN = float("nan")
_WILD = QualityFlag(Quality.INVALID, NOT_FINITE)
_MOST_KINDS = 250
# Rows and cells of one batch: a copy of it takes some 0.1 ms.
_MOST_ROWS = 4096
_MOST_CELLS = 1 << 17
_FEWEST_ROWS = 64
_PLACEMENTS = 256  # layouts in batches that are remembered

_QUALITY = {number: quality for quality, number in QUALITIES.items()}

_Laid = tuple[tuple[int, ...], tuple[int, ...]]
"""Series of a layout, ascending, and their places in the batch."""

Naming = Callable[[str, str, str], int]
"""The number of a series, by device, quantity and unit."""


@dataclass(slots=True)
class _BatchLayout:
    """A layout, whose rows are in a table of their own, and its columns in the batch."""

    layout: Layout
    places: tuple[int, ...]  # of the layout's columns in the batch
    column_of: Mapping[int, int]  # by place; of a column that is there twice, the last one


class PollRows(NamedTuple):
    """Polls of one layout, of which no value is null or doubted; `values` row by row."""

    layout: Layout
    times: "array[int]"
    values: "array[float]"


@dataclass(slots=True, eq=False)
class SeriesBatch:
    """Polls in the order they were taken. `kept` rows, the first ones, are in the WAL."""

    device: str
    columns: tuple[tuple[str, str], ...]
    index: Mapping[tuple[str, str], int]
    times: "array[int]" = field(default_factory=lambda: array("q"))
    kinds: "array[int]" = field(default_factory=lambda: array("B"))
    tables: "dict[int, array[float]]" = field(default_factory=dict)  # of each in `kinds`
    doubts: dict[int, Mapping[int, QualityFlag]] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=dict)  # id(layout) -> its number
    seen: list[_BatchLayout] = field(default_factory=list)
    kept: int = 0
    most: int = _MOST_ROWS
    bounds: tuple[int, int] | None = None  # first and last time, once nothing is added any more
    origin: "SeriesBatch | None" = None  # what this is a copy of
    present: dict[frozenset[int], Sequence[int]] = field(default_factory=dict)
    turns: list[tuple[int, int]] = field(default_factory=list)  # see `_turns`
    order: list[tuple[int, int]] = field(default_factory=list)  # see `_order`; empty until asked
    laid: dict[tuple[int, ...], _Laid] = field(default_factory=dict)  # by places of a layout

    @classmethod
    def of(cls, device: str, columns: tuple[tuple[str, str], ...]) -> "SeriesBatch":
        index = {column: i for i, column in enumerate(columns)}
        most = max(_FEWEST_ROWS, min(_MOST_ROWS, _MOST_CELLS // max(1, len(columns))))
        return cls(device, columns, index, most=most)

    @classmethod
    def late(cls, device: str, column: tuple[str, str], chunk: Chunk) -> Iterator["SeriesBatch"]:
        """The one column of a chunk, as polls."""
        layout = Layout.of([column])
        cells = without_infinities(chunk.columns[0])
        times, shared = chunk.times_of(cells), dict[QualityFlag, Mapping[int, QualityFlag]]()
        doubts = {at: shared.setdefault(flag, {0: flag}) for at, flag in quality_flags_of(cells)}
        for start in range(0, len(times), _MOST_ROWS):
            some = times[start : start + _MOST_ROWS]
            batch = cls.of(device, (column,))
            batch.number(layout)
            batch.times, batch.kinds = some, array("B", bytes(len(some)))
            batch.tables = {0: cells.values[start : start + _MOST_ROWS]}
            places = range(start, start + len(some))
            batch.doubts = {row - start: doubts[row] for row in places if row in doubts}
            batch.end()
            yield batch

    def follow(self, layout: Layout) -> "SeriesBatch":
        """An empty batch to follow this one, with the columns of a layout.

        It has the columns in use as well, so that layouts that take turns share one batch.
        """
        used = {self.seen[number].places for number in set(self.kinds)}
        places = sorted({place for some in used for place in some})
        new = tuple(zip(layout.quantities, layout.units, strict=True))
        # Columns that no poll had lately are not carried on for ever.
        fits = (not used or len(places) == len(self.columns)) and len(self.seen) < _MOST_KINDS
        if fits and all(column in self.index for column in new):
            return replace(self, **_nothing())
        more = (self.columns[place] for place in places)
        mine = set(new)
        return SeriesBatch.of(self.device, (*new, *(added for added in more if added not in mine)))

    def template(self) -> "SeriesBatch":
        """An empty one with these columns, for another head and its thread.

        Columns are shared (87 of them take 20 KB); what layouts it has seen is not.
        """
        return replace(self, known=dict(self.known), seen=list(self.seen), **_nothing())

    @property
    def is_full(self) -> bool:
        return len(self.times) >= self.most

    def number(self, layout: Layout) -> int | None:
        """The layout's number here; None where it has columns that this batch has not."""
        number = self.known.get(id(layout))
        return self._learn(layout) if number is None else number

    def _learn(self, layout: Layout) -> int | None:
        columns = tuple(zip(layout.quantities, layout.units, strict=True))
        if len(self.seen) >= _MOST_KINDS or any(column not in self.index for column in columns):
            return None
        self.known[id(layout)] = len(self.seen)
        # The layout is kept, so that its id() is not given to another one.
        self.seen.append(_BatchLayout(layout, *_placed(self.columns, columns)))
        return self.known[id(layout)]

    def add(self, poll: Poll, number: int) -> None:
        kind = self.seen[number]
        values: Iterable[Any] = poll.values
        try:
            row = array("d", values)
        except TypeError:
            row = array("d", [_NAN if value is None else value for value in values])
        if poll.doubts:
            self.doubts[len(self.times)] = {
                kind.places[column]: doubt for column, doubt in poll.doubts.items()
            }
        # Nulls, too, are no numbers between these.
        if not -LARGEST <= sum(row) <= LARGEST and has_infinity(row):
            row = self._without_infinities(row, kind)
        self.times.append(poll.time)
        self.kinds.append(number)
        table = self.tables.get(number)
        if table is None:
            self.tables[number] = row
        else:
            table.extend(row)

    def has_all(self, sheets: Iterable[PollRows]) -> bool:
        """Whether it has the columns of these layouts."""
        return all(self.number(sheet.layout) is not None for sheet in sheets)

    def add_rows(self, sheets: Sequence[PollRows]) -> None:
        """Adds polls of layouts that it has, by their times."""
        numbers = [self.number(sheet.layout) or 0 for sheet in sheets]
        if len(sheets) == 1:
            self.times.extend(sheets[0].times)
            self.kinds.extend(numbers * len(sheets[0].times))
        else:
            rows = [
                (time, number)
                for sheet, number in zip(sheets, numbers, strict=True)
                for time in sheet.times
            ]
            rows.sort(key=itemgetter(0))
            self.times.extend([time for time, _ in rows])
            self.kinds.extend([number for _, number in rows])
        for sheet, number in zip(sheets, numbers, strict=True):
            table = self.tables.get(number)
            if table is None:
                self.tables[number] = sheet.values[:]
            else:
                table.extend(sheet.values)

    def _without_infinities(self, row: "array[float]", kind: _BatchLayout) -> "array[float]":
        """Replaces infinities by nulls of quality `invalid`."""
        wild = [abs(value) > LARGEST for value in row]
        flags = self.doubts.get(len(self.times), {})
        wild_flags = dict.fromkeys(compress(kind.places, wild), _WILD)
        self.doubts[len(self.times)] = {**flags, **wild_flags}
        return array("d", [_NAN if odd else one for odd, one in zip(wild, row, strict=True)])

    def end(self) -> None:
        """Closes the batch: its bounds are final."""
        self.bounds = (min(self.times), max(self.times)) if self.times else None

    def view(self) -> "SeriesBatch":
        """A closed batch for readers without the lock; shares its arrays."""
        return replace(self, kept=len(self.times), origin=self, present={})

    def copy(self, start: int, end: int) -> "SeriesBatch":
        """A copy of rows start to end, for readers without the lock."""
        doubts = self.doubts
        if doubts:
            doubts = {row - start: d for row, d in doubts.items() if start <= row < end}
        return SeriesBatch(
            self.device,
            self.columns,
            self.index,
            self.times[start:end],
            self.kinds[start:end],
            _tables_of(self, [(start, end)]),
            doubts,
            self.known,
            self.seen,
            end - start,
            origin=self,
            order=self.order,
            laid=self.laid,
        )

    def unnumbered(self) -> "SeriesBatch":
        """The batch without the series numbers it keeps, for another catalogue."""
        return replace(self, order=[], laid={})

    def tail(self) -> "SeriesBatch":
        """The last committed rows, as many as hold one of each layout."""
        return self.copy(min(self._newest_rows(self.kept).values()), self.kept)

    def _newest_rows(self, count: int) -> dict[int, int]:
        """By layout, the row of its newest poll among the first so many; late ones may follow."""
        kinds, times = self.kinds[:count].tobytes(), self.times[:count]
        if not any(map(gt, times, times[1:])):
            return {number: kinds.rindex(number) for number in set(kinds)}
        rows: dict[int, int] = {}
        for row, number in enumerate(kinds):
            if number not in rows or times[row] >= times[rows[number]]:
                rows[number] = row
        return rows

    def without(self, gone: Sequence[tuple[int, int]]) -> "SeriesBatch":
        """The rows outside of these ascending ranges, in one pass."""
        total = len(self.times)
        edges = [0, *chain.from_iterable(gone), total]
        left = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        rest = SeriesBatch(self.device, self.columns, self.index)
        moved: dict[int, int] = {}
        for start, end in left:
            if self.doubts:
                moved.update(zip(range(start, end), range(len(rest.times), total), strict=False))
            rest.times.extend(self.times[start:end])
            rest.kinds.extend(self.kinds[start:end])
        rest.tables = _tables_of(self, left)
        rest.doubts = {moved[row]: flag for row, flag in self.doubts.items() if row in moved}
        rest.kept = sum(max(0, min(self.kept, end) - start) for start, end in left)
        rest.end()
        return rest

    def become(self, rest: "SeriesBatch") -> None:
        """Takes the rows of another batch; arrays that readers share are not changed."""
        self.times, self.kinds, self.tables = rest.times, rest.kinds, rest.tables
        self.doubts, self.kept, self.present, self.turns = rest.doubts, rest.kept, {}, []
        self.bounds = rest.bounds

    def older(self, before: int, among: int) -> list[tuple[int, int]]:
        """Rows older than `before`, as ranges: of the first so many, and if in the WAL."""
        times = self.times[: min(among, self.kept)]
        old = [time < before for time in times]
        edges = [i for i, (a, b) in enumerate(pairwise((False, *old, False))) if a != b]
        return list(zip(edges[::2], edges[1::2], strict=True))

    @property
    def samples(self) -> int:
        return sum(map(len, self.tables.values()))

    def extents(self) -> Iterator[tuple[_BatchLayout, int, int]]:
        """The first and last time at which each layout was seen."""
        numbers = set(self.kinds)
        for number in numbers:
            mine = map(number.__eq__, self.kinds)
            times = self.times if len(numbers) == 1 else list(compress(self.times, mine))
            yield self.seen[number], min(times), max(times)

    def newest(self) -> Iterator[tuple[tuple[str, str], int, float, QualityFlag | None]]:
        """(column, time, value, doubt) of the newest row of each layout; NaN is a null."""
        kinds = self.kinds.tobytes()
        for number, row in self._newest_rows(len(self.kinds)).items():
            doubts, places = self.doubts.get(row, {}), self.seen[number].places
            start = kinds.count(number, 0, row) * len(places)
            values = self.tables[number][start : start + len(places)]
            for place, value in zip(places, values, strict=True):
                yield self.columns[place], self.times[row], value, doubts.get(place)

    # -- as chunks -----------------------------------------------------------------------------

    def chunks(self, device: int, naming: Naming, before: int | None = None) -> Iterator[Chunk]:
        """Chunks in the order of arrival, each with ascending times. `before`: only older rows."""
        for start, end in self._runs():
            piece = self if end - start == len(self.times) else self.copy(start, end)
            chunk = piece._chunk(device, naming)
            yield chunk if before is None else slicing.until(chunk, before)

    def rows(self, device: int, naming: Naming) -> list[Chunk]:
        """Chunks for a commit: where layouts alternate, one RowBatch for each, if nothing is null.

        Their times are not one after the other: whoever wants columns merges, or takes `chunks`.
        """
        numbers = set(self.kinds)
        if len(numbers) < 2 or self.doubts or any(map(ge, self.times, self.times[1:])):
            return list(self.chunks(device, naming))
        batches: list[Chunk] = []
        for number in sorted(numbers):
            sheet = self._sheet(device, naming, number)
            if sheet is None:
                return list(self.chunks(device, naming))
            batches.append(sheet)
        return batches

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Rows of ascending times: all of them, unless the clock was set back."""
        breaks = [i for i, (a, b) in enumerate(pairwise(self.times), 1) if b <= a]
        yield from pairwise([0, *breaks, len(self.times)])

    def _chunk(self, device: int, naming: Naming) -> Chunk:
        if len(self.tables) == 1 and not self.doubts:
            sheet = self._sheet(device, naming, next(iter(self.tables)))
            if sheet is not None:
                return sheet
        columns = [self.column(place, series) for series, place in self._order(naming)]
        return Chunk(device, self.times, tuple([column for column in columns if column.values]))

    def _sheet(self, device: int, naming: Naming, number: int) -> RowBatch | None:
        """All rows of one layout; None where something is null."""
        kind = self.seen[number]
        if kind.places not in self.laid:
            listed = [pair for pair in self._order(naming) if pair[1] in kind.column_of]
            laid = (
                tuple(series for series, _ in listed),
                tuple(kind.column_of[at] for _, at in listed),
            )
            self.laid[kind.places] = laid
        ids, columns = self.laid[kind.places]
        if not ids:
            return None
        times, values, width = self.times, self.tables[number], len(kind.places)
        if len(self.tables) > 1:
            times = array("q", compress(times, map(number.__eq__, self.kinds)))
        if columns != tuple(range(width)):
            starts = range(0, len(values), width)
            values = array("d", [values[at + column] for at in starts for column in columns])
        whole = sum(values)
        # NaN is no equal of itself.
        return RowBatch(device, times, ids, values) if whole == whole else None

    def _order(self, naming: Naming) -> list[tuple[int, int]]:
        """(series, place) of each column, ascending by series; cached, as numbers do not change."""
        if not self.order:
            names = enumerate(self.columns)
            self.order += sorted((naming(self.device, *name), place) for place, name in names)
        return self.order

    def column(self, place: int, series: int) -> ChunkColumn:
        values = self._values(place)
        rows = self._rows(place)
        states = self._states(place, rows, values)
        return ChunkColumn(series, as_range(rows), values, states)

    def _values(self, place: int) -> "array[float]":
        """In the order of the rows that have it."""
        lanes: dict[int, array[float]] = {}
        for number, table in self.tables.items():
            kind = self.seen[number]
            if place in kind.column_of:
                lanes[number] = table[kind.column_of[place] :: len(kind.places)]
        if len(lanes) < 2:
            return next(iter(lanes.values()), array("d"))
        values, at = array("d"), dict.fromkeys(lanes, 0)
        for number, count in self._turns():
            if number in lanes:
                values.extend(lanes[number][at[number] : at[number] + count])
                at[number] += count
        return values

    def _turns(self) -> Sequence[tuple[int, int]]:
        """Runs of equal layouts: (number of the layout, rows)."""
        if sum(count for _, count in self.turns) != len(self.kinds):
            self.turns = [(number, len(list(some))) for number, some in groupby(self.kinds)]
        return self.turns

    def _rows(self, place: int) -> Sequence[int]:
        lacking = frozenset(i for i, kind in enumerate(self.seen) if place not in kind.column_of)
        if not lacking:
            return range(len(self.times))
        if lacking not in self.present:
            self.present[lacking] = as_range(
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
        return run_lengths(map(_state, map(doubted.get, rows), values), values)


@lru_cache(_PLACEMENTS)
def _placed(
    columns: tuple[tuple[str, str], ...], layout: tuple[tuple[str, str], ...]
) -> tuple[tuple[int, ...], Mapping[int, int]]:
    """Places in a batch of a layout's columns, and the column at each; shared, as it takes 7 KB."""
    index = {column: place for place, column in enumerate(columns)}
    places = tuple(index[column] for column in layout)
    return places, {place: column for column, place in enumerate(places)}


def _nothing() -> dict[str, Any]:
    """The rows of a batch that has none yet."""
    empty = {"times": array("q"), "kinds": array("B"), "tables": {}, "turns": []}
    rest = {"doubts": {}, "kept": 0, "bounds": None, "origin": None, "present": {}}
    return {**empty, **rest}


def _tables_of(batch: SeriesBatch, left: Sequence[tuple[int, int]]) -> "dict[int, array[float]]":
    """The tables of these ranges of rows, which ascend, in one pass; of each layout that has some.

    That of a layout without a column is empty.
    """
    kinds = batch.kinds.tobytes()
    tables: dict[int, array[float]] = {}
    for number, table in batch.tables.items():
        width, at, last = len(batch.seen[number].places), 0, 0
        for start, end in left:
            at += kinds.count(number, last, start)
            if count := kinds.count(number, start, end):
                mine = tables.setdefault(number, array("d"))
                mine.extend(table[at * width : (at + count) * width])
            at, last = at + count, end
    return tables


def quality_flags_of(column: ChunkColumn) -> Iterator[tuple[int, QualityFlag]]:
    """Of the values that are not simply good, by place in the column."""
    at = 0
    for count, quality, reason in column.states:
        if quality or reason:
            doubt = QualityFlag(_QUALITY.get(quality, Quality.INVALID), reason)
            yield from zip(range(at, at + count), repeat(doubt), strict=False)
        at += count


def _state(doubt: QualityFlag | None, value: float) -> tuple[int, int, str]:
    if doubt is None:
        # A driver's null without a word: it is not good all the same.
        return (1, GOOD, "") if value == value else (1, INVALID, "")
    return 1, QUALITIES[doubt.quality], doubt.reason[:REASON_LENGTH]
