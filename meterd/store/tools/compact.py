"""Makes a store small again while no meterd runs: one block a day, and no free pages."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import func, insert, select

from meterd.errors import StoreCode, StoreError
from meterd.store.blocks.slicing import DAY, HOUR
from meterd.store.compaction.days import MOST_POLLS
from meterd.store.compaction.session import StoreSession
from meterd.store.db import store_url as databases
from meterd.store.db.keys import dirty_id, dirty_of
from meterd.store.db.lockfile import Claim, claimed
from meterd.store.db.schema import block, dirty
from meterd.store.tools.overview import size
from meterd.store.writer import Writer

_T = TypeVar("_T")


async def compact(url: str | Sequence[str], now: int, *, hours: bool = True) -> tuple[int, int]:
    """Merges small blocks of past days, and gives SQLite's free pages back; `now` is Unix ms.

    `hours`: whether the plain rows of their hours are kept.
    Returns how many blocks there were and are. Raises StoreError: already_running, busy, …
    """
    place = databases.find(url)
    if not place.made():
        raise StoreError(f"{place.label}: there is no store yet", code=StoreCode.NO_STORE)
    claim = claimed("meterd db compact", 3 * size(place))
    writer_of = partial(Writer, url, hours=hours, claim=claim)
    before = await _with_writer(writer_of, lambda writer: writer.do(partial(_mark_dirty, now=now)))
    await _with_writer(writer_of, lambda writer: writer.settle())
    after = await _with_writer(writer_of, lambda writer: writer.do(_blocks))
    await asyncio.to_thread(_vacuum, url, claim)
    return before, after


async def _with_writer(
    writer_of: Callable[[], Writer], work: Callable[[Writer], Coroutine[Any, Any, _T]]
) -> _T:
    writer = writer_of()
    await writer.open()
    try:
        return await work(writer)
    finally:
        await writer.close()


def _blocks(session: StoreSession) -> int:
    with session.transaction() as connection:
        return connection.scalar(select(func.count()).select_from(block)) or 0


def _mark_dirty(session: StoreSession, now: int) -> int:
    """Past days whose blocks fit in one are to be closed again; returns the blocks there are."""
    polls: dict[int, list[int]] = {}
    with session.transaction() as connection:
        for key, n in connection.execute(select(block.c.id, block.c.n)):
            owner, start = dirty_of(key)
            polls.setdefault(dirty_id(owner, start // DAY), []).append(n)
        limit = (now - HOUR) // DAY
        known = set(connection.scalars(select(dirty.c.id)))
        split = [
            {"id": key}
            for key, counts in polls.items()
            if len(counts) > 1 and sum(counts) <= MOST_POLLS and dirty_of(key)[1] < limit
            if key not in known
        ]
        if split:
            connection.execute(insert(dirty), split)
    return sum(map(len, polls.values()))


def _vacuum(url: str | Sequence[str], claim: Claim) -> None:
    place = databases.find(url)
    if place.path is None:
        return
    lock = place.lock(claim)
    try:
        with place.mapped():
            connection = sqlite3.connect(place.path, isolation_level=None)
            try:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()
    finally:
        lock.release()
