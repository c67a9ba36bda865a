"""What people want to know of a store: counts, sizes, times, and whether it is an older one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Table, func, select, text

from meterd.errors import StoreCode, StoreError
from meterd.store.blocks import block as blocks
from meterd.store.blocks.checksum import verified
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import since
from meterd.store.db import migrate
from meterd.store.db.connections import Database
from meterd.store.db.quarantine import readable_rows
from meterd.store.db.schema import block, correction, device, dirty, journal, rollup, series
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.replay import journal_rows
from meterd.store.wal import file_wal

_CHUNK = 200  # blocks in memory at a time
_SIZES = {
    "postgresql": "SELECT pg_database_size(current_database())",
    "mysql": "SELECT sum(data_length + index_length) FROM information_schema.tables "
    "WHERE table_schema = DATABASE()",
}

_LAST = select(block.c.device_id, func.max(block.c.t1)).group_by(block.c.device_id)

Note = Callable[[int], None]
"""Is told how much more of the work is done."""


@dataclass(frozen=True, slots=True)
class Info:
    """Bytes, and counts of rows; times are Unix ms. `samples` are those in blocks and journal.

    `size` is the whole file with its log, None where a server does not tell.
    """

    label: str
    schema: str
    size: int | None
    devices: int
    series: int
    samples: int
    oldest: int | None
    newest: int | None
    journal_rows: int
    journal_bytes: int
    blocks: int
    block_bytes: int
    rollups: int
    rollup_bytes: int
    dirty_days: int
    corrections: int

    @property
    def bytes_per_sample(self) -> float | None:
        """Bytes of blocks, WAL and roll-ups by sample, without the database's overhead."""
        used = self.journal_bytes + self.block_bytes + self.rollup_bytes
        return used / self.samples if self.samples else None


def size(database: Database) -> int:
    """The size of a database file in bytes; 0 where there is none."""
    path = database.path
    return path.stat().st_size if path is not None and path.exists() else 0


@contextmanager
def looking(database: Database) -> Iterator[tuple[Connection, str]]:
    """A read-only connection, and the version of the schema.

    Raises StoreError: no_store, older_schema, newer_schema, unavailable.
    """
    if not database.made():
        raise StoreError(f"{database.label}: there is no store yet", code=StoreCode.NO_STORE)
    with database.reading() as connection, readable_rows(database.label):
        if not migrate.is_current(connection):
            raise StoreError(
                f"{database.label}: it is empty; `meterd run` makes its tables",
                code=StoreCode.NO_STORE,
            )
        yield connection, migrate.version(connection) or ""


def info(database: Database, note: Note = lambda _: None) -> Info:
    """Reads the head of every block, so it takes a second a hundred MB. Raises StoreError."""
    with looking(database) as (connection, schema):

        def count(table: Table) -> int:
            return connection.scalar(select(func.count()).select_from(table)) or 0

        in_blocks = list(_in_blocks(connection, note))
        catalog = Catalog()
        catalog.load(connection)
        rows = [chunk for _, chunks in journal_rows(connection) for chunk in chunks]
        rows += list(file_wal_chunks(database, catalog))
        # Journal rows may hold polls that are in blocks since.
        sealed = {row[0]: row[1] for row in connection.execute(_LAST)}
        rows = [since(chunk, sealed.get(chunk.device, -1) + 1) for chunk in rows]
        chunks = [(chunk.samples, chunk.times[0], chunk.times[-1]) for chunk in rows if chunk.times]
        times = [time for _, *both in (*in_blocks, *chunks) for time in both]
        return Info(
            database.label,
            schema,
            _size(database, connection),
            count(device),
            count(series),
            sum(samples for samples, *_ in (*in_blocks, *chunks)),
            min(times, default=None),
            max(times, default=None),
            count(journal),
            _bytes(connection, journal.c.body),
            count(block),
            _bytes(connection, block.c.body),
            count(rollup),
            _bytes(connection, rollup.c.quarters),
            count(dirty),
            count(correction),
        )


def _in_blocks(connection: Connection, note: Note) -> Iterator[tuple[int, int, int]]:
    """Samples, first and last time of each block."""
    for row in rows_of_blocks(connection):
        with verified(blocks.WHAT, blocks.FORMAT, row.body) as cursor:
            pieces = blocks.cut(cursor, None)
        yield sum(len(piece.rows) for piece in pieces.series), row.t0, row.t1
        note(1)


def rows_of_blocks(connection: Connection) -> Iterator["BlockRow"]:
    """All blocks by id, a few in memory at a time."""
    last = -1
    while True:
        statement = select(block).where(block.c.id > last).order_by(block.c.id).limit(_CHUNK)
        rows = connection.execute(statement).all()
        for row in rows:
            yield BlockRow(row.id, row.device_id, row.t0, row.t1, row.n, row.body)
        if len(rows) < _CHUNK:
            return
        last = rows[-1].id


@dataclass(frozen=True, slots=True)
class BlockRow:
    id: int
    device_id: int
    t0: int
    t1: int
    n: int
    body: bytes


def file_wal_chunks(database: Database, catalog: Catalog) -> Iterator[Chunk]:
    """What a WAL file beside the database holds (`store.journal: file`), poll by poll."""
    if database.path is None:
        return
    head, names = Head(catalog.renamed), dict[tuple[str, str, str], int]()
    for poll in file_wal.read(file_wal.path_beside(database.path), catalog).polls:
        head.take(poll)
    for name in head.devices():
        number = catalog.devices.get(name, 0)
        for batch in head.batches(name):
            yield from batch.chunks(number, lambda *column: names.setdefault(column, len(names)))


def _bytes(connection: Connection, body: ColumnElement[bytes]) -> int:
    return int(connection.scalar(select(func.sum(func.length(body)))) or 0)


def _size(database: Database, connection: Connection) -> int | None:
    if database.path is not None:
        return sum(file.stat().st_size for file in files(database.path) if file.exists())
    statement = _SIZES.get(connection.dialect.name.replace("mariadb", "mysql"))
    return int(connection.scalar(text(statement)) or 0) if statement else None


def files(path: Path) -> list[Path]:
    """A SQLite database and what belongs to it."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".journal"))]


def is_behind(database: Database) -> bool:
    """Whether it has an older schema than this meterd's. Raises StoreError."""
    if not database.made():
        return False
    with database.reading() as connection:
        version = migrate.version(connection)
    return version is not None and version != migrate.versions()[-1]
