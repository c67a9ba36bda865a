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
from meterd.store import database, migrate
from meterd.store.backlog import Backlog
from meterd.store.ledger import Ledger
from meterd.store.lock import Lock

LIMIT = 20_000  # polls in memory; about 30 MB of polls with 40 values
BATCH = 1000  # polls a transaction, so that a long backlog is confirmed bit by bit

_BEAT = 1.0  # seconds; the thread shows at least this often that it lives
_NOTE_EVERY = 60.0  # seconds between two rewrites of the series' rows
_TRIM_EVERY = 3600.0
_TRIM_PAUSE = 0.05  # seconds between two chunks: readers and the disk want room too

_log = logging.getLogger(__name__)

_Answer = Callable[[StoreError | None], None]


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
    memory, up to `limit` polls; then the oldest are dropped and counted. Writing twice is
    harmless: the last sample of a time and series wins. Samples older than `keep` seconds
    are deleted once an hour; None keeps them for ever.
    `confirmed` is called in the thread with the polls of each transaction that is on disk.
    """

    def __init__(
        self,
        url: str,
        *,
        commit: float = 10.0,
        limit: int = LIMIT,
        keep: float | None = None,
        clock: Clock | None = None,
        confirmed: Callable[[Sequence[Poll]], None] | None = None,
    ) -> None:
        """Raises StoreError for a URL that is no SQLite file."""
        self._url = url
        self._path = database.locate(url)
        self._commit = commit
        self._keep = keep
        self._clock = clock or SystemClock()
        self._confirmed = confirmed
        self._backlog = Backlog(limit)
        self._memos: dict[str, str] = {}
        self._recalled: dict[str, str] = {}
        self._guard = threading.Lock()
        self._answers: list[_Answer] = []
        self._wake = threading.Event()
        self._stopping = False
        self._ended = False
        self._thread: threading.Thread | None = None
        self._ledger: Ledger | None = None
        self._note_due = 0.0
        self._trim_due = 0.0
        self._writable = False
        self._committed = 0
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
        self._backlog.add(poll)

    def remember(self, name: str, body: str) -> None:
        """Keep a text for the next start, with the next commit; the newest of a name stays."""
        with self._guard:
            self._memos[name] = body

    def recall(self, name: str) -> str | None:
        """What was remembered before this start."""
        return self._recalled.get(name)

    def pending(self) -> tuple[Poll, ...]:
        """What was taken and is not confirmed by a commit, in the order it was taken."""
        return self._backlog.polls()

    @property
    def status(self) -> WriterStatus:
        return WriterStatus(
            writable=self._writable,
            queued=self._backlog.samples,
            committed=self._committed,
            dropped=self._backlog.dropped,
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
            if lock is not None:
                lock.release()
            # Also where the thread breaks: nobody may wait for it for ever.
            self._writable = False
            with self._guard:
                self._ended = True
            self._reply(self._asked(), _closed())

    def _start(self) -> Lock | None:
        asked = self._asked()
        lock = None
        try:
            database.need_folder(self._path)
            lock = Lock(self._path)
            self._recalled = self._open_ledger().memos()
        except StoreError as error:
            if lock is not None:
                lock.release()
            self._error = str(error)
            self._reply(asked, error)
            return None
        self._writable = True
        self._note_due = self._clock.monotonic() + _NOTE_EVERY
        self._reply(asked, None)
        return lock

    def _work(self) -> None:
        due = self._clock.monotonic() + self._commit
        while not self._stopping:
            self._alive = now = self._clock.monotonic()
            next_due = due if self._keep is None else min(due, self._trim_due)
            self._wake.wait(min(_BEAT, max(0.0, next_due - now)))
            self._wake.clear()
            asked = self._asked()
            now = self._clock.monotonic()
            if asked or now >= due:
                self._reply(asked, self._commit_waiting())
                due = self._clock.monotonic() + self._commit
            if self._keep is not None and now >= self._trim_due:
                self._trim(self._keep)

    def _finish(self) -> None:
        self._reply(self._asked(), self._commit_waiting())
        if self._backlog.samples:
            _log.error("%d samples are lost: %s", self._backlog.samples, self._error)
        if self._ledger is not None:
            self._ledger.close()

    def _open_ledger(self) -> Ledger:
        if self._ledger is None:
            # Again after each failure: the file may be another one by now.
            migrate.upgrade(self._url)
            self._ledger = Ledger(self._path)
        return self._ledger

    def _commit_waiting(self) -> StoreError | None:
        """Commits what waits now; what is taken meanwhile waits for the next time."""
        left = len(self._backlog)
        while left > 0 or self._memos:
            batch = self._backlog.start(BATCH)
            try:
                self._commit_batch(batch)
            except StoreError as error:
                self._backlog.give_back()
                self._failed(error)
                return error
            left -= len(batch)
        return None

    def _commit_batch(self, batch: Sequence[Poll]) -> None:
        self._alive = began = self._clock.monotonic()
        note = began >= self._note_due
        with self._guard:
            memos = dict(self._memos)
        self._open_ledger().commit(batch, memos, note=note)
        with self._guard:
            # One that was replaced meanwhile waits for the next commit.
            self._memos = {n: body for n, body in self._memos.items() if memos.get(n) != body}
        if note:
            self._note_due = began + _NOTE_EVERY
        self._took = self._clock.monotonic() - began
        self._last_commit = self._clock.now_ms() / 1000
        self._committed += self._backlog.confirm()
        self._worked()
        if self._confirmed is not None:
            self._confirmed(batch)

    def _trim(self, keep: float) -> None:
        before = self._clock.now_ms() - round(keep * 1000)
        pause = _TRIM_EVERY
        try:
            if self._open_ledger().trim(before):
                pause = _TRIM_PAUSE
            self._worked()
        except StoreError as error:
            self._failed(error)
        self._trim_due = self._clock.monotonic() + pause

    def _failed(self, error: StoreError) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._writable:
            _log.error("not writable, polls wait in memory: %s", error)
        self._writable = False
        self._error = str(error)

    def _worked(self) -> None:
        if not self._writable:
            _log.warning("writable again; %d samples were dropped", self._backlog.dropped)
        self._writable = True
        self._error = ""

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
