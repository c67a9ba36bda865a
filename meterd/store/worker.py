"""What the writer's thread does: commits on time, errands between them, mending what fails."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from meterd.errors import StoreError
from meterd.model.clock import Clock
from meterd.store.connections import Database, Held
from meterd.store.errands import Errand, Errands
from meterd.store.hot import Hot, Stretch
from meterd.store.keeper import Keeper
from meterd.store.lock import Claim
from meterd.store.rescue import Rescue, WriterOptions

_TURNS = 5  # after conflicts with other transactions, and after mends
# A server that is not there yet is waited for; everything else that is wrong is told at once.
_AWAY = ("unreachable", "conflict")
_RETRY = 5.0  # seconds between two tries while the store cannot be written
_BEAT = 1.0  # seconds; the thread shows at least this often that it lives

_log = logging.getLogger(__name__)


class Worker:
    """`run` is the thread; the writer on the loop sets `stopping` and `settling`, then `wake`.

    All else that has a public name is only read there; what it means is in WriterStatus.
    """

    def __init__(
        self,
        database: Database,
        hot: Hot,
        keeper: Keeper,
        rescue: Rescue,
        *,
        clock: Clock,
        commit: float,
        confirmed: Callable[[Sequence[Stretch]], None] | None,
        claim: Claim | None = None,
        patient: bool = False,
    ) -> None:
        self._database = database
        self._hot = hot
        self._keeper = keeper
        self._rescue = rescue
        self._clock = clock
        self._commit = commit
        self._confirmed = confirmed
        self._claim = claim
        self._patient = patient
        self._memos: dict[str, str] = {}
        self._guard = threading.Lock()
        self._options: WriterOptions | None = None  # those that a reload brought, until they hold
        self._met = False  # whether the store has been open since the start
        self.errands = Errands()
        self.wake = threading.Event()
        self.stopping = False
        self.has_heir = False  # whether another store takes at the end what this one could not
        self.settling = False
        self.recalled: dict[str, str] = {}
        self.writable = False
        self.committed = 0
        self.last_commit = 0.0
        self.took = 0.0
        self.error: StoreError | None = None
        self.alive = clock.monotonic()

    def remember(self, name: str, body: str) -> None:
        """From any thread."""
        with self._guard:
            self._memos[name] = body

    def tune(self, options: WriterOptions) -> None:
        """From any thread: they hold from the next commit on."""
        with self._guard:
            self._options = options
        self.wake.set()

    def run(self) -> None:
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
            self.writable = False
            self.errands.end()

    def _start(self) -> Held | None:
        asked = self.errands.take(work=False)
        lock = None
        try:
            self._database.prepare()
            lock = self._database.lock(self._claim)
            self._persist(self._open)
        except StoreError as error:
            self._keeper.fail()
            self.error = error
            if lock is None or not (self._patient or error.code in _AWAY):
                if lock is not None:
                    lock.release()
                _reply(asked, error)
                return None
            _log.error("not reached yet, polls wait in memory: %s", error)
        except BaseException as error:
            # The thread ends, and who opens the store must not wait for it for ever.
            _reply(asked, StoreError(f"the store's thread failed: {error!r}", code="unavailable"))
            if lock is not None:
                lock.release()
            raise
        self._rescue.open()
        self.writable = self.error is None
        _reply(asked, None)
        return lock

    def _open(self) -> None:
        """What was remembered before this start; once the store is reached."""
        if not self._met:
            self.recalled = self._keeper.open().memos()
            self._met = True

    def _work(self) -> None:
        first = self._commit if self.writable else min(self._commit, _RETRY)
        due = self._clock.monotonic() + first
        while not self.stopping:
            self.alive = now = self._clock.monotonic()
            self.wake.wait(min(_BEAT, max(0.0, self._next(due) - now)))
            self.wake.clear()
            self._adopt_options()
            asked = self.errands.take(work=False)
            if asked or self._clock.monotonic() >= due:
                _reply(asked, self._try(self._commit_and_settle))
                pause = self._commit if self.writable else min(self._commit, _RETRY)
                due = self._clock.monotonic() + pause
            if self.writable:
                self._try(self._keeper.work)
            if self.writable:
                self._try(self._bring_back)
            self._run_errands()

    def _adopt_options(self) -> None:
        with self._guard:
            options, self._options = self._options, None
        if options is not None:
            self._commit = options.commit
            self._keeper.tune(options.keep, options.rows, to_file=options.to_file)
            self._rescue.tune(options.precautions)

    def _next(self, due: float) -> float:
        """The monotonic time at which there is something to do."""
        if not self.writable:
            return due
        return self._clock.monotonic() if self._rescue.waits else min(due, self._keeper.due)

    def _run_errands(self) -> None:
        for errand in self.errands.take(work=True):
            found: list[Any] = []

            def run(errand: Errand[Any] = errand, told: list[Any] = found) -> None:
                if errand.work is not None:
                    told.append(errand.work(self._keeper.lend()))

            error = self._try(run)
            errand.answer(error, *found[-1:])

    def _finish(self) -> None:
        error = self._try(self._commit_waiting)
        if error is None:
            self._try(self._keeper.finish)
        elif not self.has_heir:
            self._rescue.shelter_all()
        _reply(self.errands.take(work=False), error)
        if not (left := self._hot.waiting):
            return
        if self.has_heir:
            _log.warning("%d samples go to the store that takes its place: %s", left, error)
        else:
            _log.error("%d samples are lost: %s", left, error)

    def _try(self, work: Callable[[], None]) -> StoreError | None:
        try:
            self._persist(work)
        except StoreError as error:
            self._keeper.fail()
            self._rescue.make_room()
            if self.writable:
                _log.error("not writable, polls wait in memory: %s", error)
            self.writable = False
            self.error = error
            return error
        if not self.writable:
            _log.warning("writable again; %d samples were dropped", self._rescue.dropped)
        self.writable = True
        self.error = None
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
        if self.settling:
            self.settling = False
            while self._rescue.waits:
                self._bring_back()
            self._keeper.settle()

    def _commit_waiting(self) -> None:
        """Commits what waits now; what is taken meanwhile waits for the next time."""
        left = self._hot.waiting
        while left > 0 or self._memos:
            self.alive = began = self._clock.monotonic()
            with self._guard:
                memos = dict(self._memos)
            batch = self._keeper.commit(memos)
            with self._guard:
                # One that was replaced meanwhile waits for the next commit.
                self._memos = {n: body for n, body in self._memos.items() if memos.get(n) != body}
            self.took = self._clock.monotonic() - began
            self.last_commit = self._clock.now_ms() / 1000
            left -= self._count(batch)
            if not batch:
                break

    def _count(self, batch: Sequence[Stretch]) -> int:
        samples = sum(stretch.samples for stretch in batch)
        self.committed += samples
        if self._confirmed is not None and batch:
            self._confirmed(batch)
        return samples


def _reply(asked: Sequence[Errand[Any]], error: StoreError | None) -> None:
    for one in asked:
        one.answer(error)
