"""Answers history from short read-only connections, and from what waits for its commit."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from meterd.model.quantity import Kind, describe
from meterd.model.sample import Poll
from meterd.store import database, edges, migrate, questions, unwritten
from meterd.store.asked import Asked, Name, SeriesInfo, SeriesPoints
from meterd.store.buckets import FOLDS, Buckets, State
from meterd.store.schema import device, series
from meterd.store.unwritten import Times

_THREADS = 2  # so that one long question does not hold up the quick ones
_STEPS = 100_000  # of SQLite's machine, some ms, between two looks whether to go on

_T = TypeVar("_T")
Points = dict[Name, list[tuple[int, float]]]
_Question = Callable[[Connection | None], _T]


class Reader:
    """History of one store; `pending` gives the polls that its writer has not confirmed.

    Before the store's file is made, only what is pending is there.
    """

    def __init__(self, url: str, pending: Callable[[], Sequence[Poll]]) -> None:
        """Raises StoreError for a URL that is no SQLite file."""
        self._path = database.locate(url)
        self._engine = database.reading(self._path)
        self._pending = pending
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="meterd-read")

    def close(self) -> None:
        """No question may follow; those under way end unheard."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def series(self) -> list[SeriesInfo]:
        """Every series that holds samples, by device and quantity. Raises StoreError."""
        # Before the store is read: what is committed in between is seen twice, never not at all.
        polls = self._pending()
        return await self._ask(partial(_all_series, polls))

    async def range(
        self,
        devices: Sequence[str] | None,
        quantities: Sequence[str] | None,
        start: int,
        end: int,
        step: int,
        agg: str,
    ) -> list[SeriesPoints]:
        """The points of start <= time < end (Unix ms); series without any are left out.

        `step` in ms makes buckets at its multiples since 1970, stamped with their start; a
        bucket without samples has no point. 0 gives the samples as they are. Neither null
        values nor those of quality invalid count. None for names means all of them.
        Raises StoreError: too_much, unavailable, newer_schema, corrupt; ValueError.
        """
        asked = Asked.of(devices, quantities, start, end, step, agg)
        polls = self._pending()
        return await self._ask(partial(_range, polls, asked))

    async def _ask(self, question: _Question[_T]) -> _T:
        abandoned = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, self._answer, question, abandoned)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    def _answer(self, question: _Question[_T], abandoned: threading.Event) -> _T:
        if not self._path.exists():
            return question(None)
        with database.mapped(self._path), self._connected(abandoned) as connection:
            made = migrate.version(connection) is not None
            return question(connection if made else None)

    @contextmanager
    def _connected(self, abandoned: threading.Event) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.set_progress_handler(abandoned.is_set, _STEPS)
            yield connection


def _all_series(polls: Sequence[Poll], connection: Connection | None) -> list[SeriesInfo]:
    found: dict[Name, SeriesInfo] = {}
    if connection is not None:
        for info in _stored_series(connection):
            found[info.device, info.quantity, info.unit] = info
    for name, (first, last) in unwritten.extents(polls).items():
        found[name] = _widened(found.get(name), name, first, last)
    return [found[name] for name in sorted(found)]


def _widened(known: SeriesInfo | None, name: Name, first: int, last: int) -> SeriesInfo:
    if known is not None:
        return SeriesInfo(*name, known.kind, min(known.first, first), max(known.last, last))
    described = describe(name[1], name[2])
    return SeriesInfo(*name, described.kind if described else Kind.GAUGE, first, last)


def _stored_series(connection: Connection) -> Iterator[SeriesInfo]:
    tail = edges.beyond(connection, edges.horizon(connection))
    younger = {one: (first, last) for one, first, last in tail}
    for row in connection.execute(select(device.c.name, series).join_from(series, device)):
        noted = (row.first, row.last, *younger.get(row.id, ()))
        times = [time for time in noted if time is not None]
        if times:
            ends = min(times), max(times)
            yield SeriesInfo(row.name, row.quantity, row.unit, Kind(row.kind), *ends)


def _range(
    polls: Sequence[Poll], asked: Asked, connection: Connection | None
) -> list[SeriesPoints]:
    """Row by row where stored and pending samples may meet, else in the store's buckets."""
    samples = unwritten.values(polls, asked)
    mixed = _mixed(asked, samples)
    names = {} if connection is None else questions.names(connection, asked)
    pieces: list[tuple[Name, int, State]] = []
    if connection is not None and names and asked.start < asked.end:
        questions.need_bounded(connection, (asked.start, asked.end))
        _underlay(samples, names, questions.raw(connection, list(names), mixed))
        for window in ((asked.start, mixed[0]), (mixed[1], asked.end)):
            found = questions.pieces(connection, list(names), window, asked.step, asked.agg)
            pieces += ((names[one], start, state) for one, start, state in found)
    points = _points(samples) if asked.step == 0 else _in_buckets(asked, samples, pieces)
    return [SeriesPoints(*name, points[name]) for name in sorted(points) if points[name]]


def _mixed(asked: Asked, own: Mapping[Name, Times]) -> questions.Window:
    """Where stored samples are read row by row: everywhere, if raw ones are asked for."""
    if asked.step == 0:
        return asked.start, asked.end
    times = [time for samples in own.values() for time in samples]
    return (min(times), max(times) + 1) if times else (asked.end, asked.end)


def _underlay(
    samples: dict[Name, Times],
    names: Mapping[int, Name],
    stored: Iterable[tuple[int, int, float]],
) -> None:
    """Adds what is stored, except where something newer is known of the same time."""
    by_series: dict[int, Times] = {one: {} for one in names}
    for one, time, value in stored:
        by_series[one][time] = value
    for one, times in by_series.items():
        samples[names[one]] = times | samples.get(names[one], {})


def _points(samples: Mapping[Name, Times]) -> Points:
    return {
        name: [(time, value) for time, value in sorted(times.items()) if value is not None]
        for name, times in samples.items()
    }


def _in_buckets(
    asked: Asked, samples: Mapping[Name, Times], pieces: Iterable[tuple[Name, int, State]]
) -> Points:
    found: dict[Name, Buckets] = defaultdict(lambda: Buckets(FOLDS[asked.agg], asked.step))
    for name, start, state in pieces:
        found[name].join(start, state)
    for name, times in samples.items():
        found[name].add((time, value) for time, value in times.items() if value is not None)
    return {name: buckets.points() for name, buckets in found.items()}
