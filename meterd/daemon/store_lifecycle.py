"""Life cycle of the store: opens writer and reader, and replaces them at a reload."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from meterd.config.settings import Settings, StoreSettings
from meterd.daemon.cluster import Cluster, share_of
from meterd.daemon.corrected_totals import following
from meterd.daemon.reload import PreparedChange, Unchanged, contained, to_the_end
from meterd.errors import StoreCode, StoreError
from meterd.model.clock import SystemClock
from meterd.model.sample import Sink
from meterd.store.cluster.lease_state import LeaseState
from meterd.store.cluster.leases import Leases
from meterd.store.db import migrate, store_url
from meterd.store.engine.spool_policy import SpoolOptions, WriterOptions
from meterd.store.reader import Reader
from meterd.store.tools.correct import Corrections, Recount
from meterd.store.writer import Writer

# The writer wakes at least once a commit; so long after that it is stuck.
_PATIENCE = 120.0
# Seconds that a store which was opened in vain gets to close before it is left to itself.
_ABANDON_S = 5.0

log = logging.getLogger(__name__)

Recounting = Callable[[Writer, Reader], Recount]
"""Makes what counts the guarded totals of a store anew."""


class Store:
    """One open store."""

    def __init__(
        self,
        settings: StoreSettings,
        share: LeaseState | None = None,
        *,
        patient: bool = False,
        recounting: Recounting = following,
    ) -> None:
        """`patient`: whatever keeps it from being opened is waited for, while polls are kept.
        `recounting` makes what counts guarded totals anew after a correction.

        Raises StoreError for settings that mean no store.
        """
        self.settings = settings
        self.share = share
        self.writer = _writer(settings, share, patient=patient)
        self.reader = Reader(settings.url, self.writer.memory)
        recount = recounting(self.writer, self.reader)
        self.corrections = Corrections(self.writer, self.reader, recount)
        self.finishing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Opens the store. Raises StoreError, or is cancelled; it is closed then."""
        try:
            await self.writer.open()
        except BaseException:
            await to_the_end(self.abandon())
            raise

    def go_on(self) -> None:
        """Corrections that were broken off are finished in the background.

        To be called once its polls come, so that the counters that are polled hear of it.
        """
        if self.finishing is None or self.finishing.done():
            self.finishing = asyncio.create_task(self.finish())

    async def finish(self) -> None:
        """Corrections that were broken off before this start, or by who polled a device before."""
        try:
            done = await self.corrections.finish(SystemClock().now_ms())
        except StoreError as error:
            log.warning("corrections that were broken off wait for the next one: %s", error)
            return
        for correction in done:
            log.warning("correction %d was broken off; it is finished now", correction.id)

    def tune(self, settings: StoreSettings) -> None:
        """Other settings of the same store, which stays open. Never fails: see `check`."""
        self.settings = settings
        self.writer.tune(_options(settings))

    async def close(self, heir: Sink | None = None) -> None:
        """`heir` gets the polls that could not be committed."""
        await self._stop_finishing()
        # The last connection to SQLite's file puts its log away, and that has to be the writer's.
        self.reader.rest()
        await self.writer.close(heir=heir)
        self.reader.close()

    async def abandon(self) -> None:
        """It was never in use. A server that does not answer is not waited for."""
        await self._stop_finishing()
        self.reader.rest()
        await self.writer.close(wait=_ABANDON_S)
        self.reader.close()

    async def _stop_finishing(self) -> None:
        if self.finishing is not None:
            self.finishing.cancel()
            await asyncio.gather(self.finishing, return_exceptions=True)

    def silence(self, now: float) -> float | None:
        """Seconds since the writer's last sign of life, where that is too long ago."""
        silence = now - self.writer.status.alive
        return silence if silence > self.settings.commit + _PATIENCE else None


class StorePart:
    """The store that the site uses, and the leases of its devices where meterds share it."""

    def __init__(
        self,
        cluster: Cluster,
        use: Callable[[Sink], None],
        remember: Callable[[Writer], Awaitable[None]],
        recounting: Recounting = following,
    ) -> None:
        """`use` makes a sink the one that takes polls.

        `remember` notes in a writer what is to outlive the process: in one before it is closed,
        and in one that takes the place of another. `recounting` as a Store has it.
        """
        self.store: Store | None = None
        self.cluster = cluster
        self.use = use
        self.remember = remember
        self.recounting = recounting

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        """Raises StoreError.

        A store that is the same file, whatever its URL says, or the same URL of a server, stays
        open with its lock, its memory and its reader: only the settings change. Another one is
        open before the old one is closed; for one on a server that changes see _Successor.
        """
        if settings is None:
            return _Closing(self)
        old, wanted = self.store, settings.store
        leases = self.cluster.prepare(settings)
        share = share_of(leases)
        if old is None or _places(old.settings).isdisjoint(_places(wanted)):
            if old is not None:
                _check_spools(old, wanted)
            store = Store(wanted, share, recounting=self.recounting)
            await store.open()
            return _Opened(self, store, leases, settings)
        is_file = store_url.find(wanted.url).path is not None
        if is_file or (old.share is share and old.settings.url == wanted.url):
            old.writer.check(_options(wanted))
            return _Tuned(self, old, settings)
        store = Store(wanted, share, patient=True, recounting=self.recounting)
        try:
            await asyncio.to_thread(_look_into, wanted)
        except BaseException:
            store.reader.close()
            raise
        return _Successor(self, store, leases, settings)


class _Closing(Unchanged):
    """The end: nothing takes its place."""

    def __init__(self, part: StorePart) -> None:
        self._part = part

    async def commit(self) -> None:
        await self._part.cluster.stop()

    async def retire(self) -> None:
        old, self._part.store = self._part.store, None
        if old is not None:
            await self._part.remember(old.writer)
            await old.close()
        await self._part.cluster.close()


class _Tuned(Unchanged):
    """The same store with other settings."""

    def __init__(self, part: StorePart, store: Store, settings: Settings) -> None:
        self._part = part
        self._store = store
        self._settings = settings

    async def commit(self) -> None:
        if self._store.settings != self._settings.store:
            self._store.tune(self._settings.store)
        self._part.cluster.tune(self._settings.cluster)

    async def retire(self) -> None:
        # Of a cluster's devices, others may be polled here from now on.
        if self._store.share is not None:
            self._store.go_on()


class _Opened:
    """A store that is open beside the one in use, or the first one."""

    def __init__(
        self, part: StorePart, store: Store, leases: Leases | None, settings: Settings
    ) -> None:
        self._part = part
        self._new = store
        self._old = part.store
        self._leases = leases
        self._settings = settings

    async def commit(self) -> None:
        self._part.store = self._new
        self._part.use(self._new.writer)
        if self._old is not None:
            await self._part.remember(self._new.writer)

    async def retire(self) -> None:
        if self._old is not None:
            await self._part.remember(self._old.writer)
            await contained(partial(self._old.close, self._new.writer))
        await self._part.cluster.start(self._leases, self._settings.cluster)
        await self._opened()

    async def _opened(self) -> None:
        self._new.go_on()

    async def abandon(self) -> None:
        await self._new.abandon()


class _Successor(_Opened):
    """The same store on a server with other credentials, or with or without a cluster.

    A server's lock is its session's, and cannot be taken over: the new writer keeps polls from
    the moment it is in use, and opens once the old one has committed and closed.
    """

    async def _opened(self) -> None:
        await self._new.open()
        self._new.go_on()

    async def abandon(self) -> None:
        self._new.reader.close()


def _look_into(settings: StoreSettings) -> None:
    """Raises StoreError where a writer of these settings would find no store of ours."""
    with store_url.find(settings.url).reading() as connection:
        migrate.is_current(connection)


def _places(settings: StoreSettings) -> frozenset[str]:
    """The places of a store, independent of spelling and login. Raises StoreError."""
    return store_url.find(settings.url).places


def _check_spools(old: Store, wanted: StoreSettings) -> None:
    """Polls of one store may not be taken for those of another. Raises StoreError."""
    file = wanted.spool.file
    if file is None or file != old.settings.spool.file:
        return
    status = old.writer.status
    if status.spooled or not status.writable:
        text = (
            f"{file} is the spool of the store in use, which has polls in it or may need it at any "
            "moment; give the new store another spool.file, or wait until the old one is writable"
        )
        raise StoreError(text, code=StoreCode.SETTINGS)


def _options(settings: StoreSettings) -> WriterOptions:
    spool = settings.spool
    return WriterOptions(
        commit=settings.commit,
        keep=settings.keep.raw,
        rows=settings.rows,
        hours=settings.plain_hours,
        to_file=settings.journal == "file",
        precautions=SpoolOptions(
            memory=spool.memory,
            spool=None if spool.file is None else Path(spool.file).absolute(),
            size=spool.size,
            reserve=settings.reserve,
        ),
    )


def _writer(settings: StoreSettings, share: LeaseState | None, *, patient: bool) -> Writer:
    options = _options(settings)
    return Writer(
        settings.url,
        commit=options.commit,
        keep=options.keep,
        rows=options.rows,
        hours=options.hours,
        to_file=options.to_file,
        precautions=options.precautions,
        share=share,
        patient=patient,
    )
