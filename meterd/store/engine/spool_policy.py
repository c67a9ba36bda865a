"""Where polls go while the database cannot be written: memory, spool, and what is dropped last."""

import logging
import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from meterd.errors import StoreCode, StoreError
from meterd.model.clock import Clock
from meterd.model.event import EventKind, Notice
from meterd.store.db import file_identity, quarantine
from meterd.store.db.ballast import Ballast
from meterd.store.db.connections import Database
from meterd.store.db.file_identity import GoneError
from meterd.store.db.quarantine import DamageError, UnforeseenError
from meterd.store.engine.storage_engine import BATCH, StorageEngine
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.wal.spool import Spool, SpoolExtent, extent_of, unpack

_BYTES = 8  # of one sample in memory
_RESERVE_EVERY = 300.0  # seconds between two looks whether there is room for a ballast file again
_LEASES_EVERY = 1.0  # seconds between two looks whether devices are leased to us
_HELD_S = 5.0  # that are waited for whoever works with the spool, before it is left to itself
_NAMED = 5  # devices in a message
_SERVER = "meterd"  # begins the names of files where the database has none

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """How much may wait while the database cannot be written; sizes in bytes.

    While the store cannot be written, polls wait in `memory`, then in the spool of at most
    `size`, beside the database or where `spool` says; then the oldest are dropped. `reserve`
    is room that is given back when the disk is full; 0 is none.
    """

    memory: int = 16_000_000
    spool: Path | None = None
    size: int = 64 << 20
    reserve: int = 4 << 20


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """What of a writer a reload may change while it runs; what each means is in writer.py."""

    commit: float = 30.0
    keep: float | None = None
    rows: float | None = None
    hours: bool = True
    to_file: bool = False
    precautions: SpoolOptions = SpoolOptions()


class SpoolPolicy:
    """Lives in the store's thread; `dropped`, `spooled` and `set_aside` are read elsewhere.

    `spool_waiting` and `make_room` may be called in any thread.
    """

    def __init__(
        self,
        database: Database,
        head: Head,
        engine: StorageEngine,
        clock: Clock,
        options: SpoolOptions,
        notices: deque[Notice] | None = None,
    ) -> None:
        """`notices` gets what is noticed, for the daemon's events."""
        self._database = database
        self._head = head
        self._engine = engine
        self._clock = clock
        self._memory_limit = options.memory // _BYTES
        self._notices: deque[Notice] = deque() if notices is None else notices
        self._spool = self._spool_of(options)
        self._ballast = self._reserve_of(options)
        self._ballast_due = 0.0
        self._replay_not_before = 0.0  # of the monotonic clock; the spool waits for leases
        self._names = count(clock.now_ms())  # of what cannot be read
        self._spool_lock = (
            threading.RLock()
        )  # of the spool's files, never held while the store works
        self._is_given_up = False  # whether another store has the spool
        self.spool_error: StoreError | None = None
        self.dropped = 0
        self.spooled = 0
        self.set_aside = 0
        self.begun_anew = 0
        self._disk: int | None = None

    @property
    def _spool_path(self) -> Path:
        return self._spool.path

    def _spool_of(self, options: SpoolOptions) -> Spool:
        # An earlier meterd did not name the database of a server there.
        is_named = self._database.path is not None or options.spool is not None
        also = [] if is_named else [self._database.folder / f"{_SERVER}.spool"]
        place = spool_of(self._database, options.spool)
        return Spool(
            place, options.size, self._keep_body, self._head.unmark_spooled, also, self._spool_moved
        )

    def _reserve_of(self, options: SpoolOptions) -> Ballast:
        return Ballast(self._path_beside("reserve"), options.reserve)

    def _path_beside(self, what: str) -> Path:
        beside = self._database.path or self._database.folder / _SERVER
        return beside.with_name(f"{beside.name}.{what}")

    def tune(self, options: SpoolOptions) -> None:
        """Applies options after a reload; spool files elsewhere move to where the next
        start looks.
        """
        self._memory_limit = options.memory // _BYTES
        self._ballast = self._reserve_of(options)
        self._ballast_due = 0.0
        spool = self._spool_of(options)
        if spool.path == self._spool.path:
            self._spool.limit(options.size)
            return
        with self._spool_lock:
            left = self._leave()
            self._spool = spool
            self.open()
            self.inherit(left)

    def open(self) -> None:
        """Finds the files that an earlier meterd spooled. The store is locked already."""
        if self._database.path is not None:
            self._disk = file_identity.disk(self._database.path.parent)
        try:
            with self._spool_lock:
                self._spool.open()
        except StoreError as error:
            _log.error("what was spooled cannot be read: %s", error)
        self._count_spooled()
        if self.spooled:
            _log.warning("%d samples were spooled, and go to the store now", self.spooled)

    def close(self) -> None:
        with self._spool_lock:
            self._spool.close()

    # -- when another store takes its place ----------------------------------------------------

    def give_up(self) -> list[Path]:
        """The files of its spool, oldest first, which are anybody's from now on.

        None where a thread hangs in it: what it holds stays there.
        """
        self._is_given_up = True
        if not self._spool_lock.acquire(timeout=_HELD_S):
            _log.error("what was spooled stays in %s: its disk does not answer", self._spool_path)
            return []
        try:
            return self._leave()
        finally:
            self._spool_lock.release()

    def _leave(self) -> list[Path]:
        # What was in a file that is gone is in another one then.
        self.check_spool_files()
        return self._spool.give_up()

    def inherit(self, files: Sequence[Path]) -> None:
        """Takes over another spool's records, to be committed to this store. Thread-safe."""
        with self._spool_lock:
            before = self._spool.samples
            for path, error in self._spool.adopt(files).items():
                _log.error("what was spooled in %s stays there for now: %s", path, error)
            self._count_spooled()
            if self.spooled > before:
                places = ", ".join(sorted({str(file.parent) for file in files}))
                _log.warning("%d spooled samples come from %s", self.spooled - before, places)

    # -- when something failed ----------------------------------------------------------------

    def can_recover(self, error: StoreError) -> bool:
        """Does what can be done about it at once; whether another try makes sense.

        Raises StoreError where it knows more about it.
        """
        if (
            error.code == StoreCode.FULL
            and self._database.path is not None
            and self._ballast.release()
        ):
            _log.warning("the disk is full: the reserve is released (%s)", error)
            return True
        if isinstance(error, GoneError):
            return self._begin_anew(error)
        path = self._database.path
        if path is None:
            return False
        if not quarantine.is_damage(error):
            odd = isinstance(error, UnforeseenError) or error.code == StoreCode.CORRUPT
            return odd and self._quarantine_rows()
        try:
            quarantine.quarantine_database(path, self._clock.now_ms())
        except StoreError as further:
            _log.error("the damaged store cannot be put aside: %s", further)
            return False
        self.set_aside += 1
        self._engine.restart_empty()
        return True

    def _quarantine_rows(self) -> bool:
        try:
            return self._engine.quarantine_foreign_rows()
        except StoreError as error:
            _log.error("the store's rows cannot be looked through: %s", error)
            return False

    def _begin_anew(self, error: GoneError) -> bool:
        """Goes on in the file that now has the store's name, with all that is in memory.

        Raises StoreError where that would do harm.
        """
        text = str(error)
        path = self._database.path
        if path is not None and (disk := file_identity.disk(path.parent)) != self._disk:
            if not self._engine.is_same_database_back():
                # Its own may come back, and what was begun meanwhile would be hidden then.
                told = (
                    f"{text}, and {path.parent} is on another disk than before: mount its own "
                    "again; or restart meterd, and it begins a store there"
                )
                raise StoreError(told, code=StoreCode.UNAVAILABLE) from error
            self._disk = disk
        self._engine.restart_empty()
        self.begun_anew += 1
        told = f"{text} while meterd runs: it goes on in the file of that name"
        self._notices.append(Notice(EventKind.STORE_BEGUN_ANEW, told))
        _log.critical(
            "%s while meterd runs: what is polled goes on in the file of that name, which is made "
            "where there is none. It gets all that is still in memory (since the last full hours); "
            "what was older is only where the file went: to have it back, stop meterd and put it, "
            "or a backup, in its place",
            text,
        )
        return True

    def make_room(self) -> None:
        """The oldest samples go to the spool where the memory would not end otherwise."""
        if self._head.waiting > self._memory_limit:
            # More than is needed, so that there is not a small record every few seconds.
            self.spool_waiting(max(self._memory_limit * 3 // 4, 1))
        while self._head.waiting > self._memory_limit:
            moves = self._head.moves
            batches = self._head.uncommitted(self._head.waiting - self._memory_limit)
            if not batches:
                break
            lost = replace(extent_of(batches), samples=self._head.forget(batches, moves))
            self._tell_lost(lost, "the spool cannot be written, and memory is full")

    def spool_waiting(self, left: int = 0) -> bool:
        """All but `left` samples of what waits go to the spool, the oldest first.

        Whether they did: else they wait on, and `spool_error` says why.
        """
        with self._spool_lock:
            if self._is_given_up:
                return False
            while self._head.waiting > left:
                moves = self._head.moves
                batches = self._head.uncommitted(min(BATCH, self._head.waiting - left))
                if not batches:
                    break
                try:
                    gone, key = self._spool.put(batches)
                except StoreError as error:
                    self._spool_fails(error)
                    return False
                # Where the store confirmed some meanwhile they come twice, which is harmless.
                self._head.mark_spooled(batches, moves, key, self._memory_limit)
                self._count_spooled()
                self._tell_lost(gone, "the spool is full: raise store.spool.size")
            self._spool_works()
            return True

    def check_spool_files(self) -> None:
        """Notices spool files that were deleted or replaced; what they held is written anew.
        Thread-safe.
        """
        with self._spool_lock:
            try:
                if self._spool and self._spool.look():
                    self._spool_works()
            except StoreError as error:
                self._spool_fails(error)

    def _spool_works(self) -> None:
        if self.spool_error is not None:
            _log.warning("the spool can be written again")
        self.spool_error = None

    def _spool_moved(self, text: str) -> None:
        _log.error("%s", text)
        self._notices.append(Notice(EventKind.STORE_BEGUN_ANEW, text))

    def _spool_fails(self, error: StoreError) -> None:
        if self.spool_error is None:
            text = f"the spool cannot be written, polls wait in memory: {error}"
            _log.error("%s", text)
            self._notices.append(Notice(EventKind.SPOOL_FAILED, text))
        self.spool_error = error

    def spooler_failed(self, error: StoreError, *, is_new: bool) -> None:
        """The spooler's thread met a bug; the status shows it until something was spooled again."""
        if is_new:
            text = f"polls may wait in memory only: {error}"
            self._notices.append(Notice(EventKind.SPOOL_FAILED, text))
        self.spool_error = error

    def spooler_works(self) -> None:
        if self.spool_error is not None and self.spool_error.code == StoreCode.BUG:
            self.spool_error = None

    def _tell_lost(self, lost: SpoolExtent, why: str) -> None:
        if not lost:
            return
        self.dropped += lost.samples
        text = f"{describe_loss(lost)}: {why}"
        _log.error("%s", text)
        data = {"samples": lost.samples, "first": lost.first, "last": lost.last}
        self._notices.append(Notice(EventKind.POLLS_LOST, text, data))

    def _keep_body(self, damaged: DamageError, body: bytes | None) -> None:
        """A record of the spool that cannot be read. Raises StoreError."""
        quarantine.quarantine_body(self._database.folder, damaged, body)
        self._notices.append(Notice(EventKind.STORE_DAMAGED, str(damaged)))

    # -- when all is well again ---------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a spooled record is due to be replayed."""
        return bool(self._spool) and self._clock.monotonic() >= self._replay_not_before

    def _count_spooled(self) -> None:
        self.spooled = self._spool.samples

    def replay_spooled(self) -> list[SeriesBatch]:
        """Commits one spooled record; returns what it held. Raises StoreError."""
        with self._spool_lock:
            record = self._spool.oldest()
        if record is None:
            self.spooled = 0
            return []
        try:
            polls = list(unpack(record))
        except StoreError as error:
            # Its checksum is right, so no second look would help.
            damaged = DamageError("spool", next(self._names), str(error))
            self._keep_body(damaged, record)
            polls = []
        if not self._engine.may_write_or_expired(poll.device for poll in polls):
            self._replay_not_before = self._clock.monotonic() + _LEASES_EVERY
            return []
        mine = [poll for poll in polls if self._engine.writes_for(poll.device)]
        batches = self._engine.write_at_once(mine)
        with self._spool_lock:
            # Unless it went meanwhile, to make room for another one.
            self._spool.done(record)
            self._count_spooled()
        if len(mine) < len(polls):
            others = Head()
            for poll in polls:
                if not self._engine.writes_for(poll.device):
                    others.take(poll)
            lost = extent_of(others.uncommitted(others.waiting))
            self._tell_lost(lost, "another meterd has the device by now")
        if not self.waits:
            _log.warning("all that was spooled is in the store")
        return batches

    def tidy(self) -> None:
        """Creates the ballast file again once there is room; called now and then."""
        if self._database.path is not None and self._clock.monotonic() >= self._ballast_due:
            self._ballast.keep()
            self._ballast_due = self._clock.monotonic() + _RESERVE_EVERY


def spool_of(database: Database, wanted: Path | None = None) -> Path:
    """The path with which the names of the spool's files begin; `wanted`: the setting."""
    if wanted is not None:
        return wanted
    if database.path is not None:
        return database.path.with_name(f"{database.path.name}.spool")
    # What is polled for one database must not come into another one.
    name = re.sub(r"[^\w.]+", "-", database.label.partition("://")[2].partition(",")[0])
    return database.folder / f"{_SERVER}-{name}.spool"


def describe_loss(lost: SpoolExtent) -> str:
    """How many samples are lost, of which devices and of which time."""
    names = sorted(lost.devices)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    text = f"{lost.samples} samples are lost, of {', '.join(names[:_NAMED])}{more}"
    if lost.first is None or lost.last is None:
        return text
    first, last = (datetime.fromtimestamp(t / 1000, UTC) for t in (lost.first, lost.last))
    return f"{text}, from {first:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ}"
