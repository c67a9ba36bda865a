"""What the writer's thread does while the store fails: nothing that was polled is lost lightly."""

import logging
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from meterd.errors import StoreError
from meterd.model.clock import Clock
from meterd.store import corrupt, identity
from meterd.store.connections import Database
from meterd.store.corrupt import DamageError
from meterd.store.hot import Hot, Stretch
from meterd.store.identity import GoneError
from meterd.store.keeper import BATCH, Keeper
from meterd.store.reserve import Reserve
from meterd.store.spool import Spool, unpack

_BYTES = 8  # of one sample in memory
_RESERVE_EVERY = 300.0  # seconds between two looks whether there is room for a reserve again
_SERVER = "meterd"  # begins the names of files where the database has none

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Precautions:
    """What is kept ready for bad days; all sizes in bytes.

    While the store cannot be written, polls wait in `memory`, then in the spool of at most
    `size`, beside the database or where `spool` says; then the oldest are dropped. `reserve`
    is room that is given back when the disk is full; 0 is none.
    """

    memory: int = 16_000_000
    spool: Path | None = None
    size: int = 64 << 20
    reserve: int = 4 << 20


class Rescue:
    """Lives in the writer's thread; `dropped`, `spooled` and `set_aside` are read elsewhere."""

    def __init__(
        self, database: Database, hot: Hot, keeper: Keeper, clock: Clock, plan: Precautions
    ) -> None:
        self._database = database
        self._hot = hot
        self._keeper = keeper
        self._clock = clock
        self._limit = plan.memory // _BYTES
        beside = database.path or database.folder / _SERVER
        self._spool_path = plan.spool or beside.with_name(f"{beside.name}.spool")
        self._spool = Spool(self._spool_path, plan.size)
        self._reserve = Reserve(beside.with_name(f"{beside.name}.reserve"), plan.reserve)
        self._due = 0.0
        self._names = count(clock.now_ms())  # of what cannot be read
        self.dropped = 0
        self.spooled = 0
        self.set_aside = 0
        self.begun_anew = 0
        self._disk: int | None = None
        self._spool_disk: int | None = None

    def open(self) -> None:
        """Finds what an earlier meterd has spooled. The store is locked by now."""
        if self._database.path is not None:
            self._disk = identity.disk(self._database.path.parent)
        self._spool_disk = identity.disk(self._spool_path.parent)
        try:
            self._spool.open()
        except StoreError as error:
            _log.error("what was spooled cannot be read: %s", error)
        self.spooled = self._spool.samples
        if self.spooled:
            _log.warning("%d samples were spooled, and go to the store now", self.spooled)

    def close(self) -> None:
        self._spool.close()

    # -- when something failed ----------------------------------------------------------------

    def helps(self, error: StoreError) -> bool:
        """Does what can be done about it at once; whether another try makes sense.

        Raises StoreError where it knows more about it.
        """
        if error.code == "full" and self._database.path is not None and self._reserve.release():
            _log.warning("the disk is full: the reserve is released (%s)", error)
            return True
        if isinstance(error, GoneError):
            return self._begin_anew(error)
        path = self._database.path
        if path is None or not corrupt.is_damage(error):
            return False
        try:
            corrupt.set_aside(path, self._clock.now_ms())
        except StoreError as further:
            _log.error("the damaged store cannot be put aside: %s", further)
            return False
        self.set_aside += 1
        self._keeper.start_over()
        return True

    def _begin_anew(self, error: GoneError) -> bool:
        """What is in memory goes to whatever has the store's name now, a new file perhaps.

        Raises StoreError where that would do harm.
        """
        text = str(error)
        path = self._database.path
        if path is not None and (disk := identity.disk(path.parent)) != self._disk:
            if not self._keeper.is_back():
                # Its own may come back, and what was begun meanwhile would be hidden then.
                told = (
                    f"{text}, and {path.parent} is on another disk than before: mount its own "
                    "again; or restart meterd, and it begins a store there"
                )
                raise StoreError(told, code="unavailable") from error
            self._disk = disk
        self._keeper.start_over()
        self.begun_anew += 1
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
        if self._hot.waiting > self._limit:
            # More than is needed, so that there is not a small record every few seconds.
            self._shelter(max(self._limit * 3 // 4, 1))
        while self._hot.waiting > self._limit:
            batch = self._hot.uncommitted(self._hot.waiting - self._limit)
            self.dropped += self._hot.forget(batch)

    def shelter_all(self) -> None:
        """At the end: what the store did not take goes to the spool."""
        self._shelter(0)

    def _shelter(self, left: int) -> None:
        if self._hot.waiting > left and identity.disk(self._spool_path.parent) != self._spool_disk:
            told = "the spool is not written: %s is on another disk than at the start"
            _log.error(told, self._spool_path.parent)
            return
        while self._hot.waiting > left:
            batch = self._hot.uncommitted(min(BATCH, self._hot.waiting - left))
            try:
                self.dropped += self._spool.put(batch)
            except StoreError as error:
                _log.error("the spool cannot be written: %s", error)
                return
            self._hot.forget(batch)
            self.spooled = self._spool.samples

    # -- when all is well again ---------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether there is something to bring back."""
        return bool(self._spool)

    def bring_back(self) -> list[Stretch]:
        """One record of the spool goes to the store; what it held. Raises StoreError."""
        record = self._spool.oldest()
        if record is None:
            self.spooled = 0
            return []
        try:
            polls = list(unpack(record))
        except StoreError as error:
            # Its checksum is right, so no second look would help.
            damaged = DamageError("spool", next(self._names), str(error))
            corrupt.keep_body(self._database.folder, damaged, record)
            polls = []
        batch = self._keeper.take_back(polls)
        self._spool.done(sum(stretch.samples for stretch in batch))
        self.spooled = self._spool.samples
        if not self._spool:
            _log.warning("all that was spooled is in the store")
        return batch

    def tidy(self) -> None:
        """Now and then: the reserve is made again once there is room."""
        if self._database.path is not None and self._clock.monotonic() >= self._due:
            self._reserve.keep()
            self._due = self._clock.monotonic() + _RESERVE_EVERY
