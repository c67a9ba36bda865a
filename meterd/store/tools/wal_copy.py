"""The polls of a WAL file beside a database (`store.journal: file`), on their way into a copy.

The writer moves polls from the file into blocks, so both are looked at as of one moment.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Poll
from meterd.store.blocks.chunk import Chunk
from meterd.store.db.connections import Database
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.replay import wal_chunks
from meterd.store.wal import file_wal
from meterd.store.wal.scanner import DamagedRange, Record

_BATCH = 200_000  # samples of one WAL row
_TURNS = 5

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@contextmanager
def with_wal_file(
    database: Database, look: Callable[[], AbstractContextManager[_T]]
) -> Iterator[tuple[list[Poll], _T]]:
    """The content of the WAL file, and of the database by `look`, at the same moment.

    Every poll that was confirmed before is in one of them. Raises StoreError.
    """
    for turn in range(_TURNS):
        with ExitStack() as stack:
            before = file_wal.read_records(database)
            found = stack.enter_context(look())
            # Else it has begun anew in between: what it held is in blocks, corrected perhaps.
            steady = file_wal.read_records(database)[: len(before)] == before
            if steady or turn == _TURNS - 1:
                yield _polls(database, before), found
                return


def _polls(database: Database, some: Sequence[Record | DamagedRange]) -> list[Poll]:
    """The polls of these records; unreadable ones are reported."""
    catalog = Catalog()
    if any(isinstance(item, DamagedRange) for item in some):
        with database.reading() as connection:
            catalog.load(connection)
    contents = file_wal.decode_records(some, file_wal.catalog_names(catalog))
    for damaged, _ in contents.damages:
        _log.error("%s", damaged)
    return contents.polls


def chunks(polls: Iterable[Poll], catalog: Catalog) -> Iterator[list[Chunk]]:
    """Of each WAL row that the polls become in a copy.

    Raises StoreError where the database does not know their series.
    """
    head = Head(catalog.renamed)
    for poll in polls:
        head.take(poll)
    while batch := head.uncommitted(_BATCH):
        made = wal_chunks(batch, catalog)
        if catalog.fresh:
            text = "the journal file has series that the store lacks; start meterd once with both"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)
        head.confirm(batch)
        yield made
