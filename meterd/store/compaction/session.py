"""The session: the store open for writing, with every statement that writes to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from sqlalchemy import Connection, delete, select, update

from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk
from meterd.store.compaction.stored_blocks import StoredBlocks
from meterd.store.compaction.write_batch import BlockEntry, WriteBatch
from meterd.store.compaction.write_rights import WriteRights
from meterd.store.db import foreign_rows, plain_rows
from meterd.store.db.connections import Database, Opened
from meterd.store.db.file_identity import FileIdentities
from meterd.store.db.keys import dirty_of
from meterd.store.db.memos import memos
from meterd.store.db.quarantine import DamageError, quarantine_body
from meterd.store.db.schema import SMALL, block, dirty, hour, journal, memo, newest, rollup, series
from meterd.store.db.statements import Row, delete_keys, insert_rows, replace_rows
from meterd.store.head.catalog import Catalog


class StoreSession(StoredBlocks):
    """One connection that writes. After any StoreError, close it and open another."""

    def __init__(self, database: Database, catalog: Catalog, rights: WriteRights) -> None:
        """For a database that has its schema. Raises StoreError."""
        self._catalog = catalog
        self._rights = rights
        self.digits: dict[int, int] = {}  # what the WAL's encoder learned of each series
        self._opened: Opened = database.writing()
        try:
            rights.enter(self._opened)
            with rights.loading(), self.transaction() as connection:
                rights.admit(connection)
                if rights.is_owner and self.files is not None:
                    foreign_rows.quarantine_rows(connection, database.folder, catalog.names, SMALL)
                catalog.load(connection)
            self._next = rights.first_number(self)
        except BaseException:
            self.close()
            raise

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
    def writing(self, devices: Iterable[int] | None) -> Iterator[Connection]:
        """A transaction that writes for these devices; None: for all of ours. Raises StoreError."""
        with self.transaction() as connection:
            fenced = self._rights.fence(connection, devices)
            yield connection
        self._rights.confirmed(fenced)

    def hold(self) -> None:
        """Raises StoreError where another process writes to the store."""
        with self.writing(()):
            pass

    def leave(self) -> None:
        """Releases the right to write. Raises StoreError."""
        self._rights.leave(self._opened)

    def commit(
        self,
        chunks: Sequence[Chunk],
        memos: Mapping[str, str],
        *,
        plain: bool = False,
        in_file: bool = False,
    ) -> int | None:
        """One WAL row; its number, None where there was nothing. Raises StoreError.

        `plain`: each sample as a row of its own, too. `in_file`: the polls go to a file instead.
        """
        chunks = [chunk for chunk in chunks if self._rights.may_write(chunk.device)]
        number = self._next if chunks and not in_file else None
        polls = self._rights.rows(number, chunks, self.digits) if number is not None else []
        with self.writing({chunk.device for chunk in chunks}) as connection:
            self._catalog.settle(connection, chunks)
            insert_rows(connection, journal, polls)
            if plain:
                plain_rows.keep(connection, chunks)
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
        """Of the WAL's rows. Raises StoreError."""
        with self.transaction() as connection:
            return self._rights.numbers(connection)

    def journal(self) -> Iterator[tuple[int, list[Chunk]]]:
        """Every number with its chunks, oldest first. Raises StoreError."""
        yield from self._rights.wal(self)

    def dirty(self) -> set[int]:
        return {key for key in super().dirty() if self._rights.may_write(dirty_of(key)[0])}

    def apply(self, change: WriteBatch) -> int | None:
        number = None
        # WAL rows go for every device of ours, whether it has blocks in here or not.
        is_about_all = bool(change.journal_gone) or change.carry is not None
        with self.writing(None if is_about_all else change.devices) as connection:
            delete_keys(connection, block, "id", [*change.gone, *change.blocks])
            rows = [
                _block_row(key, new_block, change.bodies[key])
                for key, new_block in change.blocks.items()
            ]
            insert_rows(connection, block, rows)
            replace_rows(connection, hour, list(change.hours.values()))
            delete_keys(connection, hour, "id", change.hours_gone)
            delete_keys(connection, rollup, "id", change.rollups_gone)
            insert_rows(connection, rollup, change.rollups)
            delete_keys(connection, dirty, "id", list(change.cleaned))
            replace_rows(connection, dirty, [{"id": key} for key in change.stained])
            if change.carry is not None:
                number = self._next
                insert_rows(
                    connection, journal, self._rights.carried(number, change.carry, self.digits)
                )
            delete_keys(connection, journal, "id", self._rights.keys(change.journal_gone))
        if number is not None:
            self._next += 1
        return number

    def reduce(self, damaged: DamageError, left: Sequence[Chunk], folder: Path) -> None:
        """Replaces a WAL row by what of it is readable; the whole row is kept as a file. Raises
        StoreError.
        """
        self.put_aside(damaged, folder)
        if left:
            body = commit_record.encode(list(left), {})
            with self.transaction() as connection:
                insert_rows(connection, journal, [{"id": damaged.key, "body": body}])

    def put_aside(self, damaged: DamageError, folder: Path) -> None:
        """A row that cannot be read becomes a file, and is no row any more. Raises StoreError."""
        table = {"block": block, "journal": journal}[damaged.table]
        key = table.c.id == damaged.key
        with self.transaction() as connection:
            body = connection.scalar(select(table.c.body).where(key))
            quarantine_body(folder, damaged, body or b"")
            connection.execute(delete(table).where(key))

    def write_newest(self, rows: Sequence[Row], firsts: Mapping[int, int]) -> None:
        """The newest value of each series that has a new one; first times that were earlier.

        Raises StoreError.
        """
        if rows or firsts:
            touched = {*firsts, *(row["series_id"] for row in rows)}
            with self.writing(map(self._catalog.owner, touched)) as connection:
                replace_rows(connection, newest, rows)
                for number, first in firsts.items():
                    connection.execute(
                        update(series).where(series.c.id == number).values(first=first)
                    )

    def trim(self, before: int, most: int) -> int:
        """Deletes blocks of UTC days that ended before `before` (Unix ms); how many.

        Their roll-ups stay; days that are dirty stay until they have theirs. Raises StoreError.
        """
        with self.writing(None) as connection:
            keys = self._rights.expired(connection, before, most)
            delete_keys(connection, block, "id", keys)
            return len(keys)

    def trim_plain(self, before: int) -> bool:
        """Deletes some plain rows from before `before` (Unix ms); whether there are more."""
        with self.writing(None) as connection:
            return self._rights.forget_plain(connection, before)


def _block_row(key: int, row_of_block: BlockEntry, body: bytes) -> Row:
    row = {
        "id": key,
        "device_id": row_of_block.device,
        "t0": row_of_block.first,
        "t1": row_of_block.last,
    }
    return {**row, "n": row_of_block.count, "body": body}
