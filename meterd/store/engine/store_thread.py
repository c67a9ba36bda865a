"""The loop of the store's thread: commits on time, calls between commits, retries after errors."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from meterd.errors import StoreCode, StoreError
from meterd.model.clock import Clock
from meterd.model.event import EventKind, Notice
from meterd.store.db.connections import Database, StoreLock
from meterd.store.db.lockfile import Claim
from meterd.store.db.quarantine import UnforeseenError
from meterd.store.db.writer_lease import WriterLease
from meterd.store.engine.spool_policy import SpoolPolicy, WriterOptions, describe_loss
from meterd.store.engine.spool_thread import SpoolThread
from meterd.store.engine.storage_engine import StorageEngine
from meterd.store.engine.thread_calls import ThreadCall, ThreadCalls
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.wal.spool import extent_of

_TURNS = 5  # after conflicts with other transactions, and after mends
# A server that is not there yet is waited for; everything else that is wrong is told at once.
_AWAY = (StoreCode.UNREACHABLE, StoreCode.CONFLICT)
_RETRY = 5.0  # seconds between two tries while the store cannot be written
_BUGS = 50  # that are not told again
_LAST_REPLAY = 8.0  # seconds at the end for what is spooled; the rest waits for the next start
_BEAT = 1.0  # seconds; the thread shows at least this often that it lives

_log = logging.getLogger(__name__)


class StoreThread:
    """`run` is the thread; the writer on the loop sets `stopping`, `sealing` and `settling`,
    then `wake`.

    All else that has a public name is only read there; what it means is in WriterStatus.
    """

    def __init__(
        self,
        database: Database,
        head: Head,
        engine: StorageEngine,
        spool_policy: SpoolPolicy,
        *,
        clock: Clock,
        commit: float,
        confirmed: Callable[[Sequence[SeriesBatch]], None] | None,
        claim: Claim | None = None,
        notices: deque[Notice] | None = None,
        patient: bool = False,
        writer_lease: WriterLease | None = None,
    ) -> None:
        """`notices` gets what is noticed, for the daemon's events."""
        self._database = database
        self._head = head
        self._engine = engine
        self._spool_policy = spool_policy
        self._clock = clock
        self._commit = commit
        self._confirmed = confirmed
        self._claim = claim
        self._patient = patient
        self._options: WriterOptions | None = None  # those that a reload brought, until they hold
        self._writer_lease = writer_lease
        if writer_lease is not None:
            writer_lease.is_stopping = lambda: self.stopping
        self._memos: dict[str, str] = {}
        self._guard = threading.Lock()
        self._lock: StoreLock | None = None
        self._bugs: tuple[str, ...] = ()
        self._was_open = False  # whether the store has been open since the start
        self.calls = ThreadCalls()
        self.wake = threading.Event()
        self.stopping = False
        self.has_successor = False  # whether another store takes at the end what this one could not
        self.settling = False
        self.sealing = False
        self.recalled: dict[str, str] = {}
        self.writable = False
        self.committed = 0
        self.last_commit = 0.0
        self.took = 0.0
        self.error: StoreError | None = None
        self.alive = clock.monotonic()
        self._notices: deque[Notice] = deque() if notices is None else notices
        self._state = threading.Lock()  # of `writable` and `error`, which two threads set
        self.spooler = SpoolThread(
            head,
            spool_policy,
            clock,
            commit,
            alive=lambda: self.alive,
            writable=lambda: self.writable,
            # Tools do much at once, and nobody asks them how they fare.
            late=self._set_not_writable if claim is None else (lambda _: None),
        )

    def remember(self, name: str, body: str) -> None:
        """From any thread."""
        with self._guard:
            self._memos[name] = body

    def tune(self, options: WriterOptions) -> None:
        """From any thread: they hold from the next commit on."""
        with self._guard:
            self._options = options
        self.wake.set()

    def put(self, late: Sequence[SeriesBatch]) -> None:
        """In the thread. Raises StoreError."""
        self._count(self._engine.put(late))

    def run(self) -> None:
        calls = self.calls.take(work=False)
        try:
            with self._as_store_error():
                if self._start(calls):
                    self._work()
                    self._finish()
        except StoreError as error:
            # Nobody may wait for the thread for ever, nor take what it said last for true.
            self.error = error
            _reply(calls, error)
        finally:
            self.writable = False
            for close in (
                self._engine.leave,
                self._engine.close,
                # Who gives its spool to another store does so when nobody adds to it any more.
                *([] if self.has_successor else [self._spool_policy.close]),
                self._release,
            ):
                # One that fails keeps no other from closing.
                with suppress(StoreError), self._as_store_error():
                    close()
            self.calls.end()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _start(self, calls: Sequence[ThreadCall[Any]]) -> bool:
        """Opens the store; returns whether there is work. The callers of `open` get its error."""
        try:
            with self._as_store_error():
                self._database.prepare()
                self._lock = self._database.lock(self._claim)
            self._spool_policy.open()
            self._with_retries(self._open)
        except StoreError as error:
            self._engine.fail()
            self.error = error
            if self._lock is None or not (self._patient or error.code in _AWAY):
                with suppress(StoreError), self._as_store_error():
                    self._release()
                _reply(calls, error)
                return False
            _log.error("not reached yet, polls wait in memory: %s", error)
            text = f"the store is not reached yet, polls wait in memory, then in the spool: {error}"
            self._notices.append(
                Notice(EventKind.STORE_NOT_WRITABLE, text, {"code": str(error.code)})
            )
        self.writable = self.error is None
        self.alive = self._clock.monotonic()
        self.spooler.start()
        _reply(calls, None)
        return True

    def _open(self) -> None:
        """Opens the store and loads the memos."""
        if not self._was_open:
            self.recalled = self._engine.open().memos()
            self._was_open = True

    def _work(self) -> None:
        first = self._commit if self.writable else min(self._commit, _RETRY)
        due = self._clock.monotonic() + first
        while not self.stopping:
            self.alive = now = self._clock.monotonic()
            self.wake.wait(min(_BEAT, max(0.0, self._next(due) - now)))
            self.wake.clear()
            if self._adopt_options():
                due = self._clock.monotonic()
            calls = self.calls.take(work=False)
            if calls or self._clock.monotonic() >= due:
                _reply(calls, self._attempt(self._commit_and_settle))
                pause = self._commit if self.writable else min(self._commit, _RETRY)
                due = self._clock.monotonic() + pause
            if self.writable:
                self._attempt(self._engine.work)
            if self.writable:
                self._attempt(self._replay_spooled)
            if self.writable and self._engine.has_foreign_rows:
                self._attempt(self._engine.quarantine_foreign_rows)
            self._run_calls()

    def _adopt_options(self) -> bool:
        """Applies new options; returns whether there were any. A commit at once puts them on the
        disk.
        """
        with self._guard:
            options, self._options = self._options, None
        if options is None:
            return False
        self._commit = options.commit
        self.spooler.tune(options.commit)
        if self._writer_lease is not None:
            self._writer_lease.tune(options.commit)
        try:
            with self._as_store_error():
                self._engine.tune(
                    options.keep, options.rows, hours=options.hours, to_file=options.to_file
                )
                self._spool_policy.tune(options.precautions)
        except StoreError as error:
            _log.error("not all that the reload says of the store holds: %s", error)
        return True

    def _next(self, due: float) -> float:
        """The monotonic time (s) at which there is work to do."""
        if not self.writable:
            return due
        return self._clock.monotonic() if self._spool_policy.waits else min(due, self._engine.due)

    def _run_calls(self) -> None:
        for call in self.calls.take(work=True):
            answers: list[Any] = []

            def run(call: ThreadCall[Any] = call, into: list[Any] = answers) -> None:
                if call.work is not None:
                    into.append(call.work(self._engine.borrow()))

            error = self._attempt(run)
            call.answer(error, *answers[-1:])

    def _finish(self) -> None:
        # What could not be written until now is spooled at once: who ends us does not wait long.
        is_spooled = (
            not self.writable and not self.has_successor and self._spool_policy.spool_waiting()
        )
        error = self.error if is_spooled else self._attempt(self._commit_waiting)
        end = self._clock.monotonic() + _LAST_REPLAY
        while error is None and self._spool_policy.waits and self._clock.monotonic() < end:
            error = self._attempt(self._replay_spooled)
        if error is None:
            self._attempt(self._engine.finish)
        elif not self.has_successor:
            self._spool_policy.spool_waiting()
        _reply(self.calls.take(work=False), error)
        if not (left := self._head.waiting):
            return
        if self.has_successor:
            _log.warning("%d samples go to the store that takes its place: %s", left, error)
        else:
            lost = extent_of(self._head.uncommitted(left))
            _log.error("%s: %s", describe_loss(lost), error)

    def _attempt(self, work: Callable[[], object]) -> StoreError | None:
        self.alive = self._clock.monotonic()
        try:
            self._with_retries(work)
        except StoreError as error:
            self._engine.fail()
            self._spool_policy.make_room()
            self._set_not_writable(error)
            return error
        self._set_writable()
        return None

    def _set_not_writable(self, error: StoreError) -> None:
        """In any thread: the store takes nothing, or does not answer."""
        with self._state:
            if self.writable:
                text = f"not writable, polls wait in memory, then in the spool: {error}"
                _log.error("%s", text)
                notice = f"the store is {text}"
                self._notices.append(
                    Notice(EventKind.STORE_NOT_WRITABLE, notice, {"code": str(error.code)})
                )
            self.writable = False
            self.error = error

    def _set_writable(self) -> None:
        with self._state:
            if not self.writable:
                text = f"writable again; {self._spool_policy.dropped} samples were dropped"
                _log.warning("%s", text)
                self._notices.append(Notice(EventKind.STORE_WRITABLE, f"the store is {text}"))
            self.writable = True
            self.error = None

    def _with_retries(self, work: Callable[[], object]) -> None:
        """Another transaction may win over this one, or something be mended: then once more."""
        for turn in range(_TURNS + 1):
            try:
                with self._as_store_error():
                    self._check_files()
                    work()
                    return
            except StoreError as error:
                self._engine.fail()
                again = error.code == StoreCode.CONFLICT or self._spool_policy.can_recover(error)
                if turn == _TURNS or not again:
                    raise

    @contextmanager
    def _as_store_error(self) -> Iterator[None]:
        """Whatever is raised within is raised as StoreError; the stack of a bug is logged once."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            text = f"the store's thread met {type(error).__name__}: {error}"
            if text not in self._bugs:
                self._bugs = (*self._bugs[-_BUGS:], text)
                _log.exception(text)
            raise UnforeseenError(text) from error

    def _check_files(self) -> None:
        """Whether lock and files are still those that were opened. Raises StoreError."""
        self._engine.look()
        if self._lock is not None:
            self._lock.check()
            if self._writer_lease is not None:
                self._writer_lease.lock = self._lock.inode

    def _replay_spooled(self) -> None:
        """Replays one spooled record, and restores the ballast file."""
        if self._spool_policy.waits:
            self._count(self._spool_policy.replay_spooled())
        self._spool_policy.tidy()

    def _commit_and_settle(self) -> None:
        if self._engine.has_foreign_rows:
            self._engine.quarantine_foreign_rows()
        self._open()
        if not self.writable and not self._head.waiting:
            # All is spooled by now. A record of that shows whether the store takes something.
            self._engine.open()
            self._replay_spooled()
        self._commit_waiting()
        if self.sealing:
            self.sealing = False
            self._engine.seal()
        if self.settling:
            self.settling = False
            while self._spool_policy.waits:
                self._replay_spooled()
            self._engine.settle()

    def _commit_waiting(self) -> None:
        """Commits what waits now; polls taken meanwhile wait for the next commit."""
        safe, left = self._clock.monotonic(), self._head.waiting
        while left > 0 or self._memos:
            self.alive = began = self._clock.monotonic()
            with self._guard:
                memos = dict(self._memos)
            batches = self._engine.commit(memos)
            with self._guard:
                # One that was replaced meanwhile waits for the next commit.
                self._memos = {n: body for n, body in self._memos.items() if memos.get(n) != body}
            self.took = self._clock.monotonic() - began
            self.last_commit = self._clock.now_ms() / 1000
            left -= self._count(batches)
            if not batches:
                break
        self.spooler.safe = safe

    def _count(self, batches: Sequence[SeriesBatch]) -> int:
        samples = sum(batch.samples for batch in batches)
        self.committed += samples
        if self._confirmed is not None and batches:
            self._confirmed(batches)
        return samples


def _reply(calls: Sequence[ThreadCall[Any]], error: StoreError | None) -> None:
    for call in calls:
        call.answer(error)
