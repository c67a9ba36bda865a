"""The open store: opening and reopening, commits, replay of the WAL, compaction, renames."""

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
from meterd.store.cluster.leased_writer import LeasedWriter, adopted_polls, drop_unleased
from meterd.store.compaction.days import DayCompactor
from meterd.store.compaction.hours import HourCompactor
from meterd.store.compaction.latest_rows import LatestRows
from meterd.store.compaction.retention import TRIM_EVERY, Retention
from meterd.store.compaction.session import StoreSession
from meterd.store.compaction.write_rights import SoleWriter
from meterd.store.db import file_identity, foreign_rows, migrate, renames
from meterd.store.db.connections import Database
from meterd.store.db.file_identity import GoneError
from meterd.store.db.quarantine import DamageError, quarantine_body, quarantine_file
from meterd.store.db.renames import Rename
from meterd.store.db.writer_lease import WriterLease
from meterd.store.engine.maintenance import MaintenanceSchedule
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.head.replay import replay, wal_chunks
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
    """For the store's thread only; other threads share its `Head` and `Catalog`."""

    def __init__(
        self,
        database: Database,
        head: Head,
        catalog: Catalog,
        *,
        clock: Clock,
        keep: float | None = None,
        rows: float | None = None,
        hours: bool = True,
        to_file: bool = False,
        share: LeaseState | None = None,
        notices: deque[Notice] | None = None,
        writer_lease: WriterLease | None = None,
    ) -> None:
        """`keep`: how many seconds raw samples stay; None is for ever.

        `rows`: for how many seconds each is a plain row, too; None is not at all.
        `hours`: whether what an hour came to is a plain row for each series.
        `to_file`: the WAL is a file beside the database (wal/file_wal.py), not a table.
        `writer_lease`: what says that we are the one writer of a file.
        `share`: what of the store this meterd may write, where there are others.
        `notices` gets what is noticed of damage.
        Raises StoreError where there is no place for such a file.
        """
        self._database = database
        self._head = head
        self._catalog = catalog
        self._clock = clock
        self._plain = rows is not None
        self._share = share
        self._writer_lease = writer_lease
        self._leased: LeasedWriter | None = None  # of the session that is open
        self._adopted: Mapping[str, DeviceLease] = {}
        self._leases_waited_with: Mapping[str, DeviceLease] | None = None
        self._leases_waited_since = 0.0
        catalog.shared = share is not None
        self._session: StoreSession | None = None
        self._wal_rows: dict[int, int] = {}
        self._loaded = False
        self._notices: deque[Notice] = deque() if notices is None else notices
        self._compared = False  # whether a database and the file beside it were compared
        self._generation_memo = ""
        self._file_wal = (
            file_wal.open_beside(database, catalog, self._quarantine) if to_file else None
        )
        self._hour_compactor = HourCompactor(head, catalog, self._wal_rows, set(), plain=hours)
        self._moving = False  # whether the WAL is to go from its table to a file, or back
        self._day_compactor = DayCompactor(head, catalog, self._hour_compactor, merging=not to_file)
        self._newest = LatestRows(head, catalog, clock)
        self._retention = Retention(clock, keep, rows)
        self._schedule = self._maintenance_tasks()

    def _maintenance_tasks(self) -> MaintenanceSchedule:
        schedule = MaintenanceSchedule(self._clock)
        schedule.add(self._seal, SEAL_EVERY, SEAL_EVERY)
        schedule.add(self._close_day, SEAL_EVERY, SEAL_EVERY)
        if self._file_wal is not None:
            schedule.add(self._newest.write_hourly, SEAL_EVERY, SEAL_EVERY)
        else:
            schedule.add(self._newest.write, NEWEST_EVERY, SEAL_EVERY)
        schedule.add(self._retention.trim, TRIM_EVERY)
        return schedule

    def tune(self, keep: float | None, rows: float | None, *, hours: bool, to_file: bool) -> None:
        """Applies settings after a reload, while the store stays open and locked.

        Where the WAL moves into a file or out of it, the next commit moves what it holds.
        """
        self._plain = rows is not None
        self._hour_compactor.plain = hours
        self._retention.tune(keep, rows)
        if to_file is not (self._file_wal is not None):
            self.fail()
            lost = self._quarantine
            self._file_wal = (
                file_wal.open_beside(self._database, self._catalog, lost) if to_file else None
            )
            self._moving = self._loaded
            self._day_compactor.merging = not to_file
            self._schedule = self._maintenance_tasks()

    def open(self) -> StoreSession:
        """The open store. Opened again after each failure, since the file may have been replaced.

        Raises StoreError.
        """
        if self._share is not None and self._share.held != self._adopted:
            self.fail()
        if self._session is None:
            session = self._new_session()
            try:
                self._accept(session)
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def _accept(self, session: StoreSession) -> None:
        before, files = self._catalog.files, session.files
        differ = before is not None and files is not None and before.database != files.database
        if self._loaded and files is not None and differ:
            raise GoneError(f"{files.path} is another file by now")
        self._load(session)
        self._catalog.files = files
        if files is not None:
            files.is_kept = True
        if before is not None and before is not files:
            before.let_go()

    def _new_session(self) -> StoreSession:
        if self._share is None:
            migrate.upgrade(self._database)
            return StoreSession(self._database, self._catalog, SoleWriter(self._writer_lease))
        self._share.upgrade()
        self._leased = LeasedWriter(self._share, self._catalog)
        return StoreSession(self._database, self._catalog, self._leased)

    def fail(self) -> None:
        """Closes the connection after a failure: its state is not trusted."""
        self._hour_compactor.interrupt()
        # Taken first, so that nobody closes it a second time.
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._file_wal is not None:
            self._file_wal.close()

    def close(self) -> None:
        """Nothing of the store stays open, so that its disk can be unmounted."""
        self.fail()
        if self._catalog.files is not None:
            self._catalog.files.let_go()

    def leave(self) -> None:
        """Releases the right to write, at the end. Raises StoreError."""
        if self._session is not None:
            self._session.leave()

    def borrow(self) -> StoreSession:
        """The store, for a caller that may change sealed blocks. Raises StoreError."""
        self._hour_compactor.interrupt()
        return self.open()

    def look(self) -> None:
        """Raises GoneError where a file that was opened is no longer the one of its name.

        To be asked before anything is made in the place of what is gone.
        """
        if self._session is not None:
            self._session.check()
        elif self._loaded and self._catalog.files is not None:
            self._catalog.files.check()
        if self._file_wal is not None:
            self._file_wal.check()

    def is_same_database_back(self) -> bool:
        """Whether the same file is there again, on a disk that has another device number."""
        database_files = self._catalog.files
        inode = None if database_files is None else file_identity.inode(database_files.path)
        return (
            database_files is not None
            and inode is not None
            and inode[1] == database_files.database[1]
        )

    def quarantine_foreign_rows(self) -> bool:
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
                if self._writer_lease is not None:
                    self._writer_lease.hold(connection)
                folder = self._database.folder
                return foreign_rows.quarantine_rows(connection, folder, self._catalog.names) > 0
        finally:
            opened.close()

    @property
    def has_foreign_rows(self) -> bool:
        """Whether a reader has met a row that is not meterd's."""
        return self._catalog.doubted

    def rename(self, rename: Rename) -> None:
        """A device gets another name, in the store and here. Raises StoreError."""
        session = self.borrow()
        with session.transaction() as connection:
            renames.write(connection, rename)
        self._catalog.rename(rename.old, rename.new)
        self._head.follow()
        if self._file_wal is not None:
            # Its records tell names: none is to tell one that is to be another device's.
            self._restart(self._file_wal, session)

    def absorb(self, old: str, new: str, work: "Absorb") -> None:
        """Gives a merged device's remaining rows to the other, which has all its samples.

        Raises StoreError.
        """
        session = self.borrow()
        self._head.drop(old)
        if self._file_wal is None and self._wal_rows:
            self._hour_compactor.rewrite(session)
        with session.transaction() as connection:
            work(connection, self._catalog, old, new)
        self._catalog.settled()
        self._catalog.absorb(old, new)
        self._newest.forget()
        self._hour_compactor.interrupt()
        self._hour_compactor.dirty.intersection_update(session.dirty())
        if self._file_wal is not None:
            self._restart(self._file_wal, session)

    def restart_empty(self) -> None:
        """Starts from a database that took the place of the former one, perhaps an empty one.

        It gets all that is still here, under numbers of its own.
        """
        self.fail()
        self._wal_rows.clear()
        self._hour_compactor.forget()
        self._newest.forget()
        self._catalog.forget()
        self._catalog.let_go()
        self._head.unconfirm()
        self._head.renumber()
        if self._file_wal is not None:
            self._file_wal.forget()
        self._loaded = False

    def _load(self, session: StoreSession) -> None:
        self._head.follow()
        self._hour_compactor.dirty |= session.dirty()
        if self._leased is not None:
            self._adopt_leases(session, self._leased)
            return
        if self._loaded:
            self._resynchronise(session)
            self._move_wal(session)
            return
        self._newest.load()
        journal = Head()
        self._wal_rows.update(self._replay(session, journal))
        self._retention.begin(max(last_times(journal, self._catalog).values(), default=None))
        self._replay_file(session)
        self._head.adopt(journal)
        self._loaded = True

    def _adopt_leases(self, session: StoreSession, leased: LeasedWriter) -> None:
        """Gives up devices that other meterds lease, and takes over those that are new here."""
        held = leased.held
        drop_unleased(self._head, held, self._catalog)
        ids = {lease.id for lease in held.values()}
        self._catalog.abandon(ids)
        self._hour_compactor.keep_only(ids)
        if leased.behind:
            self._recommit_all(session)
        if held.items() - self._adopted.items():
            polls, rows = adopted_polls(session, held, self._adopted, self._catalog)
            self._wal_rows.update(rows)
            self._head.adopt(polls)
        self._set_wal_rows(set(session.numbers()))
        self._adopted = held
        self._loaded = True

    def _resynchronise(self, session: StoreSession) -> None:
        there = set(session.numbers())
        if self._wal_rows.keys() - there:
            self._recommit_all(session)
        # A commit whose confirmation was lost may have left a row that is not known here.
        self._set_wal_rows(there)

    def _move_wal(self, session: StoreSession) -> None:
        """After a change of settings: all that is confirmed is where the next start looks."""
        path = self._database.path
        if not self._moving or path is None:
            return
        if self._file_wal is not None:
            # What rows hold stays there until it is sealed; the file begins with the next commit.
            for _ in self._file_wal.polls():
                pass
        else:
            committed = [
                batch
                for device in self._head.devices()
                for batch in self._head.batches(device, kept=True)
            ]
            chunks = wal_chunks(committed, self._catalog)
            if chunks:
                self._set_wal_row(session.commit(chunks, {}), chunks)
            file_wal.path_beside(path).unlink(missing_ok=True)
        self._moving = False

    def _set_wal_rows(self, numbers: set[int]) -> None:
        now = self._clock.now_ms()
        since = {number: self._wal_rows.get(number, now) for number in numbers}
        self._wal_rows.clear()
        self._wal_rows.update(since)

    def _recommit_all(self, session: StoreSession) -> None:
        _log.warning("the store lacks what it had: all that is in memory goes there again")
        self._wal_rows.clear()
        self._hour_compactor.forget()
        self._hour_compactor.dirty |= session.dirty()
        self._head.unconfirm()

    def _replay(self, session: StoreSession, head: Head) -> dict[int, int]:
        strange: list[tuple[DamageError, list[Chunk]]] = []
        while True:
            try:
                rows = replay(
                    session.journal(), head, self._catalog, lambda *flaw: strange.append(flaw)
                )
            except DamageError as damaged:
                # What came before it is taken twice, which is harmless.
                strange.clear()
                self._put_aside(session, damaged)
            else:
                for damaged_row, left in strange:
                    session.reduce(damaged_row, left, self._database.folder)
                    self._notice_damage(damaged_row)
                return rows

    def _put_aside(self, session: StoreSession, damaged: DamageError) -> None:
        session.put_aside(damaged, self._database.folder)
        self._notice_damage(damaged)

    def _quarantine(self, damaged: DamageError, body: bytes | None) -> None:
        """Something of the WAL file cannot be read. Raises StoreError."""
        quarantine_body(self._database.folder, damaged, body)
        self._notice_damage(damaged)

    def _notice_damage(self, damaged: DamageError) -> None:
        self._notices.append(Notice(EventKind.STORE_DAMAGED, f"the store's {damaged}"))

    def _replay_file(self, session: StoreSession) -> None:
        """Replays a WAL file; where the WAL is a table now, its polls move there."""
        path = self._database.path
        if path is None:
            return
        self._compare_file(session, path)
        left = file_wal.polls_beside(path, self._catalog, self._file_wal, self._quarantine)
        chunks = wal_chunks(left.uncommitted(_ALL), self._catalog)
        if chunks and (self._file_wal is None or self._catalog.fresh):
            self._set_wal_row(
                session.commit(chunks, {}, in_file=self._file_wal is not None), chunks
            )
        if self._file_wal is None:
            if self._generation_memo:
                self._write_generation(session, "")
            file_wal.path_beside(path).unlink(missing_ok=True)
        elif not self._generation_memo or file_wal.mismatch(
            self._generation_memo, *[self._file_wal.generation] * 2
        ):
            self._write_generation(session, file_wal.generation_memo(self._file_wal.generation))
        self._catalog.note(chunks)
        self._head.adopt(left)

    def _compare_file(self, session: StoreSession, path: Path) -> None:
        """Whether file and database are of one moment; at the start, before anything is done."""
        self._generation_memo = session.memos().get(file_wal.MARK, "")
        there = file_wal.generation(self._database)
        text = file_wal.mismatch(self._generation_memo, there, there)
        if text and not self._compared:
            copy = self._database.folder / f"meterd.damaged-copy-{self._clock.now_ms()}"
            quarantine_file(copy, f"{path}: {text}\n".encode())
            _log.critical(
                "%s; this is no copy by `meterd db backup`, or a file of it was replaced (%s says "
                "so until it is deleted)",
                text,
                copy,
            )
        self._compared = True

    def _restart(self, file: file_wal.FileWal, session: StoreSession) -> None:
        """Restarts the WAL file with the polls that no block has."""
        self._write_generation(session, file_wal.generation_memo(file.generation + 1))
        chunks = map(self._hour_compactor.chunk, self._head.devices())
        file.restart([chunk for chunk in chunks if chunk is not None])

    def _write_generation(self, session: StoreSession, body: str) -> None:
        if body != self._generation_memo:
            session.commit((), {file_wal.MARK: body}, in_file=True)
            self._generation_memo = body

    def commit(self, memos: Mapping[str, str]) -> list[SeriesBatch]:
        """Commits the oldest waiting polls and the memos; returns what was written. Raises
        StoreError.
        """
        session = self.open()
        # Another meterd of the cluster may have renamed a device.
        self._head.follow()
        if self._share is not None:
            drop_unleased(self._head, self._share.held, self._catalog)
        moves = self._head.moves
        batches = self._head.uncommitted(BATCH)
        chunks = wal_chunks(batches, self._catalog)
        self._write(session, chunks, memos)
        # Where the store took so long that some were spooled meanwhile, they come twice.
        self._head.confirm(batches, moves)
        return batches

    def writes_for(self, device: str) -> bool:
        """Whether polls of the device are ours to write, or another meterd's."""
        return self._share is None or device in self._share.held

    def may_write_or_expired(self, devices: Iterable[str]) -> bool:
        """Whether these devices are leased here, or their leases are not expected any more."""
        if self._share is None:
            return True
        now = self._clock.monotonic()
        if self._share.held != self._leases_waited_with:
            self._leases_waited_with, self._leases_waited_since = self._share.held, now
        return (
            all(map(self.writes_for, devices)) or now - self._leases_waited_since > _LEASES_WITHIN
        )

    def write_at_once(self, polls: Iterable[Poll]) -> list[SeriesBatch]:
        """Commits polls that are not in memory, such as spooled ones; returns what was written.
        Raises StoreError.
        """
        session = self.open()
        polls = list(polls)
        head = self._head.sibling({poll.device for poll in polls})
        for poll in polls:
            head.take(poll)
        batches = head.uncommitted(_ALL)
        chunks = wal_chunks(batches, self._catalog)
        if chunks:
            self._write(session, chunks, {})
        # Before what was taken since, which may correct it.
        self._head.adopt(head)
        self._catalog.note(chunks)
        return batches

    def put(self, late: Sequence[SeriesBatch]) -> Sequence[SeriesBatch]:
        """Commits polls that replace stored ones; returns them.

        Raises StoreError.
        """
        session, chunks = self.open(), wal_chunks(late, self._catalog)
        self._write(session, chunks, {})
        by_device: dict[str, list[SeriesBatch]] = {}
        for batch in late:
            by_device.setdefault(batch.device, []).append(batch)
        for device, mine in by_device.items():
            self._head.append(device, mine)
        self._hour_compactor.touched(session, chunks)
        return late

    def _write(
        self, session: StoreSession, chunks: Sequence[Chunk], memos: Mapping[str, str]
    ) -> None:
        write = (
            session.commit if self._file_wal is None else partial(self._file_wal.commit, session)
        )
        self._set_wal_row(write(chunks, memos, plain=self._plain), chunks)

    def _set_wal_row(self, number: int | None, chunks: Sequence[Chunk]) -> None:
        if number is not None:
            self._wal_rows[number] = max(chunk.times[-1] for chunk in chunks)

    @property
    def due(self) -> float:
        """The monotonic time of the next task, in seconds."""
        return self._schedule.due

    def work(self) -> None:
        """Does one piece of the task that is due first, so that a commit can come next.

        Raises StoreError.
        """
        self._schedule.work(self._piece)

    def finish(self) -> None:
        """Writes the latest rows, which are otherwise written now and then. Raises StoreError."""
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
        if self._file_wal is None and self._wal_rows:
            self._hour_compactor.rewrite(self.open())
        self._schedule.put_off()

    def _piece(self, do: Callable[[StoreSession], bool]) -> bool:
        try:
            return do(self.open())
        except DamageError as damaged:
            self._put_aside(self.borrow(), damaged)
            return True

    def _seal(self, session: StoreSession) -> bool:
        now = self._clock.now_ms()
        if self._hour_compactor.begins(now):
            # What is sealed is looked at before it leaves the memory.
            self._newest.look()
        sealed, more = self._hour_compactor.seal(session, now)
        if self._file_wal is not None:
            self._file_wal.stale |= sealed > 0
            if self._file_wal.stale and not more:
                # After the blocks: a crash in between leaves their polls twice, which is harmless.
                self._restart(self._file_wal, session)
        return more

    def _close_day(self, session: StoreSession) -> bool:
        return self._day_compactor.work(session, self._clock.now_ms())
