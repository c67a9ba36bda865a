"""Answers history in short read-only transactions, and from what is in memory.

numpy, which takes 12 MiB, is loaded with the first question.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from meterd.errors import StoreCode, StoreError
from meterd.model.quantity import Kind, describe
from meterd.store.blocks.rollup import Quarters
from meterd.store.db import foreign_rows, migrate, store_url
from meterd.store.db.connections import Database
from meterd.store.db.file_identity import GoneError
from meterd.store.db.quarantine import readable_rows
from meterd.store.head.catalog import Catalog, Name
from meterd.store.head.head import Head
from meterd.store.head.replay import journal_rows, replay
from meterd.store.head.view import HeadView, ReadableHead
from meterd.store.query import day_reader
from meterd.store.query.day_reader import DaySamples
from meterd.store.query.range_query import SeriesInfo, SeriesPoints, SeriesRequest
from meterd.store.wal import file_wal

if TYPE_CHECKING:
    from meterd.store.query.block_cache import BlockCache
    from meterd.store.query.range_reader import Moment
    from meterd.store.query.series_array import SeriesArray, Times
    from meterd.store.query.window_aggregates import WindowAggregates

_LAST_STATEMENT = 8.0  # seconds for a statement that is under way at the end
_THREADS = 2  # so that one long question does not hold up the quick ones

# More than any number of a series.
_UNNUMBERED = 1 << 62

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Reader:
    """History of one store; `memory` is its writer's, in the same process.

    Before the store is made, only what is in memory is there.
    """

    def __init__(self, url: str | Sequence[str], memory: HeadView) -> None:
        """Raises StoreError for a URL that means no database."""
        self._database = store_url.find(url, kept=_THREADS)
        self._memory = memory
        memory.catalog.readers.append(self._database.let_go)
        self._made = False
        self._closed = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="meterd-read")

    @cached_property
    def _decoded(self) -> "BlockCache":
        from meterd.store.query.block_cache import BlockCache

        return BlockCache()

    @classmethod
    def outside(cls, url: str | Sequence[str]) -> "Reader":
        """A reader in another process than the writer's: it sees committed polls.

        Raises StoreError, also where there is no store.
        """
        place = store_url.find(url)
        if not place.made():
            raise StoreError(f"{place.label}: there is no store yet", code=StoreCode.NO_STORE)
        catalog = Catalog()
        head = Head(catalog.renamed)
        with place.reading() as connection, readable_rows(place.label):
            if migrate.is_current(connection):
                _legible(place, connection)
                catalog.load(connection)
                replay(journal_rows(connection), head, catalog)
        if place.path is not None:
            contents = file_wal.read(file_wal.path_beside(place.path), catalog)
            for damaged, _ in contents.damages:
                _log.error("%s", damaged)
            for poll in contents.polls:
                head.take(poll)
        return cls(url, HeadView(head, catalog))

    def close(self) -> None:
        """Questions under way are answered; those that follow raise StoreError (unavailable)."""
        self._closed = True
        # The end of the process waits for its threads.
        self._database.hurry(_LAST_STATEMENT)
        self._pool.shutdown(wait=False)
        readers = self._memory.catalog.readers
        if self._database.let_go in readers:
            readers.remove(self._database.let_go)
        self._database.rest()

    def rest(self) -> None:
        """Holds nothing of the store between two questions: its writer wants to close it."""
        self._database.rest()

    async def series(self) -> list[SeriesInfo]:
        """Every series that holds samples, by device and quantity. Raises StoreError."""
        return await self._run(lambda _: self.names())

    async def range(
        self,
        devices: Sequence[str] | None,
        quantities: Sequence[str] | None,
        start: int,
        end: int,
        step: int,
        agg: str,
        edges: Sequence[int] = (),
    ) -> list[SeriesPoints]:
        """The points of start <= time < end (Unix ms); series without any are left out.

        `step` in ms makes buckets at its multiples since 1970, stamped with their start; a
        bucket without samples has no point. `edges` (Unix ms, rising, the first at or before
        `start`) are where buckets begin instead, as local days do. A step of 0 gives the samples
        as they are. Neither null values nor those of quality invalid count. None for names
        means all of them.
        Where raw samples are deleted, quarter hours stand for them.
        Raises StoreError: too_much, unavailable, newer_schema, corrupt; ValueError.
        """
        request = SeriesRequest.of(devices, quantities, start, end, step, agg, edges)
        return await self._run(partial(self._range, request))

    def _range(self, request: SeriesRequest, abandoned: threading.Event) -> list[SeriesPoints]:
        from meterd.store.query import range_reader

        names = sorted(name for name in self._names() if request.wants(name))
        answers = self._answer(
            names, abandoned, lambda moment: list(range_reader.points(moment, names, request))
        )
        return [SeriesPoints(*name, points) for name, points in answers if points]

    def names(self) -> list[SeriesInfo]:
        """Every series that holds samples; to be called in a thread. Raises StoreError."""
        extents = self._memory.head.extents()
        infos: list[SeriesInfo] = []
        for name, entry in self._memory.catalog.series.copy().items():
            first, last = entry.first, entry.last
            recent = extents.pop(name, None)
            if recent is not None:
                first = recent[0] if first is None else min(first, recent[0])
                last = recent[1] if last is None else max(last, recent[1])
            if first is not None and last is not None:
                infos.append(SeriesInfo(*name, entry.kind, first, last))
        # Those that wait for their first commit.
        infos += [SeriesInfo(*name, _kind(name), *extent) for name, extent in extents.items()]
        return sorted(infos, key=attrgetter("device", "quantity", "unit"))

    def _names(self) -> set[Name]:
        """Of all series, whether committed or not."""
        return {*self._memory.catalog.series, *self._memory.head.names()}

    def has(self, name: Name) -> bool:
        """Whether there is such a series, committed or not."""
        return name in self._memory.catalog.series or name in self._memory.head.names()

    def columns(
        self, names: Sequence[Name], start: int, end: int, *, most: int | None = None
    ) -> list["SeriesArray"]:
        """For each name, times with start <= time < end and values; nulls are NaN.

        To be called in a thread. Raises StoreError: too_much beyond `most` samples, …
        """
        from meterd.store.query import range_reader

        question = partial(range_reader.sample_arrays, names=names, start=start, end=end, most=most)
        arrays = self._answer(names, threading.Event(), question)
        return [arrays[name] for name in names]

    def window_aggregates(
        self, names: Sequence[Name], starts: "Times", ends: "Times", agg: str
    ) -> list["WindowAggregates | None"]:
        """For each name, avg, sum, min, max or count of each window start < time <= end (Unix ms).

        None for a series whose samples had better be asked; for all of them where windows do not
        begin and end at half hours. To be called in a thread. Raises StoreError.
        """
        from meterd.store.query import window_aggregates

        if not window_aggregates.fits(starts, ends):
            return [None] * len(names)

        question = partial(
            window_aggregates.window_aggregates, names=names, starts=starts, ends=ends, agg=agg
        )
        return self._answer(names, threading.Event(), question)

    def day(self, device: str, day: int, wanted: Container[Name]) -> DaySamples | None:
        """A device's samples of a UTC day (days since 1970) with their qualities.

        To be called in a thread. Raises StoreError.
        """
        memory = self._memory
        label = self._database.label
        with same_store(memory.catalog), readable_rows(label, memory.catalog.doubt):
            return day_reader.day_samples(
                self._database, memory.head, memory.catalog, device, day, wanted
            )

    def days(self, name: Name) -> day_reader.DayList:
        """The UTC days on which a series has samples.

        To be called in a thread. Raises StoreError.
        """
        return day_reader.days_with_samples(
            self._database, self._memory.head, self._memory.catalog, name
        )

    def ordered(self, names: Sequence[Name]) -> list[Name]:
        """As the store numbers them, which is how each device gave them first."""
        stored = self._memory.catalog.series
        # What no commit has numbered yet follows, as it was given.
        numbers = {name: stored[name].id for name in names if name in stored}
        return sorted(names, key=lambda name: numbers.get(name, _UNNUMBERED))

    def quarters(self, name: Name, start: int, end: int) -> Quarters:
        """A counter's quarter hours by number, those that begin at start <= time < end.

        To be called in a thread. Raises StoreError.
        """
        from meterd.store.query import range_reader
        from meterd.store.query.counter_reader import counter_of

        question = partial(range_reader.quarters, name=name, start=start, end=end)
        return self._answer([name, *counter_of(name)], threading.Event(), question)

    async def _run(self, question: Callable[[threading.Event], _T]) -> _T:
        abandoned = threading.Event()
        loop = asyncio.get_running_loop()
        if self._closed:
            raise StoreError(
                "another store is in use by now; ask again", code=StoreCode.UNAVAILABLE
            )
        try:
            return await loop.run_in_executor(self._pool, question, abandoned)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    def _answer(
        self, names: Sequence[Name], abandoned: threading.Event, question: "Callable[[Moment], _T]"
    ) -> _T:
        from meterd.store.query.range_reader import Moment

        catalog = self._memory.catalog
        with same_store(catalog), readable_rows(self._database.label, catalog.doubt):
            # Memory first: what is sealed in between is then seen twice, never not at all.
            head = _recent(self._memory.head, frozenset(names))
            if not self._database.made():
                return question(Moment(None, catalog, head, abandoned, self._decoded))
            with self._database.reading(abandoned) as connection:
                # An empty file gets its tables with the first commit.
                self._made = self._made or migrate.version(connection) is not None
                there = connection if self._made else None
                return question(Moment(there, catalog, head, abandoned, self._decoded))


def _legible(place: Database, connection: Connection) -> None:
    """Raises StoreError (corrupt) where names and numbers are none."""
    if place.path is None:
        return
    for flaw in foreign_rows.find_rows(connection, foreign_rows.NAMES):
        text = f"{place.label}: {flaw}; start meterd once, which puts it aside"
        raise StoreError(text, code=StoreCode.CORRUPT)


@contextmanager
def same_store(catalog: Catalog) -> Iterator[None]:
    """Within it, all that is found is of the database that the catalog's numbers are of.

    Raises GoneError where another file has its place, at the beginning or the end.
    """
    before = catalog.files
    if before is not None:
        before.check()
    yield
    after = catalog.files
    if before is not None:
        if after is None or after.database != before.database:
            raise GoneError(f"{before.path} became another file meanwhile; ask again")
        before.check()


def _recent(head: ReadableHead, names: frozenset[Name]) -> "dict[Name, SeriesArray]":
    from meterd.store.query.series_array import SharedTimes, of_batch

    arrays: dict[Name, list[SeriesArray]] = {}
    for device in {name[0] for name in names}:
        for batch in head.batches(device):
            for name, array in of_batch(batch, names):
                arrays.setdefault(name, []).append(array)
    shared = SharedTimes()
    return {name: shared.concatenate(parts) for name, parts in arrays.items()}


def _kind(name: Name) -> Kind:
    described = describe(name[1], name[2])
    return described.kind if described else Kind.GAUGE
