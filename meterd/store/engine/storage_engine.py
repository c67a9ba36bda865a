"""The store as the writer's thread keeps it: opened and met again, committed to, tidied."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from meterd.model.clock import Clock
from meterd.model.event import EventKind, Notice
from meterd.model.sample import Poll
from meterd.store.blocks.chunk import Chunk
from meterd.store.cluster.lease_state import DeviceLease, LeaseState
from meterd.store.cluster.leased_writer import LeasedWriter, forget_others, taken_over
from meterd.store.compaction.days import DayCompactor
from meterd.store.compaction.hours import HourCompactor
from meterd.store.compaction.latest_rows import LatestRows
from meterd.store.compaction.retention import TRIM_EVERY, Retention
from meterd.store.compaction.session import StoreSession
from meterd.store.compaction.write_rights import SoleWriter
from meterd.store.db import file_identity, foreign_rows, migrate, renames
from meterd.store.db.connections import Database
from meterd.store.db.file_identity import GoneError
from meterd.store.db.quarantine import DamageError, keep_body, keep_file
from meterd.store.db.renames import Rename
from meterd.store.db.writer_lease import WriterLease
from meterd.store.engine.maintenance import MaintenanceSchedule
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.head.replay import journal_spans, replay
from meterd.store.head.view import last_times
from meterd.store.wal import file_wal

BATCH = 200_000  # samples a transaction, so that a long backlog is confirmed bit by bit
SEAL_EVERY = 60.0  # seconds between two looks at what may be sealed
NEWEST_EVERY = 900.0  # seconds; rows that people read, at half a byte a sample on flash
_ALL = 1 << 62  # samples
# Seconds in which leases settle: a device whose meterd went has another one long before.
_LEASES_WITHIN = 300.0

Absorb = Callable[[Connection, Catalog, str, str], None]
"""Writes that one device is a part of another (tools/merge.py)."""

_log = logging.getLogger(__name__)


class StorageEngine:
    """The store as the writer's thread has it. Only `Head` and `Catalog` are seen outside."""

    def __init__(
        self,
        database: Database,
        hot: Head,
        catalog: Catalog,
        *,
        clock: Clock,
        keep: float | None = None,
        rows: float | None = None,
        to_file: bool = False,
        share: LeaseState | None = None,
        notices: deque[Notice] | None = None,
        tenure: WriterLease | None = None,
    ) -> None:
        """`keep`: how many seconds raw samples stay; None is for ever.

        `rows`: for how many seconds each is a plain row, too; None is not at all.
        `to_file`: the journal is a file beside the database (wal/file_wal.py), not a table.
        `tenure`: what says that we are the one writer of a file.
        `share`: what of the store this meterd may write, where there are others.
        `notices` gets what is noticed of damage.
        Raises StoreError where there is no place for such a file.
        """
        self._database = database
        self._hot = hot
        self._catalog = catalog
        self._clock = clock
        self._plain = rows is not None
        self._share = share
        self._tenure = tenure
        self._leased: LeasedWriter | None = None  # of the session that is open
        self._adopted: Mapping[str, DeviceLease] = {}
        self._waited_with: Mapping[str, DeviceLease] | None = None
        self._waited_since = 0.0
        catalog.shared = share is not None
        self._ledger: StoreSession | None = None
        self._rows: dict[int, int] = {}
        self._loaded = False
        self._notices: deque[Notice] = deque() if notices is None else notices
        self._met = False  # whether a database and the file beside it were compared
        self._mark = ""
        self._filed = file_wal.beside(database, catalog, self._lost) if to_file else None
        self._sealer = HourCompactor(hot, catalog, self._rows, set())
        self._moving = False  # whether the journal is to go from its table to a file, or back
        self._closer = DayCompactor(hot, catalog, self._sealer, merging=not to_file)
        self._newest = LatestRows(hot, catalog, clock)
        self._retention = Retention(clock, keep, rows)
        self._chores = self._planned()

    def _planned(self) -> MaintenanceSchedule:
        chores = MaintenanceSchedule(self._clock)
        chores.add(self._seal, SEAL_EVERY, SEAL_EVERY)
        chores.add(self._close_day, SEAL_EVERY, SEAL_EVERY)
        if self._filed is not None:
            chores.add(self._newest.write_hourly, SEAL_EVERY, SEAL_EVERY)
        else:
            chores.add(self._newest.write, NEWEST_EVERY, SEAL_EVERY)
        chores.add(self._retention.trim, TRIM_EVERY)
        return chores

    def tune(self, keep: float | None, rows: float | None, *, to_file: bool) -> None:
        """After a reload, while the store stays open and locked: what the constructor was told.

        Where the journal moves into a file or out of it, the next commit moves what it holds.
        """
        self._plain = rows is not None
        self._retention.tune(keep, rows)
        if to_file is not (self._filed is not None):
            self.fail()
            lost = self._lost
            self._filed = file_wal.beside(self._database, self._catalog, lost) if to_file else None
            self._moving = self._loaded
            self._closer.merging = not to_file
            self._chores = self._planned()

    def open(self) -> StoreSession:
        """The store, open; opened again after each failure, as it may be another one by now.

        Raises StoreError.
        """
        if self._share is not None and self._share.held != self._adopted:
            self.fail()
        if self._ledger is None:
            ledger = self._fresh()
            try:
                self._meet(ledger)
            except BaseException:
                ledger.close()
                raise
            self._ledger = ledger
        return self._ledger

    def _meet(self, ledger: StoreSession) -> None:
        known, files = self._catalog.files, ledger.files
        differ = known is not None and files is not None and known.database != files.database
        if self._loaded and files is not None and differ:
            raise GoneError(f"{files.path} is another file by now")
        self._load(ledger)
        self._catalog.files = files
        if files is not None:
            files.is_kept = True
        if known is not None and known is not files:
            known.let_go()

    def _fresh(self) -> StoreSession:
        if self._share is None:
            migrate.upgrade(self._database)
            return StoreSession(self._database, self._catalog, SoleWriter(self._tenure))
        self._share.upgrade()
        self._leased = LeasedWriter(self._share, self._catalog)
        return StoreSession(self._database, self._catalog, self._leased)

    def fail(self) -> None:
        """Something went wrong: nothing of the open connection is trusted any more."""
        self._sealer.interrupt()
        # Taken first, so that nobody closes it a second time.
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()
        if self._filed is not None:
            self._filed.close()

    def close(self) -> None:
        """Nothing of the store stays open, so that its disk can be unmounted."""
        self.fail()
        if self._catalog.files is not None:
            self._catalog.files.let_go()

    def leave(self) -> None:
        """At the end: nobody writes to the store any more. Raises StoreError."""
        if self._ledger is not None:
            self._ledger.leave()

    def lend(self) -> StoreSession:
        """The store, for somebody who may change what is sealed. Raises StoreError."""
        self._sealer.interrupt()
        return self.open()

    def look(self) -> None:
        """Raises GoneError where a file that was opened is no longer the one of its name.

        To be asked before anything is made in the place of what is gone.
        """
        if self._ledger is not None:
            self._ledger.check()
        elif self._loaded and self._catalog.files is not None:
            self._catalog.files.check()
        if self._filed is not None:
            self._filed.check()

    def is_back(self) -> bool:
        """Whether the database that was known is where it was, on a disk with another number."""
        known = self._catalog.files
        found = None if known is None else file_identity.inode(known.path)
        return known is not None and found is not None and found[1] == known.database[1]

    def mend(self) -> bool:
        """Looks through every row of a file for what no meterd wrote; whether there was any.

        Raises StoreError.
        """
        self._catalog.doubted = False
        if self._database.path is None or not self._database.made():
            return False
        self.fail()
        opened = self._database.writing()
        try:
            with opened.begin() as connection:
                if self._tenure is not None:
                    self._tenure.hold(connection)
                folder = self._database.folder
                return foreign_rows.put_aside(connection, folder, self._catalog.names) > 0
        finally:
            opened.close()

    @property
    def is_doubted(self) -> bool:
        """Whether a reader has met such a row."""
        return self._catalog.doubted

    def rename(self, one: Rename) -> None:
        """A device gets another name, in the store and here. Raises StoreError."""
        ledger = self.lend()
        with ledger.transaction() as connection:
            renames.write(connection, one)
        self._catalog.rename(one.old, one.new)
        self._hot.follow()
        if self._filed is not None:
            # Its records tell names: none is to tell one that is to be another device's.
            self._restart(self._filed, ledger)

    def absorb(self, old: str, new: str, work: "Absorb") -> None:
        """What is left of a device, all of whose samples another has, becomes that one's.

        Raises StoreError.
        """
        ledger = self.lend()
        self._hot.drop(old)
        if self._filed is None and self._rows:
            self._sealer.rewrite(ledger)
        with ledger.transaction() as connection:
            work(connection, self._catalog, old, new)
        self._catalog.settled()
        self._catalog.absorb(old, new)
        self._newest.forget()
        self._sealer.interrupt()
        self._sealer.dirty.intersection_update(ledger.dirty())
        if self._filed is not None:
            self._restart(self._filed, ledger)

    def start_over(self) -> None:
        """Another database, an empty one perhaps, is in the place of the one that was known.

        It gets all that is still here, under numbers of its own.
        """
        self.fail()
        self._rows.clear()
        self._sealer.forget()
        self._newest.forget()
        self._catalog.forget()
        self._catalog.let_go()
        self._hot.unconfirm()
        self._hot.renumber()
        if self._filed is not None:
            self._filed.forget()
        self._loaded = False

    def _load(self, ledger: StoreSession) -> None:
        self._hot.follow()
        self._sealer.dirty |= ledger.dirty()
        if self._leased is not None:
            self._adapt(ledger, self._leased)
            return
        if self._loaded:
            self._meet_again(ledger)
            self._move_journal(ledger)
            return
        self._newest.load()
        found = Head()
        self._rows.update(self._replay(ledger, found))
        self._retention.begin(max(last_times(found, self._catalog).values(), default=None))
        self._take_file(ledger)
        self._hot.adopt(found)
        self._loaded = True

    def _adapt(self, ledger: StoreSession, leased: LeasedWriter) -> None:
        """Gives up devices that others have, and takes over those that are new here."""
        held = leased.held
        forget_others(self._hot, held, self._catalog)
        ids = {one.id for one in held.values()}
        self._catalog.abandon(ids)
        self._sealer.keep_only(ids)
        if leased.behind:
            self._write_again(ledger)
        if held.items() - self._adopted.items():
            found, rows = taken_over(ledger, held, self._adopted, self._catalog)
            self._rows.update(rows)
            self._hot.adopt(found)
        self._know_rows(set(ledger.numbers()))
        self._adopted = held
        self._loaded = True

    def _meet_again(self, ledger: StoreSession) -> None:
        there = set(ledger.numbers())
        if self._rows.keys() - there:
            self._write_again(ledger)
        # A commit whose confirmation was lost may have left a row that is not known here.
        self._know_rows(there)

    def _move_journal(self, ledger: StoreSession) -> None:
        """After a change of settings: all that is confirmed is where the next start looks."""
        path = self._database.path
        if not self._moving or path is None:
            return
        if self._filed is not None:
            # What rows hold stays there until it is sealed; the file begins with the next commit.
            for _ in self._filed.polls():
                pass
        else:
            kept = [s for one in self._hot.devices() for s in self._hot.stretches(one, kept=True)]
            spans = journal_spans(kept, self._catalog)
            if spans:
                self._note_row(ledger.commit(spans, {}), spans)
            file_wal.place(path).unlink(missing_ok=True)
        self._moving = False

    def _know_rows(self, there: set[int]) -> None:
        now = self._clock.now_ms()
        kept = {number: self._rows.get(number, now) for number in there}
        self._rows.clear()
        self._rows.update(kept)

    def _write_again(self, ledger: StoreSession) -> None:
        _log.warning("the store lacks what it had: all that is in memory goes there again")
        self._rows.clear()
        self._sealer.forget()
        self._sealer.dirty |= ledger.dirty()
        self._hot.unconfirm()

    def _replay(self, ledger: StoreSession, found: Head) -> dict[int, int]:
        strange: list[tuple[DamageError, list[Chunk]]] = []
        while True:
            try:
                rows = replay(
                    ledger.journal(), found, self._catalog, lambda *one: strange.append(one)
                )
            except DamageError as damaged:
                # What came before it is taken twice, which is harmless.
                strange.clear()
                self._put_aside(ledger, damaged)
            else:
                for damaged_row, left in strange:
                    ledger.reduce(damaged_row, left, self._database.folder)
                    self._tell(damaged_row)
                return rows

    def _put_aside(self, ledger: StoreSession, damaged: DamageError) -> None:
        ledger.put_aside(damaged, self._database.folder)
        self._tell(damaged)

    def _lost(self, damaged: DamageError, body: bytes | None) -> None:
        """Something of the journal file cannot be read. Raises StoreError."""
        keep_body(self._database.folder, damaged, body)
        self._tell(damaged)

    def _tell(self, damaged: DamageError) -> None:
        self._notices.append(Notice(EventKind.STORE_DAMAGED, f"the store's {damaged}"))

    def _take_file(self, ledger: StoreSession) -> None:
        """What a journal file holds; where the journal is a table now, it goes there."""
        path = self._database.path
        if path is None:
            return
        self._compare(ledger, path)
        left = file_wal.left(path, self._catalog, self._filed, self._lost)
        spans = journal_spans(left.uncommitted(_ALL), self._catalog)
        if spans and (self._filed is None or self._catalog.fresh):
            self._note_row(ledger.commit(spans, {}, filed=self._filed is not None), spans)
        if self._filed is None:
            if self._mark:
                self._note_mark(ledger, "")
            file_wal.place(path).unlink(missing_ok=True)
        elif not self._mark or file_wal.torn(self._mark, *[self._filed.generation] * 2):
            self._note_mark(ledger, file_wal.mark(self._filed.generation))
        self._catalog.note(spans)
        self._hot.adopt(left)

    def _compare(self, ledger: StoreSession, path: Path) -> None:
        """Whether file and database are of one moment; at the start, before anything is done."""
        self._mark = ledger.memos().get(file_wal.MARK, "")
        there = file_wal.generation(self._database)
        text = file_wal.torn(self._mark, there, there)
        if text and not self._met:
            kept = self._database.folder / f"meterd.damaged-copy-{self._clock.now_ms()}"
            keep_file(kept, f"{path}: {text}\n".encode())
            _log.critical(
                "%s; this is no copy by `meterd db backup`, or a file of it was replaced (%s says "
                "so until it is deleted)",
                text,
                kept,
            )
        self._met = True

    def _restart(self, file: file_wal.FileWal, ledger: StoreSession) -> None:
        """The file goes on with nothing but what no block has."""
        self._note_mark(ledger, file_wal.mark(file.generation + 1))
        kept = map(self._sealer.span, self._hot.devices())
        file.restart([span for span in kept if span is not None])

    def _note_mark(self, ledger: StoreSession, body: str) -> None:
        if body != self._mark:
            ledger.commit((), {file_wal.MARK: body}, filed=True)
            self._mark = body

    def commit(self, memos: Mapping[str, str]) -> list[SeriesBatch]:
        """Writes the oldest that waits, and the memos; what was written. Raises StoreError."""
        ledger = self.open()
        # Another meterd of the cluster may have renamed a device.
        self._hot.follow()
        if self._share is not None:
            forget_others(self._hot, self._share.held, self._catalog)
        moves = self._hot.moves
        batch = self._hot.uncommitted(BATCH)
        spans = journal_spans(batch, self._catalog)
        self._write(ledger, spans, memos)
        # Where the store took so long that some were spooled meanwhile, they come twice.
        self._hot.confirm(batch, moves)
        return batch

    def writes_for(self, device: str) -> bool:
        """Whether polls of the device are ours to write, or another meterd's."""
        return self._share is None or device in self._share.held

    def is_time_for(self, devices: Iterable[str]) -> bool:
        """Whether these are ours, or not to be expected any more: leases come after the start."""
        if self._share is None:
            return True
        now = self._clock.monotonic()
        if self._share.held != self._waited_with:
            self._waited_with, self._waited_since = self._share.held, now
        return all(map(self.writes_for, devices)) or now - self._waited_since > _LEASES_WITHIN

    def take_back(self, polls: Iterable[Poll]) -> list[SeriesBatch]:
        """Writes polls that were elsewhere meanwhile; what was written. Raises StoreError."""
        ledger = self.open()
        found = Head()
        for poll in polls:
            found.take(poll)
        batch = found.uncommitted(_ALL)
        spans = journal_spans(batch, self._catalog)
        if spans:
            self._write(ledger, spans, {})
        # Before what was taken since, which may correct it.
        self._hot.adopt(found)
        self._catalog.note(spans)
        return batch

    def put(self, late: Sequence[SeriesBatch]) -> Sequence[SeriesBatch]:
        """Writes polls that take the place of what was taken before; returns them.

        Raises StoreError.
        """
        ledger, spans = self.open(), journal_spans(late, self._catalog)
        self._write(ledger, spans, {})
        by_device: dict[str, list[SeriesBatch]] = {}
        for stretch in late:
            by_device.setdefault(stretch.device, []).append(stretch)
        for device, mine in by_device.items():
            self._hot.append(device, mine)
        self._sealer.touched(ledger, spans)
        return late

    def _write(
        self, ledger: StoreSession, spans: Sequence[Chunk], memos: Mapping[str, str]
    ) -> None:
        write = ledger.commit if self._filed is None else partial(self._filed.commit, ledger)
        self._note_row(write(spans, memos, plain=self._plain), spans)

    def _note_row(self, number: int | None, spans: Sequence[Chunk]) -> None:
        if number is not None:
            self._rows[number] = max(span.times[-1] for span in spans)

    @property
    def due(self) -> float:
        """The monotonic time of the next chore, in seconds."""
        return self._chores.due

    def work(self) -> None:
        """One piece of the chore that is due first: a commit may want to come next.

        Raises StoreError.
        """
        self._chores.work(self._piece)

    def finish(self) -> None:
        """What is written now and then, now. Raises StoreError."""
        self._newest.write(self.open())

    def seal(self) -> None:
        """Blocks of all that is old, now. Raises StoreError."""
        while self._piece(self._seal):
            pass

    def settle(self) -> None:
        """All that is due some time, now. Raises StoreError."""
        rest = self._newest.write, self._retention.trim
        for do in (self._seal, self._close_day, *rest):
            while self._piece(do):
                pass
        if self._filed is None and self._rows:
            self._sealer.rewrite(self.open())
        self._chores.put_off()

    def _piece(self, do: Callable[[StoreSession], bool]) -> bool:
        try:
            return do(self.open())
        except DamageError as damaged:
            self._put_aside(self.lend(), damaged)
            return True

    def _seal(self, ledger: StoreSession) -> bool:
        now = self._clock.now_ms()
        if self._sealer.begins(now):
            # What is sealed is looked at before it leaves the memory.
            self._newest.look()
        sealed, more = self._sealer.seal(ledger, now)
        if self._filed is not None:
            self._filed.stale |= sealed > 0
            if self._filed.stale and not more:
                # After the blocks: a crash in between leaves their polls twice, which is harmless.
                self._restart(self._filed, ledger)
        return more

    def _close_day(self, ledger: StoreSession) -> bool:
        return self._closer.work(ledger, self._clock.now_ms())
