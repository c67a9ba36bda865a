"""Polls to chunks for the WAL, and chunks of the WAL or the spool back to polls (replay)."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain
from operator import attrgetter

from sqlalchemy import Connection, select

from meterd.errors import StoreError
from meterd.model.sample import Layout, Poll, QualityFlag
from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk, RowBatch, merge
from meterd.store.db.quarantine import DamageError
from meterd.store.db.schema import journal
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head, PollRows, SeriesBatch
from meterd.store.head.series_batch import quality_flags_of

_LAYOUTS = 256  # that are remembered; one of 87 columns takes 8 KB

Names = Callable[[int], tuple[str, str, str]]
"""Device, quantity and unit of a series, by its number."""


class PollDecoder:
    """Makes polls of chunks; equal columns get one Layout."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._layouts: dict[tuple[int, ...], Layout] = {}

    def of(self, chunk: Chunk, device: str) -> Iterator[Poll]:
        """The polls of a chunk in time order. Polls that had no columns at all are not kept."""
        rows: list[list[tuple[int, float]]] = [[] for _ in chunk.times]
        doubts: dict[int, dict[int, QualityFlag]] = {}
        for column in chunk.columns:
            for row, value in zip(column.rows, column.values, strict=True):
                rows[row].append((column.series, value))
            for place, doubt in quality_flags_of(column):
                doubts.setdefault(column.rows[place], {})[column.series] = doubt
        for number, (time, cells) in enumerate(zip(chunk.times, rows, strict=True)):
            series = tuple(number_ for number_, _ in cells)
            values = tuple(value if value == value else None for _, value in cells)
            doubted = {
                place: doubts[number][cell]
                for place, cell in enumerate(series)
                if cell in doubts.get(number, ())
            }
            yield Poll(device, time, self.layout(series), values, doubted)

    def layout(self, series: tuple[int, ...]) -> Layout:
        """That of polls with these series."""
        if series not in self._layouts:
            self._layouts[series] = _layout_of(tuple(self._names(number)[1:] for number in series))
        return self._layouts[series]


@lru_cache(_LAYOUTS)
def _layout_of(columns: tuple[tuple[str, str], ...]) -> Layout:
    """One object for equal columns: meters of one map have the same, record after record."""
    return Layout.of(columns)


def journal_rows(connection: Connection) -> Iterator[tuple[int, list[Chunk]]]:
    """Every WAL row, oldest first, with its number. Raises StoreError (corrupt)."""
    numbers = list(connection.scalars(select(journal.c.id).order_by(journal.c.id)))
    for number in numbers:
        body = connection.scalar(select(journal.c.body).where(journal.c.id == number))
        try:
            chunks = commit_record.decode_rows(body or b"")
        except StoreError as error:
            raise DamageError("journal", number, str(error)) from error
        yield number, chunks


def replay(
    rows: Iterable[tuple[int, list[Chunk]]],
    head: Head,
    catalog: Catalog,
    strange: Callable[[DamageError, list[Chunk]], None] | None = None,
) -> dict[int, int]:
    """Takes the polls of WAL rows; returns the newest time (Unix ms) of each row.

    A row of devices or series that the store does not have is told to `strange`, with what is left
    of it besides, which is taken; without it that raises DamageError.
    """
    polls = _Replay(head, catalog)
    newest: dict[int, int] = {}
    # Closed at once where a row is refused: the rows may come out of a transaction.
    with closing(_each(rows)) as each:
        for number, held in each:
            chunks = held
            if who := polls.unknown_owner(chunks):
                text = f"it holds polls of {who}, which the store does not have"
                damaged = DamageError("journal", number, text)
                if strange is None:
                    raise damaged
                chunks = _known_chunks(chunks, catalog)
                strange(damaged, chunks)
            newest[number] = max((chunk.times[-1] for chunk in chunks), default=0)
            polls.take(chunks)
    polls.note()
    return newest


class _Replay:
    """Polls of WAL rows on their way into a head; what all rows have alike is looked at once."""

    def __init__(self, head: Head, catalog: Catalog) -> None:
        self._head = head
        self._catalog = catalog
        self._decoder = PollDecoder(lambda number: catalog.by_id[number].name)
        # By device and series: the first and the last time.
        self._extents: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}

    def unknown_owner(self, chunks: Iterable[Chunk]) -> str:
        """The first device or series that the catalogue lacks, or a series of another device,
        as text.
        """
        return _unknown_owner(
            [
                chunk
                for chunk in chunks
                if not isinstance(chunk, RowBatch) or (chunk.device, chunk.ids) not in self._extents
            ],
            self._catalog,
        )

    def take(self, chunks: Sequence[Chunk]) -> None:
        """Of one row, of devices and series that are known."""
        by_device: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            by_device.setdefault(chunk.device, []).append(chunk)
        for device, mine in by_device.items():
            sheets = [chunk for chunk in mine if isinstance(chunk, RowBatch)]
            if len(sheets) < len(mine) or not self._take_rows(device, sheets):
                self._take_each(device, mine)

    def _take_rows(self, device: int, sheets: Sequence[RowBatch]) -> bool:
        rows = [
            PollRows(self._decoder.layout(sheet.ids), sheet.times, sheet.values) for sheet in sheets
        ]
        if not self._head.take_rows(self._catalog.names[device], rows):
            return False
        for sheet in sheets:
            key, (first, last) = (device, sheet.ids), (sheet.times[0], sheet.times[-1])
            before = self._extents.get(key, (first, last))
            self._extents[key] = min(before[0], first), max(before[1], last)
        return True

    def _take_each(self, device: int, chunks: Sequence[Chunk]) -> None:
        self._catalog.note(chunks)
        name = self._catalog.names[device]
        decoded = (self._decoder.of(chunk, name) for chunk in chunks)
        # Layouts that took turns are chunks of their own.
        for poll in sorted(chain.from_iterable(decoded), key=attrgetter("time")):
            if poll.values:
                self._head.take(poll)

    def note(self) -> None:
        """Notes in the catalogue what is in the store, once all rows are taken."""
        for (_, ids), (first, last) in self._extents.items():
            self._catalog.note_extent(ids, first, last)


def _each(rows: Iterable[tuple[int, list[Chunk]]]) -> Generator[tuple[int, list[Chunk]]]:
    yield from rows


def _unknown_owner(chunks: Iterable[Chunk], catalog: Catalog) -> str:
    for chunk in chunks:
        name = catalog.names.get(chunk.device)
        if name is None:
            return f"device {chunk.device}"
        for column in chunk.columns:
            entry = catalog.by_id.get(column.series)
            if entry is None or entry.name[0] != name:
                return f"series {column.series} of {name}"
    return ""


def _known_chunks(chunks: Iterable[Chunk], catalog: Catalog) -> list[Chunk]:
    """The chunks without the devices and series that the catalogue lacks."""
    known = []
    for chunk in chunks:
        owned = {entry.id for entry in catalog.by_device.get(chunk.device, ())}
        columns = tuple(column for column in chunk.columns if column.series in owned)
        if columns:
            known.append(Chunk(chunk.device, chunk.times, columns))
    return known


def wal_chunks(batches: Sequence[SeriesBatch], catalog: Catalog) -> list[Chunk]:
    """The chunks of a WAL row for these batches, device by device."""
    by_device: dict[str, list[Chunk]] = {}
    for batch in batches:
        owner = catalog.device(batch.device)
        chunks = by_device.setdefault(batch.device, [])
        chunks += (chunk for chunk in batch.rows(owner, catalog.series_id) if chunk.times)
    return [chunk for chunks in by_device.values() for chunk in _for_journal(chunks)]


def _for_journal(chunks: list[Chunk]) -> list[Chunk]:
    """RowBatches as they are, since they encode faster; other chunks merged into one."""
    rows = len(chunks) == 1 or all(isinstance(chunk, RowBatch) for chunk in chunks)
    return chunks if rows else [merge(chunks)]
