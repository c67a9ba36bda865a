"""The store in use: its writer, its reader, and how another takes its place."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from meterd.config.settings import StoreSettings
from meterd.daemon.totals import following
from meterd.errors import StoreError
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll, Sink
from meterd.store.reader import Reader
from meterd.store.rescue import Precautions
from meterd.store.share import Share
from meterd.store.tools.correct import Corrections
from meterd.store.writer import Writer

# The writer wakes at least once a commit; so long after that it is stuck.
_PATIENCE = 120.0

# Seconds between two looks whether a tool has ended.
_LOOK_EVERY = 1.0

log = logging.getLogger(__name__)


class Store:
    """One open store."""

    def __init__(self, settings: StoreSettings, share: Share | None) -> None:
        self.settings = settings
        self.share = share
        self.writer = _writer(settings, share)
        self.reader = Reader(settings.url, self.writer.memory)
        self.corrections = Corrections(
            self.writer, self.reader, following(self.writer, self.reader)
        )
        self.finishing: asyncio.Task[None] | None = None

    async def finish(self) -> None:
        """Corrections that were broken off before this start."""
        try:
            done = await self.corrections.finish(SystemClock().now_ms())
        except StoreError as error:
            log.warning("corrections that were broken off wait for the next one: %s", error)
            return
        for one in done:
            log.warning("correction %d was broken off; it is finished now", one.id)

    async def close(self) -> None:
        if self.finishing is not None:
            self.finishing.cancel()
            await asyncio.gather(self.finishing, return_exceptions=True)
        # The last connection to SQLite's file puts its log away, and that has to be the writer's.
        self.reader.rest()
        await self.writer.close()
        self.reader.close()

    def silence(self, now: float) -> float | None:
        """Seconds since the writer's last sign of life, where that is too long ago."""
        silence = now - self.writer.status.alive
        return silence if silence > self.settings.commit + _PATIENCE else None


class _Waiting:
    """Keeps polls while no writer is there to take them."""

    def __init__(self) -> None:
        self.polls: list[Poll] = []

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)


async def replaced(
    old: Store | None,
    settings: StoreSettings,
    share: Share | None,
    use: Callable[[Sink], None],
) -> Store:
    """The store of these settings, open; the old one is closed.

    `use` makes a sink the one that takes polls. Another store is opened before the old one is
    closed; the same one has one writer at a time, and polls wait while it changes.
    Raises StoreError: the old store is then in use as it was.
    """
    if old is None or _urls(old.settings) != _urls(settings):
        store = await _opened(settings, share)
        use(store.writer)
        if old is not None:
            await old.close()
        return store
    waiting = _Waiting()
    use(waiting)
    await old.close()
    try:
        store = await _reopened(settings, share)
    except StoreError:
        again = await _reopened(old.settings, old.share)
        old.writer, old.reader, old.corrections = again.writer, again.reader, again.corrections
        old.finishing = again.finishing
        _hand_on(waiting, old, use)
        raise
    _hand_on(waiting, store, use)
    return store


def _hand_on(waiting: _Waiting, store: Store, use: Callable[[Sink], None]) -> None:
    use(store.writer)
    for poll in waiting.polls:
        store.writer.take(poll)


async def _opened(settings: StoreSettings, share: Share | None) -> Store:
    store = Store(settings, share)
    try:
        await store.writer.open()
    except StoreError:
        store.reader.close()
        raise
    store.finishing = asyncio.create_task(store.finish())
    return store


async def _reopened(settings: StoreSettings, share: Share | None) -> Store:
    """The lock was free for a moment: a tool that took it then is waited for, as polls wait."""
    clock, is_told = SystemClock(), False
    while True:
        try:
            return await _opened(settings, share)
        except StoreError as error:
            if error.code != "busy":
                raise
            if not is_told:
                log.warning("polls wait in memory: %s", error)
                is_told = True
        await clock.sleep(_LOOK_EVERY)


def _urls(settings: StoreSettings) -> Sequence[str]:
    return (settings.url,) if isinstance(settings.url, str) else tuple(settings.url)


def _writer(settings: StoreSettings, share: Share | None) -> Writer:
    spool = settings.spool
    return Writer(
        settings.url,
        commit=settings.commit,
        keep=settings.keep.raw,
        rows=settings.rows,
        to_file=settings.journal == "file",
        precautions=Precautions(
            memory=spool.memory,
            spool=None if spool.file is None else Path(spool.file).absolute(),
            size=spool.size,
            reserve=settings.reserve,
        ),
        share=share,
    )
