"""Whether a store is what it should be: every body decoded, every roll-up made again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text

from meterd.errors import StoreCode, StoreError
from meterd.store.blocks import block as blocks
from meterd.store.blocks import commit_record, rollup_codec
from meterd.store.blocks.chunk import Chunk, check
from meterd.store.blocks.rollup import QuarterRollup
from meterd.store.blocks.slicing import DAY
from meterd.store.compaction.days import DayCompactor
from meterd.store.compaction.hours import HourCompactor
from meterd.store.compaction.stored_blocks import StoredBlocks
from meterd.store.compaction.write_batch import WriteBatch
from meterd.store.db import foreign_rows
from meterd.store.db.connections import Database
from meterd.store.db.expected_schema import schema_differences
from meterd.store.db.keys import block_id, dirty_id, rollup_id
from meterd.store.db.quarantine import readable_rows
from meterd.store.db.schema import corrected, dirty, journal, memo
from meterd.store.db.schema import rollup as rollups
from meterd.store.engine.spool_policy import spool_of
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.replay import journal_rows, replay
from meterd.store.tools import plain_columns
from meterd.store.tools.overview import BlockRow, Note, looking, rows_of_blocks
from meterd.store.wal import file_wal
from meterd.store.wal import spool as spools
from meterd.store.wal.record_log import read_log
from meterd.store.wal.scanner import DamagedRange

_FEW = 20  # roll-ups at a time: their hours are asked for in one statement


class DryRun(StoredBlocks):
    """Compaction over a reader's connection: what it would write is kept in `changes`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.changes: list[WriteBatch] = []

    def transaction(self) -> AbstractContextManager[Connection]:
        return nullcontext(self._connection)

    def apply(self, change: WriteBatch) -> int | None:
        self.changes.append(change)
        return None


def problems(
    database: Database, note: Note = lambda _: None, spool: Path | None = None
) -> Iterator[str]:
    """The flaws of the store, a sentence each; a daemon may go on writing meanwhile.

    `spool` is where polls wait, if it is not beside the database.

    Raises StoreError where there is nothing to check, or it cannot be read at all.
    """
    before = file_wal.generation(database)
    with looking(database) as (connection, version):
        mark = connection.scalar(select(memo.c.body).where(memo.c.name == file_wal.MARK))
        if wrong := file_wal.mismatch(mark, before, file_wal.generation(database)):
            yield f"{wrong}; copies are made with `meterd db backup`"
        if database.path is not None:
            yield from (f"schema: {odd}" for odd in schema_differences(database.path, version))
            lines = connection.scalars(text("PRAGMA integrity_check"))
            yield from (f"SQLite: {line}" for line in lines if line != "ok")
            yield from map(str, foreign_rows.find_rows(connection))
            yield from put_aside(database.folder)
        try:
            with readable_rows(database.label):
                checker = _Checker(connection)
        except StoreError as error:
            yield str(error)
            return
        stages = (
            checker.journal(),
            files(database, spool, checker.catalog),
            checker.blocks(note),
            checker.rollups(),
            checker.recomputed(note),
            checker.audit(),
        )
        for stage in stages:
            try:
                with readable_rows(database.label):
                    yield from stage
            except StoreError as error:
                if error.code != StoreCode.CORRUPT:
                    raise
                yield str(error)


def put_aside(folder: Path) -> Iterator[str]:
    """Names the files in which unreadable rows and records were set aside."""
    for path in foreign_rows.quarantined_files(folder):
        yield (
            f"{path} holds what could not be read, and is missing from the store or was mended; "
            "delete the file once you have looked at it"
        )


def files(
    database: Database, spool: Path | None = None, catalog: Catalog | None = None
) -> Iterator[str]:
    """The flaws of the WAL file and the spool beside a database, a sentence each."""
    if database.path is not None:
        try:
            for damaged, _ in file_wal.read(file_wal.path_beside(database.path), catalog).damages:
                yield str(damaged)
        except StoreError as error:
            yield f"journal file: {error}"
    try:
        for path in spools.files(spool_of(database, spool)):
            for item in read_log(path):
                if isinstance(item, DamagedRange):
                    yield f"{path}: {item}"
    except StoreError as error:
        yield f"spool: {error}"


class _Checker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.catalog = self._catalog = Catalog()
        self._catalog.load(connection)
        self._journal_is_sound = True
        self._days: dict[tuple[int, int], bool] = {}  # (device, day) -> all its blocks are sound

    def journal(self) -> Iterator[str]:
        for number in list(self._connection.scalars(select(journal.c.id).order_by(journal.c.id))):
            body = self._connection.scalar(select(journal.c.body).where(journal.c.id == number))
            for wrong in self._body(f"journal row {number}", body or b""):
                self._journal_is_sound = False
                yield wrong

    def _body(self, what: str, body: bytes) -> Iterator[str]:
        try:
            chunks = commit_record.decode(body)
        except StoreError as error:
            yield f"{what}: {error}"
            return
        for chunk in chunks:
            yield from (f"{what}: {wrong}" for wrong in self._wrong(chunk))

    def blocks(self, note: Note) -> Iterator[str]:
        for row in rows_of_blocks(self._connection):
            flaws = list(self._block(row))
            place = row.device_id, row.t0 // DAY
            self._days[place] = self._days.get(place, True) and not flaws
            device = self._catalog.names.get(row.device_id, f"number {row.device_id}")
            for wrong in flaws:
                yield f"block {row.id} (device {device}, {_date(row.t0 // DAY)}): {wrong}"
            note(1)

    def _block(self, row: BlockRow) -> Iterator[str]:
        try:
            chunk = blocks.decode(row.body)
        except StoreError as error:
            yield str(error)
            return
        in_body = (chunk.device, len(chunk.times), chunk.times[0], chunk.times[-1])
        if in_body != (row.device_id, row.n, row.t0, row.t1):
            yield f"its row says device, polls, first and last are other than its body: {in_body}"
        if row.id != block_id(row.device_id, row.t0):
            yield "its id is not that of its device and first hour"
        yield from self._wrong(chunk)

    def _wrong(self, chunk: Chunk) -> Iterator[str]:
        try:
            check(chunk)
        except ValueError as error:
            yield str(error)
        owned = {entry.id for entry in self._catalog.by_device.get(chunk.device, ())}
        strange = [str(column.series) for column in chunk.columns if column.series not in owned]
        if strange:
            yield f"its device has no series {', '.join(strange[:5])}"

    def rollups(self) -> Iterator[str]:
        """Each one by itself, and the plain rows of its hours."""
        stained = set(self._connection.scalars(select(dirty.c.id)))
        last = -1
        while True:
            statement = (
                select(rollups).where(rollups.c.id > last).order_by(rollups.c.id).limit(_FEW)
            )
            rows = [dict(row) for row in self._connection.execute(statement).mappings()]
            sound: list[plain_columns.Day] = []
            for row in rows:
                name = f"{self._name(row['series_id'])}, {_date(row['day'])}"
                quarters, wrong = plain_columns.of_rollup(row)
                yield from (f"roll-up of {name}: {text}" for text in wrong)
                if quarters is not None and self._key(row) not in stained:
                    sound.append((row["series_id"], row["day"], quarters))
            for series, day, wrong_hours in plain_columns.of_hours(self._connection, sound):
                yield f"hours of {self._name(series)}, {_date(day)}: {wrong_hours}"
            if len(rows) < _FEW:
                return
            last = rows[-1]["id"]

    def _key(self, row: Mapping[str, Any]) -> int | None:
        entry = self._catalog.by_id.get(row["series_id"])
        return dirty_id(self._catalog.devices[entry.name[0]], row["day"]) if entry else None

    def _name(self, number: int) -> str:
        entry = self._catalog.by_id.get(number)
        return " ".join(entry.name[:2]) if entry else f"unknown series {number}"

    def recomputed(self, note: Note) -> Iterator[str]:
        """Roll-ups of closed days, made again of their blocks."""
        head, catalog = Head(), self._catalog
        look = DryRun(self._connection)
        if not self._journal_is_sound:
            return  # told already; what follows the last day is not known
        replay(journal_rows(self._connection), head, catalog)
        stained = set(self._connection.scalars(select(dirty.c.id)))
        closer = DayCompactor(head, catalog, HourCompactor(head, catalog, {}, set(stained)))
        for (device, day), sound in sorted(self._days.items()):
            key = dirty_id(device, day)
            if not sound or key in stained or device not in catalog.names:
                continue
            look.changes.clear()
            closer.close(look, key)
            yield from self._compared(device, day, look.changes[-1].rollups)
            note(1)

    def _compared(self, device: int, day: int, made: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        ids = [rollup_id(entry.id, day) for entry in self._catalog.by_device.get(device, ())]
        statement = select(rollups).where(rollups.c.id.in_(ids))
        there = {row["id"]: row for row in self._connection.execute(statement).mappings()}
        for row in made:
            if not row["n"]:
                continue
            stored = there.get(row["id"])
            what = f"roll-up of {self._name(row['series_id'])}, {_date(day)}"
            if stored is None:
                yield f"{what}: is missing"
                continue
            wrong = _differences(dict(stored), dict(row))
            if wrong:
                yield f"{what}: {wrong} are not what its blocks say"

    def audit(self) -> Iterator[str]:
        for key in list(self._connection.scalars(select(corrected.c.id))):
            body = self._connection.scalar(select(corrected.c.body).where(corrected.c.id == key))
            try:
                blocks.decode(body or b"")
            except StoreError as error:
                yield f"corrected {key}: {error}"


def _differences(stored: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Which columns differ. Rises at the edges depend on what came later on other days."""
    wrong = [
        name
        for name in (*plain_columns.COLUMNS, *plain_columns.EDGES)
        if not plain_columns.equal(stored[name], made[name])
    ]
    try:
        was, now = (_inner(rollup_codec.unpack(row["quarters"])[1]) for row in (stored, made))
    except StoreError:
        return ""  # told already
    if {n: was.get(n) for n in now} != now:
        wrong.append("increases")
    return ", ".join(wrong)


def _inner(quarters: Mapping[int, QuarterRollup]) -> dict[int, int | None]:
    """Increases of quarters with samples in them and in both neighbours."""
    full = {number for number, quarter in quarters.items() if quarter.n}
    return {n: quarters[n].increase for n in full if {n - 1, n + 1} <= full}


def _date(day: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + day).isoformat()
