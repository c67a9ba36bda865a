"""Every statement that writes: journal rows, blocks, roll-ups, through one open connection."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from meterd.errors import StoreCode, StoreError
from meterd.store.blocks import block as blocks
from meterd.store.blocks import commit_record as journals
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY
from meterd.store.compaction.write_batch import BlockEntry, WriteBatch
from meterd.store.db import foreign_rows, plain_rows
from meterd.store.db.connections import Database, Opened
from meterd.store.db.file_identity import FileIdentities
from meterd.store.db.keys import block_hour, block_id, block_ids, dirty_of, rollup_id
from meterd.store.db.lease_rows import need_alone
from meterd.store.db.memos import memos
from meterd.store.db.quarantine import DamageError, keep_body
from meterd.store.db.schema import SMALL, block, dirty, hour, journal, memo, newest, rollup, series
from meterd.store.db.statements import CHUNK, Row, delete_keys, insert_rows, replace_rows
from meterd.store.db.writer_lease import WriterLease
from meterd.store.head.catalog import Catalog
from meterd.store.head.replay import journal_rows

_LONG_AGO = 40 * DAY
# Made once, as they are asked for each device and hour: SQLAlchemy takes longer than SQLite does.
_HEADERS = (
    select(block.c.id, block.c.t1, block.c.n)
    .where(block.c.id.in_(bindparam("keys", expanding=True)))
    .order_by(block.c.id)
)
_PREVIOUS = (
    select(block.c.id, block.c.body)
    .where(
        block.c.id.between(bindparam("low"), bindparam("high")),
        block.c.device_id == bindparam("device"),
        block.c.t0 < bindparam("time"),
    )
    .order_by(block.c.id.desc())
    .limit(1)
)


class StoreSession:
    """The store, open for writing. After any StoreError, close it and open another."""

    _tenure: WriterLease | None = None

    def __init__(
        self, database: Database, catalog: Catalog, tenure: WriterLease | None = None
    ) -> None:
        """The schema is there already; `tenure` says that we are its writer. Raises StoreError."""
        self._catalog = catalog
        self._tenure = tenure
        self.digits: dict[int, int] = {}  # what the journal's encoder learned of each series
        self._opened: Opened = database.writing()
        try:
            if tenure is not None:
                tenure.take(self._opened)
            with self.transaction() as connection:
                self._greet(connection)
                if tenure is not None and self.files is not None:
                    foreign_rows.put_aside(connection, database.folder, catalog.names, SMALL)
                catalog.load(connection)
                top = connection.scalar(select(func.max(journal.c.id)))
                self._next = (top or 0) + 1
        except BaseException:
            self.close()
            raise

    def _greet(self, connection: Connection) -> None:
        need_alone(connection)

    @property
    def files(self) -> FileIdentities | None:
        """Of a database in a file."""
        return self._opened.files

    def check(self) -> None:
        """Raises GoneError where the database is no longer the one that was opened."""
        if self._opened.files is not None:
            self._opened.files.check()

    def close(self) -> None:
        """Never raises: what a commit confirmed is safe, and the rest is not here."""
        self._opened.close()

    def transaction(self) -> AbstractContextManager[Connection]:
        return self._opened.begin()

    @contextmanager
    def writing(self, devices: Iterable[int]) -> Iterator[Connection]:
        """A transaction that writes for these devices. Raises StoreError."""
        with self.transaction() as connection:
            if self._tenure is not None:
                self._tenure.hold(connection)
            yield connection

    def hold(self) -> None:
        """Raises StoreError where another writes to the store by now."""
        with self.writing(()):
            pass

    def leave(self) -> None:
        """Nobody writes from now on. Raises StoreError."""
        if self._tenure is not None:
            self._tenure.leave(self._opened)

    def _rows(self, number: int, spans: Sequence[Chunk]) -> list[Row]:
        return [{"id": number, "body": journals.encode(spans, self.digits)}]

    def _carried(self, number: int, body: bytes) -> list[Row]:
        return [{"id": number, "body": body}]

    def _keys(self, numbers: Sequence[int]) -> Sequence[int]:
        """The keys of journal rows."""
        return numbers

    def commit(
        self,
        spans: Sequence[Chunk],
        memos: Mapping[str, str],
        *,
        plain: bool = False,
        filed: bool = False,
    ) -> int | None:
        """One journal row; its number, None where there was nothing. Raises StoreError.

        `plain`: each sample as a row of its own, too. `filed`: the polls go to a file instead.
        """
        number = self._next if spans and not filed else None
        polls = self._rows(number, spans) if number is not None else []
        with self.writing({span.device for span in spans}) as connection:
            self._catalog.settle(connection, spans)
            insert_rows(connection, journal, polls)
            if plain:
                plain_rows.keep(connection, spans)
            rows = [{"name": name, "body": text} for name, text in memos.items()]
            replace_rows(connection, memo, rows)
        self._catalog.settled()
        self._next += 1
        return number

    def memos(self) -> dict[str, str]:
        """All memos. Raises StoreError."""
        with self.transaction() as connection:
            return memos(connection)

    def numbers(self) -> list[int]:
        """Of the journal's rows. Raises StoreError."""
        with self.transaction() as connection:
            return list(connection.scalars(select(journal.c.id)))

    def journal(self) -> Iterator[tuple[int, list[Chunk]]]:
        """Every row, oldest first, with its number. Raises StoreError."""
        with self.transaction() as connection:
            yield from journal_rows(connection)

    def headers(self, device: int, day: int) -> list[tuple[int, int, int]]:
        """(id, t1, n) of a day's blocks, oldest first. Raises StoreError."""
        with self.transaction() as connection:
            found = connection.execute(_HEADERS, {"keys": block_ids(device, day)})
            heads = [(row.id, row.t1, row.n) for row in found]
        for key, last, count in heads:
            if not (isinstance(last, int) and isinstance(count, int)) or last < block_hour(key):
                text = f"block {key}: its row is damaged: last {last!r}, polls {count!r}"
                raise StoreError(text, code=StoreCode.CORRUPT)
        return heads

    def read(self, keys: Iterable[int]) -> list[Chunk]:
        """The spans of these blocks, oldest first. Raises StoreError."""
        keys = list(keys)
        if not keys:
            return []
        asked = select(block.c.id, block.c.body).where(block.c.id.in_(keys)).order_by(block.c.id)
        with self.transaction() as connection:
            found = list(connection.execute(asked))
        return [_decoded(row) for row in found]

    def previous(self, device: int, time: int) -> Chunk | None:
        """The device's newest block that began before `time`, not too long ago."""
        low, high = block_id(0, max(0, time - _LONG_AGO)), block_id(device, time)
        asked = {"low": low, "high": high, "device": device, "time": time}
        with self.transaction() as connection:
            found = connection.execute(_PREVIOUS, asked).first()
        return None if found is None else _decoded(found)

    def newest_time(self, device: int, since: int) -> int | None:
        """The last time in the device's blocks, where that is `since` (Unix ms) or later."""
        found = max((t1 for _, t1, _ in self.headers(device, since // DAY)), default=None)
        asked = (
            select(block.c.t1)
            .where(block.c.id >= block_id(0, since), block.c.device_id == device)
            .order_by(block.c.id.desc())
            .limit(1)
        )
        with self.transaction() as connection:
            last: int | None = connection.scalar(asked)
        times = [time for time in (found, last) if time is not None and time >= since]
        return max(times, default=None)

    def hours(self, keys: Sequence[int]) -> dict[int, Row]:
        """The hours' rows there are. Raises StoreError."""
        found: dict[int, Row] = {}
        with self.transaction() as connection:
            for start in range(0, len(keys), CHUNK):
                asked = select(hour).where(hour.c.id.in_(list(keys[start : start + CHUNK])))
                for row in connection.execute(asked).mappings():
                    found[row["id"]] = dict(row)
        return found

    def most_rolled(self, series: Sequence[int], day: int) -> int:
        """The most samples that a roll-up of these series counts of a day. Raises StoreError."""
        keys, most = [rollup_id(one, day) for one in series], 0
        with self.transaction() as connection:
            for start in range(0, len(keys), CHUNK):
                mine = rollup.c.id.in_(keys[start : start + CHUNK])
                most = max(most, connection.scalar(select(func.max(rollup.c.n)).where(mine)) or 0)
        return most

    def before(self, one: int, day: int) -> tuple[int, float] | None:
        """The last sample of a series before a UTC day, by its roll-ups. Raises StoreError."""
        earlier = rollup.c.id.between(rollup_id(one, 0), rollup_id(one, day) - 1)
        asked = (
            select(rollup.c.last_time, rollup.c.last)
            .where(earlier, rollup.c.n > 0)
            .order_by(rollup.c.id.desc())
            .limit(1)
        )
        with self.transaction() as connection:
            row = connection.execute(asked).first()
        return None if row is None or row.last is None else (row.last_time, row.last)

    def after(self, one: int, day: int) -> tuple[int, float] | None:
        """The first sample of a series after a UTC day, by its roll-ups. Raises StoreError."""
        later = rollup.c.id.between(rollup_id(one, day) + 1, rollup_id(one + 1, 0) - 1)
        asked = (
            select(rollup.c.first_time, rollup.c.first)
            .where(later, rollup.c.n > 0)
            .order_by(rollup.c.id)
            .limit(1)
        )
        with self.transaction() as connection:
            row = connection.execute(asked).first()
        return None if row is None or row.first is None else (row.first_time, row.first)

    def dirty(self) -> set[int]:
        """The days whose roll-ups are not right, by dirty_id. Raises StoreError."""
        with self.transaction() as connection:
            return set(connection.scalars(select(dirty.c.id)))

    def apply(self, change: WriteBatch) -> int | None:
        """One transaction of sealing; the number of the carry's row. Raises StoreError."""
        number = None
        with self.writing(change.devices) as connection:
            delete_keys(connection, block, "id", [*change.gone, *change.blocks])
            rows = [_block_row(key, one, change.bodies[key]) for key, one in change.blocks.items()]
            insert_rows(connection, block, rows)
            replace_rows(connection, hour, list(change.hours.values()))
            delete_keys(connection, hour, "id", change.hours_gone)
            delete_keys(connection, rollup, "id", change.rollups_gone)
            insert_rows(connection, rollup, change.rollups)
            delete_keys(connection, dirty, "id", list(change.cleaned))
            replace_rows(connection, dirty, [{"id": key} for key in change.stained])
            if change.carry is not None:
                number = self._next
                insert_rows(connection, journal, self._carried(number, change.carry))
            delete_keys(connection, journal, "id", self._keys(change.journal_gone))
        if number is not None:
            self._next += 1
        return number

    def reduce(self, damaged: DamageError, left: Sequence[Chunk], folder: Path) -> None:
        """A journal row becomes a file, and what is left of it a row again. Raises StoreError."""
        self.put_aside(damaged, folder)
        if left:
            body = journals.encode(list(left), {})
            with self.transaction() as connection:
                insert_rows(connection, journal, [{"id": damaged.key, "body": body}])

    def put_aside(self, damaged: DamageError, folder: Path) -> None:
        """A row that cannot be read becomes a file, and is no row any more. Raises StoreError."""
        table = {"block": block, "journal": journal}[damaged.table]
        key = table.c.id == damaged.key
        with self.transaction() as connection:
            body = connection.scalar(select(table.c.body).where(key))
            keep_body(folder, damaged, body or b"")
            connection.execute(delete(table).where(key))

    def write_newest(self, rows: Sequence[Row], firsts: Mapping[int, int]) -> None:
        """The newest value of each series that has a new one; first times that were earlier.

        Raises StoreError.
        """
        if rows or firsts:
            touched = {*firsts, *(row["series_id"] for row in rows)}
            with self.writing(map(self._catalog.owner, touched)) as connection:
                replace_rows(connection, newest, rows)
                for one, first in firsts.items():
                    connection.execute(update(series).where(series.c.id == one).values(first=first))

    def trim(self, before: int, most: int) -> int:
        """Deletes blocks of UTC days that ended before `before` (Unix ms); how many.

        Their roll-ups stay; days that are dirty stay until they have theirs. Raises StoreError.
        """
        day = before // DAY
        with self.transaction() as connection:
            held = connection.scalar(select(func.min(dirty.c.id)))
            if held is not None:
                day = min(day, dirty_of(held)[1])
            old = select(block.c.id).where(block.c.id < block_id(0, day * DAY))
            keys = list(connection.scalars(old.order_by(block.c.id).limit(most)))
            delete_keys(connection, block, "id", keys)
            return len(keys)

    def trim_plain(self, before: int) -> bool:
        """Deletes some plain rows from before `before` (Unix ms); whether there are more."""
        with self.transaction() as connection:
            return plain_rows.forget(connection, before)


def _decoded(row: Any) -> Chunk:
    try:
        return blocks.decode(row.body)
    except StoreError as error:
        raise DamageError("block", row.id, str(error)) from error


def _block_row(key: int, one: BlockEntry, body: bytes) -> Row:
    row = {"id": key, "device_id": one.device, "t0": one.first, "t1": one.last}
    return {**row, "n": one.count, "body": body}
