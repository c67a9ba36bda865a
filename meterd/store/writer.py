"""The sink that keeps polls: group commits by one thread, while the event loop goes on."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from meterd.errors import StoreError
from meterd.model.clock import Clock, SystemClock
from meterd.model.sample import Poll
from meterd.store import database
from meterd.store.catalog import Catalog
from meterd.store.database import Held
from meterd.store.errands import Errand, Errands, closed
from meterd.store.hot import Hot, Stretch
from meterd.store.keeper import Keeper
from meterd.store.ledger import Ledger
from meterd.store.rescue import Precautions, Rescue
from meterd.store.share import Share

_TURNS = 5  # after conflicts with other transactions, and after mends
# A server that is not there yet is waited for; everything else that is wrong is told at once.
_AWAY = ("unreachable", "conflict")
_RETRY = 5.0  # seconds between two tries while the store cannot be written
_BEAT = 1.0  # seconds; the thread shows at least this often that it lives

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Memory:
    """What the writer knows that is not, or not only, in the database: for readers."""

    hot: Hot
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """How the writer fares. `queued`, `committed` and `dropped` count samples.

    `last_commit` is in Unix seconds, 0 before the first; `took` is what that commit took, in
    seconds. `alive` is the monotonic time of the thread's last sign of life, in seconds: it
    may be as old as one commit takes; far older means that the disk, or the thread, hangs.
    `code` is that of the StoreError behind `error`. `spooled` samples are in files, as the store
    could not take them yet; `set_aside` counts database files that were damaged.
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
        to_file: bool = False,
        precautions: Precautions | None = None,
        clock: Clock | None = None,
        confirmed: Callable[[Sequence[Stretch]], None] | None = None,
        share: Share | None = None,
    ) -> None:
        """Raises StoreError for a URL that means no database."""
        self._share = share
        self._database = database.find(url, shared=share is not None)
        self._commit = commit
        self._clock = clock or SystemClock()
        self._confirmed = confirmed
        self.memory = Memory(Hot(), Catalog())
        hot, catalog = self.memory.hot, self.memory.catalog
        self._keeper = Keeper(
            self._database,
            hot,
            catalog,
            clock=self._clock,
            keep=keep,
            rows=rows,
            to_file=to_file,
            share=share,
        )
        self._rescue = Rescue(
            self._database, hot, self._keeper, self._clock, precautions or Precautions()
        )
        self._memos: dict[str, str] = {}
        self._recalled: dict[str, str] = {}
        self._guard = threading.Lock()
        self._errands = Errands()
        self._wake = threading.Event()
        self._stopping = False
        self._settling = False
        self._thread: threading.Thread | None = None
        self._writable = False
        self._committed = 0
        self._last_commit = 0.0
        self._took = 0.0
        self._met = False  # whether the store has been open since the start
        self._error: StoreError | None = None
        self._alive = self._clock.monotonic()

    async def open(self) -> None:
        """Takes the lock, brings the schema up to date, starts the thread. Once only.

        A server that cannot be reached is waited for: `status` says so. Raises StoreError:
        already_running, newer_schema, corrupt, full, unavailable.
        """
        asked: asyncio.Future[None] = self._errands.add()
        self._thread = threading.Thread(target=self._run, name="meterd-store", daemon=True)
        self._thread.start()
        await asked

    def take(self, poll: Poll) -> None:
        """Never waits for the disk and never raises."""
        self.memory.hot.take(poll)

    def remember(self, name: str, body: str) -> None:
        """Keep a text for the next start, with the next commit; the newest of a name stays."""
        with self._guard:
            self._memos[name] = body

    def recall(self, name: str) -> str | None:
        """What was remembered before this start."""
        recalled = self._recalled if self._share is None else self._share.memos
        return recalled.get(name)

    @property
    def status(self) -> WriterStatus:
        return WriterStatus(
            writable=self._writable,
            queued=self.memory.hot.waiting,
            committed=self._committed,
            dropped=self._rescue.dropped,
            last_commit=self._last_commit,
            took=self._took,
            error="" if self._error is None else str(self._error),
            alive=self._alive,
            code="" if self._error is None else self._error.code,
            spooled=self._rescue.spooled,
            set_aside=self._rescue.set_aside,
        )

    async def flush(self) -> None:
        """Commits now what was taken so far. Raises StoreError where that fails."""
        if self._thread is None:
            raise closed()
        asked: asyncio.Future[None] = self._errands.add()
        self._wake.set()
        await asked

    async def settle(self) -> None:
        """Commits, and does now all that is due some time: sealing, closing days, retention.

        Raises StoreError where that fails.
        """
        self._settling = True
        await self.flush()

    async def do(self, work: Callable[[Ledger], _T]) -> _T:
        """What `work` returns; the thread calls it between two commits.

        What it changes goes through `ledger.transaction()`; it may raise StoreError only.
        Raises that.
        """
        if self._thread is None:
            raise closed()
        done = self._errands.add(work)
        self._wake.set()
        return await done

    async def close(self) -> None:
        """Commits everything and ends the thread. What cannot be kept is logged, not raised."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    # From here on: the thread.

    def _run(self) -> None:
        lock = None
        try:
            lock = self._start()
            if lock is not None:
                self._work()
                self._finish()
        finally:
            self._keeper.close()
            self._rescue.close()
            if lock is not None:
                lock.release()
            # Also where the thread breaks: nobody may wait for it for ever.
            self._writable = False
            self._errands.end()

    def _start(self) -> Held | None:
        asked = self._errands.take(work=False)
        lock = None
        try:
            self._database.prepare()
            lock = self._database.lock()
            self._persist(self._open)
        except StoreError as error:
            self._keeper.fail()
            self._error = error
            if lock is None or error.code not in _AWAY:
                if lock is not None:
                    lock.release()
                _reply(asked, error)
                return None
            _log.error("not reached yet, polls wait in memory: %s", error)
        self._rescue.open()
        self._writable = self._error is None
        _reply(asked, None)
        return lock

    def _open(self) -> None:
        """What was remembered before this start; once the store is reached."""
        if not self._met:
            self._recalled = self._keeper.open().memos()
            self._met = True

    def _work(self) -> None:
        first = self._commit if self._writable else min(self._commit, _RETRY)
        due = self._clock.monotonic() + first
        while not self._stopping:
            self._alive = now = self._clock.monotonic()
            self._wake.wait(min(_BEAT, max(0.0, self._next(due) - now)))
            self._wake.clear()
            asked = self._errands.take(work=False)
            if asked or self._clock.monotonic() >= due:
                _reply(asked, self._try(self._commit_and_settle))
                pause = self._commit if self._writable else min(self._commit, _RETRY)
                due = self._clock.monotonic() + pause
            if self._writable:
                self._try(self._keeper.work)
            if self._writable:
                self._try(self._bring_back)
            self._run_errands()

    def _next(self, due: float) -> float:
        """The monotonic time at which there is something to do."""
        if not self._writable:
            return due
        return self._clock.monotonic() if self._rescue.waits else min(due, self._keeper.due)

    def _run_errands(self) -> None:
        for errand in self._errands.take(work=True):
            found: list[Any] = []

            def run(errand: Errand[Any] = errand, told: list[Any] = found) -> None:
                if errand.work is not None:
                    told.append(errand.work(self._keeper.open()))

            error = self._try(run)
            errand.answer(error, *found[-1:])

    def _finish(self) -> None:
        error = self._try(self._commit_waiting)
        if error is None:
            self._try(self._keeper.finish)
        else:
            self._rescue.shelter_all()
        _reply(self._errands.take(work=False), error)
        if lost := self.memory.hot.waiting:
            _log.error("%d samples are lost: %s", lost, error)

    def _try(self, work: Callable[[], None]) -> StoreError | None:
        try:
            self._persist(work)
        except StoreError as error:
            self._keeper.fail()
            self._rescue.make_room()
            if self._writable:
                _log.error("not writable, polls wait in memory: %s", error)
            self._writable = False
            self._error = error
            return error
        if not self._writable:
            _log.warning("writable again; %d samples were dropped", self._rescue.dropped)
        self._writable = True
        self._error = None
        return None

    def _persist(self, work: Callable[[], None]) -> None:
        """Another transaction may win over this one, or something be mended: then once more."""
        for _ in range(_TURNS):
            try:
                return work()
            except StoreError as error:
                self._keeper.fail()
                if error.code != "conflict" and not self._rescue.helps(error):
                    raise
        work()
        return None

    def _bring_back(self) -> None:
        """What was spooled meanwhile, one record of it; and the reserve."""
        if self._rescue.waits:
            self._count(self._rescue.bring_back())
        self._rescue.tidy()

    def _commit_and_settle(self) -> None:
        self._open()
        self._commit_waiting()
        if self._settling:
            self._settling = False
            while self._rescue.waits:
                self._bring_back()
            self._keeper.settle()

    def _commit_waiting(self) -> None:
        """Commits what waits now; what is taken meanwhile waits for the next time."""
        left = self.memory.hot.waiting
        while left > 0 or self._memos:
            self._alive = began = self._clock.monotonic()
            with self._guard:
                memos = dict(self._memos)
            batch = self._keeper.commit(memos)
            with self._guard:
                # One that was replaced meanwhile waits for the next commit.
                self._memos = {n: body for n, body in self._memos.items() if memos.get(n) != body}
            self._took = self._clock.monotonic() - began
            self._last_commit = self._clock.now_ms() / 1000
            left -= self._count(batch)
            if not batch:
                break

    def _count(self, batch: Sequence[Stretch]) -> int:
        samples = sum(stretch.samples for stretch in batch)
        self._committed += samples
        if self._confirmed is not None and batch:
            self._confirmed(batch)
        return samples


def _reply(asked: Sequence[Errand[Any]], error: StoreError | None) -> None:
    for one in asked:
        one.answer(error)
