"""The sink that keeps polls: group commits by one thread, while the event loop goes on."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from meterd.errors import GeneralCode, StoreCode, StoreError
from meterd.model.clock import Clock, SystemClock
from meterd.model.event import Notice
from meterd.model.sample import Poll, Sink
from meterd.store.cluster.lease_state import LeaseState
from meterd.store.compaction.session import StoreSession
from meterd.store.db import store_url
from meterd.store.db.lockfile import Claim
from meterd.store.db.renames import Rename, RenameError, memos_renamed
from meterd.store.db.writer_lease import WriterLease
from meterd.store.engine.spool_policy import SpoolOptions, SpoolPolicy, WriterOptions
from meterd.store.engine.storage_engine import BATCH, Absorb, StorageEngine
from meterd.store.engine.store_thread import StoreThread
from meterd.store.engine.thread_calls import closed_error
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.head.view import HeadView
from meterd.store.wal import file_wal
from meterd.store.wal.spool import pack, unpack

_log = logging.getLogger(__name__)

_PUT = 16  # batches in one transaction

_T = TypeVar("_T")

_NOTICES_LIMIT = 500
# Seconds at the end: for a statement, and for the thread as a whole. After that its polls are
# spooled, and nobody waits for it; systemd and Docker would kill us after 30.
_LAST_STATEMENT = 5.0
_END = 20.0


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """How the writer fares. `queued`, `committed` and `dropped` count samples.

    `last_commit` is in Unix seconds, 0 before the first; `took` is what that commit took, in
    seconds. `alive` is the monotonic time of the thread's last sign of life, in seconds: it
    may be as old as one commit takes; far older means that the disk, or the thread, hangs.
    `code` is that of the StoreError behind `error`. `spooled` samples are in files, as the store
    could not take them yet; `set_aside` counts database files that were damaged, `begun_anew`
    how often another file had the database's name. `due` is the monotonic time at which something
    is to be sealed, closed or tidied; meanwhile it is soon. `spool_error` says why the spool
    cannot be written, where it has to be.
    """

    writable: bool
    queued: int
    committed: int
    dropped: int
    last_commit: float
    took: float
    error: str
    alive: float
    code: str = ""
    spooled: int = 0
    set_aside: int = 0
    due: float = 0.0
    begun_anew: int = 0
    spool_error: str = ""


class Writer:
    """Keeps every poll it takes; the one writer of its store.

    Every `commit` seconds all that waits becomes one transaction. What fails waits on as
    `precautions` say. Writing twice is harmless: the last sample of a time and series wins. Raw
    samples older than `keep` seconds are deleted; None keeps them for ever. `rows`: each sample is
    a plain row of a table, too, for so many seconds. `to_file`: commits go to a file beside the
    database, which spares flash; the database gets the hours, sealed.
    `confirmed` is called in the thread with what each transaction wrote, once it is on disk.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        commit: float = 30.0,
        keep: float | None = None,
        rows: float | None = None,
        hours: bool = True,
        to_file: bool = False,
        precautions: SpoolOptions | None = None,
        clock: Clock | None = None,
        confirmed: Callable[[Sequence[SeriesBatch]], None] | None = None,
        share: LeaseState | None = None,
        claim: Claim | None = None,
        patient: bool = False,
    ) -> None:
        """`claim` is a tool's. `patient`: a server's store is waited for, whatever keeps it away.

        Raises StoreError for a URL that means no database.
        """
        self._share = share
        self._database = store_url.find(url, shared=share is not None)
        self._clock = clock or SystemClock()
        # What is noticed of the store, for the daemon's events; it takes them out.
        self.notices: deque[Notice] = deque(maxlen=_NOTICES_LIMIT)
        catalog = Catalog()
        writer_lease = WriterLease(self._database.path, claim, commit)
        self._head = head = Head(catalog.renamed)
        seen = head if share is None else share.serve(head, catalog, self.flush)
        self.memory = HeadView(seen, catalog)
        self._engine = StorageEngine(
            self._database,
            head,
            catalog,
            clock=self._clock,
            keep=keep,
            rows=rows,
            hours=hours,
            to_file=to_file,
            share=share,
            notices=self.notices,
            writer_lease=writer_lease,
        )
        spooling = self._clock, precautions or SpoolOptions(), self.notices
        self._spool_policy = SpoolPolicy(self._database, head, self._engine, *spooling)
        self._store_thread = StoreThread(
            self._database,
            head,
            self._engine,
            self._spool_policy,
            clock=self._clock,
            commit=commit,
            confirmed=confirmed,
            claim=claim,
            notices=self.notices,
            patient=patient,
            writer_lease=writer_lease,
        )
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Takes the lock, brings the schema up to date, starts the thread. Once only.

        A server that cannot be reached is waited for: `status` says so. Raises StoreError:
        already_running, busy, newer_schema, corrupt, full, unavailable.
        """
        asked: asyncio.Future[None] = self._store_thread.calls.add()
        self._thread = threading.Thread(
            target=self._store_thread.run, name="meterd-store", daemon=True
        )
        self._thread.start()
        try:
            await asked
        except asyncio.CancelledError:
            # Nobody waits for it: once it is open, it closes.
            self._store_thread.stopping = True
            self._store_thread.wake.set()
            raise

    def take(self, poll: Poll) -> None:
        """Appends a poll; never waits for the disk, never raises."""
        self._head.take(poll)

    async def put(self, late: Sequence[SeriesBatch]) -> None:
        """Replaces polls taken before, at once, off the loop.

        Unlike `take` it costs the loop nothing for each of them. Raises StoreError.
        """
        await self.flush()
        while late:
            # A commit may come between.
            some, late = late[:_PUT], late[_PUT:]
            await self.do(partial(self._put, some))

    def _put(self, some: Sequence[SeriesBatch], _: StoreSession) -> None:
        self._store_thread.put(some)

    def writes_for(self, device: str) -> bool:
        """Whether polls of the device are ours to keep, or another meterd's (cluster/leases.py)."""
        return self._share is None or device in self._share.held

    def remember(self, name: str, body: str) -> None:
        """Keep a text for the next start, with the next commit; the newest of a name stays."""
        self._store_thread.remember(name, body)

    def recall(self, name: str) -> str | None:
        """The memos from before this start."""
        recalled = self._store_thread.recalled if self._share is None else self._share.memos
        return recalled.get(name)

    @property
    def status(self) -> WriterStatus:
        store_thread, spool_policy = self._store_thread, self._spool_policy
        error = store_thread.error
        return WriterStatus(
            writable=store_thread.writable,
            queued=self._head.waiting,
            committed=store_thread.committed,
            dropped=spool_policy.dropped,
            last_commit=store_thread.last_commit,
            took=store_thread.took,
            error="" if error is None else str(error),
            alive=store_thread.alive,
            code="" if error is None else str(error.code),
            spooled=spool_policy.spooled,
            set_aside=spool_policy.set_aside,
            due=self._engine.due,
            begun_anew=spool_policy.begun_anew,
            spool_error="" if spool_policy.spool_error is None else str(spool_policy.spool_error),
        )

    def check(self, options: WriterOptions) -> None:
        """Raises StoreError where `tune` could not do what these say."""
        if options.to_file:
            file_wal.open_beside(self._database, self.memory.catalog)

    def tune(self, options: WriterOptions) -> None:
        """Applies other options; the store stays open and locked, and every poll is taken.

        What is committed by now is safe before and after; where the store cannot be written the
        journal moves as soon as it can.
        """
        self._store_thread.tune(options)

    async def flush(self) -> None:
        """Commits all polls taken so far. Raises StoreError where that fails."""
        if self._thread is None:
            raise closed_error()
        asked: asyncio.Future[None] = self._store_thread.calls.add()
        self._store_thread.wake.set()
        await asked

    async def seal(self) -> None:
        """Commits, and compacts full hours to blocks; days stay open. Raises StoreError."""
        self._store_thread.sealing = True
        await self.flush()

    async def settle(self) -> None:
        """Commits, and does now all that is due some time: sealing, closing days, retention.

        Raises StoreError where that fails.
        """
        self._store_thread.settling = True
        await self.flush()

    async def do(self, work: Callable[[StoreSession], _T]) -> _T:
        """What `work` returns; the thread calls it between two commits.

        What it changes goes through `session.transaction()`; it may raise StoreError only.
        Raises that.
        """
        if self._thread is None:
            raise closed_error()
        done = self._store_thread.calls.add(work)
        self._store_thread.wake.set()
        return await done

    async def rename(self, old: str, new: str, *, who: str, now: int) -> None:
        """A device of the store gets another name, with all its history; `now` is Unix ms.

        Raises RenameError where there is no such device, or another one has that name; StoreError.
        """
        # What waits in files knows devices by their names.
        await self.settle()
        devices = self.memory.catalog.devices
        if old not in devices:
            now_called = self.memory.catalog.renamed.get(old)
            hint = f": it is called {now_called} now" if now_called else ""
            raise RenameError(
                f"the store has no device {old}{hint}", code=GeneralCode.UNKNOWN_DEVICE
            )
        if new in devices:
            raise RenameError(
                f"the store has a device {new} already", code=GeneralCode.DEVICE_EXISTS
            )
        one = Rename(devices[old], old, new, now, who)
        await self.do(lambda _: self._engine.rename(one))
        self._store_thread.recalled = memos_renamed(self._store_thread.recalled, old, new)
        if self._share is not None:
            self._share.memos = memos_renamed(self._share.memos, old, new)
            held = self._share.held
            self._share.held = {new if name == old else name: it for name, it in held.items()}

    async def write_at_once(self, polls: Sequence[Poll]) -> None:
        """Writes old polls now, not with the next commit. Raises StoreError."""
        await self.do(lambda _: self._engine.write_at_once(polls))

    async def absorb(self, old: str, new: str, work: Absorb) -> None:
        """Gives a merged device's remaining rows to the device that has its samples. Raises
        StoreError.
        """
        if self._share is not None:
            text = "meterds of a cluster know both: stop all of them but one without `cluster:`"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)
        await self.do(lambda _: self._engine.absorb(old, new, work))
        self._store_thread.recalled = await self.do(lambda session: session.memos())

    async def close(self, *, wait: float | None = None, heir: Sink | None = None) -> None:
        """Commits everything and ends the thread. What cannot be kept is logged, not raised.

        After `wait` seconds, where they are given, the thread is left to end by itself; else after
        20 s, and what it has not written is spooled. Polls that the store cannot take go to `heir`,
        which takes them in another thread; a writer takes what is spooled, too.
        """
        thread = self._thread
        if thread is None:
            return
        self._store_thread.has_successor = heir is not None
        self._store_thread.stopping = True
        self._store_thread.wake.set()
        self._database.hurry(_LAST_STATEMENT)
        await asyncio.to_thread(thread.join, _END if wait is None else wait)
        if thread.is_alive() and wait is None and heir is None:
            await asyncio.to_thread(self._abandon)
        await asyncio.to_thread(self._store_thread.spooler.end)
        self._thread = None
        if heir is not None:
            await asyncio.to_thread(self._hand_on, heir)

    def inherit(self, spools: Sequence[Path]) -> None:
        """Takes over the spool files that another writer has given up. Thread-safe."""
        self._spool_policy.inherit(spools)
        self._store_thread.wake.set()

    def _abandon(self) -> None:
        """The thread hangs where nothing reaches it: a disk that does not answer, for instance."""
        self._spool_policy.spool_waiting()
        self._store_thread.calls.end()
        _log.error(
            "the store does not answer, and is not waited for any longer; %d samples are spooled, "
            "%d are lost",
            self._spool_policy.spooled,
            self._head.waiting,
        )

    def _hand_on(self, heir: Sink) -> None:
        # Of a thread that hangs, nobody waits for answers, and its spool is no more its own.
        self._store_thread.calls.end()
        spools = self._spool_policy.give_up()
        if isinstance(heir, Writer):
            heir.inherit(spools)
        while batches := self._head.uncommitted(BATCH):
            for poll in unpack(pack(batches)):
                heir.take(poll)
            self._head.forget(batches)
