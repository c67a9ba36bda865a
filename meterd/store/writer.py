"""The sink that keeps polls: group commits by one thread, while the event loop goes on."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from meterd.errors import StoreError
from meterd.model.clock import Clock, SystemClock
from meterd.model.sample import Poll
from meterd.store import database
from meterd.store.catalog import Catalog
from meterd.store.database import Held
from meterd.store.hot import Hot, Stretch
from meterd.store.keeper import Keeper

LIMIT = 2_000_000  # samples in memory that no commit has confirmed; 16 MB

_TURNS = 5  # after conflicts with other transactions
_RETRY = 5.0  # seconds between two tries while the store cannot be written
_BEAT = 1.0  # seconds; the thread shows at least this often that it lives

_log = logging.getLogger(__name__)

_Answer = Callable[[StoreError | None], None]


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
    """

    writable: bool
    queued: int
    committed: int
    dropped: int
    last_commit: float
    took: float
    error: str
    alive: float


class Writer:
    """Keeps every poll it takes; the one writer of its store.

    Every `commit` seconds all that waits becomes one transaction. What fails waits on, in
    memory, up to `limit` samples; then the oldest are dropped and counted. Writing twice is
    harmless: the last sample of a time and series wins. Raw samples older than `keep` seconds
    are deleted; None keeps them for ever.
    `confirmed` is called in the thread with what each transaction wrote, once it is on disk.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        commit: float = 30.0,
        limit: int = LIMIT,
        keep: float | None = None,
        clock: Clock | None = None,
        confirmed: Callable[[Sequence[Stretch]], None] | None = None,
    ) -> None:
        """Raises StoreError for a URL that means no database."""
        self._database = database.find(url)
        self._commit = commit
        self._limit = limit
        self._clock = clock or SystemClock()
        self._confirmed = confirmed
        self.memory = Memory(Hot(), Catalog())
        self._keeper = Keeper(
            self._database, self.memory.hot, self.memory.catalog, clock=self._clock, keep=keep
        )
        self._memos: dict[str, str] = {}
        self._recalled: dict[str, str] = {}
        self._guard = threading.Lock()
        self._answers: list[_Answer] = []
        self._wake = threading.Event()
        self._stopping = False
        self._settling = False
        self._ended = False
        self._thread: threading.Thread | None = None
        self._writable = False
        self._committed = 0
        self._dropped = 0
        self._last_commit = 0.0
        self._took = 0.0
        self._error = ""
        self._alive = self._clock.monotonic()

    async def open(self) -> None:
        """Takes the lock, brings the schema up to date, starts the thread. Once only.

        Raises StoreError: already_running, newer_schema, corrupt, full, unavailable.
        """
        asked = self._ask()
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
        return self._recalled.get(name)

    @property
    def status(self) -> WriterStatus:
        return WriterStatus(
            writable=self._writable,
            queued=self.memory.hot.waiting,
            committed=self._committed,
            dropped=self._dropped,
            last_commit=self._last_commit,
            took=self._took,
            error=self._error,
            alive=self._alive,
        )

    async def flush(self) -> None:
        """Commits now what was taken so far. Raises StoreError where that fails."""
        if self._thread is None:
            raise _closed()
        asked = self._ask()
        self._wake.set()
        await asked

    async def settle(self) -> None:
        """Commits, and does now all that is due some time: sealing, closing days, retention.

        Raises StoreError where that fails.
        """
        self._settling = True
        await self.flush()

    async def close(self) -> None:
        """Commits everything and ends the thread. What cannot be kept is logged, not raised."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def _ask(self) -> "asyncio.Future[None]":
        """A future that the thread settles the next time it has tried to commit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._guard:
            if self._ended:
                raise _closed()
            self._answers.append(partial(_send, loop, future))
        return future

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
            if lock is not None:
                lock.release()
            # Also where the thread breaks: nobody may wait for it for ever.
            self._writable = False
            with self._guard:
                self._ended = True
            self._reply(self._asked(), _closed())

    def _start(self) -> Held | None:
        asked = self._asked()
        lock = None
        try:
            self._database.prepare()
            lock = self._database.lock()
            self._recalled = self._keeper.open().memos()
        except StoreError as error:
            if lock is not None:
                lock.release()
            self._error = str(error)
            self._reply(asked, error)
            return None
        self._writable = True
        self._reply(asked, None)
        return lock

    def _work(self) -> None:
        due = self._clock.monotonic() + self._commit
        while not self._stopping:
            self._alive = now = self._clock.monotonic()
            next_due = min(due, self._keeper.due) if self._writable else due
            self._wake.wait(min(_BEAT, max(0.0, next_due - now)))
            self._wake.clear()
            asked = self._asked()
            if asked or self._clock.monotonic() >= due:
                self._reply(asked, self._try(self._commit_and_settle))
                pause = self._commit if self._writable else min(self._commit, _RETRY)
                due = self._clock.monotonic() + pause
            if self._writable:
                self._try(self._keeper.work)

    def _finish(self) -> None:
        error = self._try(self._commit_waiting)
        if error is None:
            self._try(self._keeper.finish)
        self._reply(self._asked(), error)
        if lost := self.memory.hot.waiting:
            _log.error("%d samples are lost: %s", lost, self._error)

    def _try(self, work: Callable[[], None]) -> StoreError | None:
        try:
            self._persist(work)
        except StoreError as error:
            self._keeper.fail()
            self._make_room()
            if self._writable:
                _log.error("not writable, polls wait in memory: %s", error)
            self._writable = False
            self._error = str(error)
            return error
        if not self._writable:
            _log.warning("writable again; %d samples were dropped", self._dropped)
        self._writable = True
        self._error = ""
        return None

    def _persist(self, work: Callable[[], None]) -> None:
        """Another transaction may win over this one; then it is this one's turn."""
        for _ in range(_TURNS):
            try:
                return work()
            except StoreError as error:
                if error.code != "conflict":
                    raise
                self._keeper.fail()
        work()
        return None

    def _commit_and_settle(self) -> None:
        self._commit_waiting()
        if self._settling:
            self._settling = False
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
            samples = sum(stretch.samples for stretch in batch)
            self._committed += samples
            left -= samples
            if self._confirmed is not None:
                self._confirmed(batch)
            if not batch:
                break

    def _make_room(self) -> None:
        """The oldest samples go where the memory would not end otherwise."""
        hot = self.memory.hot
        while hot.waiting > self._limit:
            self._dropped += hot.forget(hot.uncommitted(hot.waiting - self._limit))

    def _asked(self) -> list[_Answer]:
        with self._guard:
            answers, self._answers = self._answers, []
        return answers

    def _reply(self, asked: Sequence[_Answer], error: StoreError | None) -> None:
        for answer in asked:
            answer(error)


def _closed() -> StoreError:
    return StoreError("the store is not open", code="unavailable")


def _send(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]", error: StoreError | None
) -> None:
    """From the thread to whoever waits on the loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, future, error)


def _settle(future: "asyncio.Future[None]", error: StoreError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
