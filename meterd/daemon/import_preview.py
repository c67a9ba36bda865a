"""Preview of an import: runs counter guards over stored and imported reads, writes nothing."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from meterd.daemon.counter_recount import (
    Cell,
    CounterHistory,
    Recounted,
    TermsOf,
    Work,
    counters_of,
    foretell,
)
from meterd.model.sample import Quality, QualityFlag
from meterd.poll.counter_guard import decimal
from meterd.poll.counter_replay import Raw
from meterd.poll.counters import is_guarded
from meterd.store.blocks.slicing import DAY
from meterd.store.db import replacements, store_url
from meterd.store.reader import Reader
from meterd.store.tools.csv_import import ImportedSample

_GOOD = QualityFlag(Quality.GOOD, "")
_TRUSTED = (Quality.GOOD, Quality.ESTIMATED)


class FileReads:
    """The rows of one counter in a file, in time order; of one time the last one's counts."""

    def __init__(self) -> None:
        self._times = array("q")
        self._values = array("d")
        self._lines = array("q")
        self._doubts: dict[int, QualityFlag] = {}  # by row
        self._order: Sequence[int] = ()

    def add(self, row: ImportedSample, line: int) -> None:
        if row.value is None or row.quality not in _TRUSTED:
            self._doubts[len(self._times)] = QualityFlag(row.quality, row.reason)
        self._times.append(row.time)
        self._values.append(0.0 if row.value is None else row.value)
        self._lines.append(line)

    def sort(self) -> None:
        """To be called once all rows are added."""
        newest = {time: row for row, time in enumerate(self._times)}
        self._order = array("q", [newest[time] for time in sorted(newest)])

    @property
    def span(self) -> tuple[int, int]:
        """Unix ms of the first and last row."""
        return self._times[self._order[0]], self._times[self._order[-1]]

    def days(self) -> set[int]:
        """UTC days since 1970."""
        return {time // DAY for time in self._times}

    def of(self, day: int) -> dict[int, Raw]:
        """By time, those of a day."""
        low, high = self._place(day * DAY), self._place((day + 1) * DAY)
        return {self._times[row]: self._read(row) for row in self._order[low:high]}

    def line(self, time: int) -> int | None:
        """The line of a read, None where it is not the file's."""
        place = self._place(time)
        is_there = place < len(self._order) and self._times[self._order[place]] == time
        return self._lines[self._order[place]] if is_there else None

    def _place(self, time: int) -> int:
        return bisect_left(self._order, time, key=self._times.__getitem__)

    def _read(self, row: int) -> Raw:
        doubt = self._doubts.get(row)
        time, value = self._times[row], self._values[row]
        return Raw(time, decimal(value)) if doubt is None else Raw(time, None, doubt)


class _Planned(CounterHistory):
    """The stored history of a device's counters as it would be after an import."""

    def __init__(
        self,
        reader: Reader | None,
        device: str,
        counters: Sequence[tuple[str, str]],
        added: Mapping[str, FileReads],
    ) -> None:
        self._stored = None if reader is None else CounterHistory(reader, device, counters)
        self._added = added

    def days(self) -> list[int]:
        there = set(self._stored.days()) if self._stored is not None else set()
        return sorted(there.union(*(reads.days() for reads in self._added.values())))

    def begins_later(self, quantity: str, first: int) -> bool:
        return self._stored is not None and self._stored.begins_later(quantity, first)

    def cells(self, day: int) -> dict[str, list[Cell]]:
        cells = self._stored.cells(day) if self._stored is not None else {}
        for quantity, reads in self._added.items():
            by_time = {cell.raw.time: cell for cell in cells.get(quantity, ())}
            for time, raw in reads.of(day).items():
                before = by_time.get(time)
                by_time[time] = Cell(raw, None if before is None else before.total)
            cells[quantity] = [by_time[time] for time in sorted(by_time)]
        return cells


def counter_reads(
    rows: Iterable[tuple[int, ImportedSample]],
) -> dict[tuple[str, str, str], FileReads]:
    """The rows of energy counters and users' own, with their lines, by device, quantity, unit."""
    by_name: dict[tuple[str, str, str], FileReads] = {}
    for line, row in rows:
        if is_guarded(row.quantity, row.unit):
            name = row.device, row.quantity, row.unit
            by_name.setdefault(name, FileReads()).add(row, line)
    for reads in by_name.values():
        reads.sort()
    return by_name


def foretold(
    url: str | Sequence[str] | None,
    device: str,
    found: Mapping[tuple[str, str, str], FileReads],
    terms: TermsOf,
) -> Recounted:
    """The events that the guards of a device would note for a file's reads, among the stored ones.

    `url`: the store's; None where there is none. Raises StoreError.
    """
    mine = {name[1:]: reads for name, reads in found.items() if name[0] == device}
    since = min(reads.span[0] for reads in mine.values())
    until = max(reads.span[1] for reads in mine.values())
    counters = dict(mine.keys())
    reader, swaps = None, list[int]()
    if url is not None:
        reader = Reader.outside(url)
        counters = {**dict(counters_of(reader, device, counters)), **counters}
        with store_url.find(url).reading() as connection:
            swaps = [replacement.at for replacement in replacements.read(connection, device)]
    listed = list(counters.items())
    try:
        added = {quantity: reads for (quantity, _), reads in mine.items()}
        history = _Planned(reader, device, listed, added)
        return foretell(Work(history, listed, since, until, terms, swaps), device)
    finally:
        if reader is not None:
            reader.close()
