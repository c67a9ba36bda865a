"""A second thread beside the store's: it spools what that one has not made safe in time.

The store's thread may hang for as long as its disk or server does. This one touches neither.
"""

import logging
import threading
from collections.abc import Callable

from meterd.errors import StoreCode, StoreError
from meterd.model.clock import Clock
from meterd.store.engine.spool_policy import SpoolPolicy
from meterd.store.head.head import Head

_BEAT = 1.0  # seconds between two looks
_LEAST = 0.05
# Places in our own code at which bugs were met, and are not told again.
_BUGS = 20
# Seconds that a commit may take, once it is due, before its polls are spooled all the same.
GRACE = 2.0
# Seconds without a sign of life after which the store counts as not writable.
LATE = 10.0

_log = logging.getLogger(__name__)


class SpoolThread:
    """`safe` is the monotonic time before which everything that was taken is on a disk."""

    def __init__(
        self,
        head: Head,
        spool_policy: SpoolPolicy,
        clock: Clock,
        commit: float,
        *,
        alive: Callable[[], float],
        writable: Callable[[], bool],
        late: Callable[[StoreError], None],
    ) -> None:
        """`commit` in seconds; `alive` is the store thread's last sign of life.

        `late` is told that it gives none any more.
        """
        self._head = head
        self._spool_policy = spool_policy
        self._clock = clock
        self._commit = commit
        self._alive = alive
        self._writable = writable
        self._late = late
        self._ended = threading.Event()
        self.failures = 0  # looks in a row that met a bug
        self._bugs: tuple[object, ...] = ()  # where
        self._thread: threading.Thread | None = None
        self.safe = self._looked = self._changed = clock.monotonic()
        self._sign = self.safe  # of life, the last that was seen

    def tune(self, commit: float) -> None:
        """After a reload: within how many seconds all is to be safe."""
        self._commit = commit

    def start(self) -> None:
        """From the store's thread, once the spool is open."""
        self.safe = self._looked = self._changed = self._clock.monotonic()
        self._thread = threading.Thread(target=self._run, name="meterd-spooler", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """From any other thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_BEAT)

    def _run(self) -> None:
        while not self._ended.wait(min(_BEAT, max(_LEAST, self._due - self._clock.monotonic()))):
            self.guarded_look()

    def guarded_look(self) -> None:
        """One look; a bug in it is logged and ends no later one."""
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 (see above)
            self._log_bug(error)
        else:
            if self.failures:
                _log.warning("the spooler works again, after %d looks that failed", self.failures)
                self.failures = 0
                self._spool_policy.spooler_works()

    def _log_bug(self, error: Exception) -> None:
        """The stack of a bug is logged once, by its place: what it says may differ each second."""
        self.failures += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        line = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        place = type(error), line
        is_new = place not in self._bugs
        if is_new:
            self._bugs = (*self._bugs[1 - _BUGS :], place)
            _log.exception("the spooler met a bug, and goes on: %s", error)
        text = f"the spooler met a bug ({type(error).__name__}: {error}), {self.failures} times"
        self._spool_policy.spooler_failed(StoreError(text, code=StoreCode.BUG), is_new=is_new)

    @property
    def _due(self) -> float:
        return self.safe + self._commit + (GRACE if self._writable() else 0.0)

    def look(self) -> None:
        """Spools what has waited for too long, and what memory has no room for."""
        self._spool_policy.check_spool_files()
        now = self._clock.monotonic()
        silence = self._seconds_silent(now)
        if silence > LATE:
            text = f"the store has not answered for {silence:.0f} s"
            self._late(StoreError(text, code=StoreCode.UNREACHABLE))
        if not self._head.waiting:
            self.safe = max(self.safe, now)
            return
        if now >= self._due and self._spool_policy.spool_waiting():
            self.safe = max(self.safe, now)
        elif not self._writable():
            self._spool_policy.make_room()

    def _seconds_silent(self, now: float) -> float:
        """Seconds for which we looked, and the store's thread gave no sign of life."""
        sign, looked = self._alive(), self._looked
        self._looked = now
        # Where nobody looked for long, the whole process stood still.
        if sign != self._sign or now - looked > LATE / 2:
            self._sign, self._changed = sign, now
        return now - self._changed
