"""The polls of a journal file beside a database (`store.journal: file`), on their way into a copy.

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
from meterd.store.head.replay import journal_spans
from meterd.store.wal import file_wal
from meterd.store.wal.scanner import DamagedRange, Record

_BATCH = 200_000  # samples of one journal row
_TURNS = 5

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@contextmanager
def together(
    database: Database, look: Callable[[], AbstractContextManager[_T]]
) -> Iterator[tuple[list[Poll], _T]]:
    """What the file holds, and a `look` at the database at the same moment.

    Every poll that was confirmed before is in one of them. Raises StoreError.
    """
    for turn in range(_TURNS):
        with ExitStack() as stack:
            before = file_wal.records(database)
            found = stack.enter_context(look())
            # Else it has begun anew in between: what it held is in blocks, corrected perhaps.
            steady = file_wal.records(database)[: len(before)] == before
            if steady or turn == _TURNS - 1:
                yield _polls(database, before), found
                return


def _polls(database: Database, some: Sequence[Record | DamagedRange]) -> list[Poll]:
    """Of these records; what cannot be read is told."""
    catalog = Catalog()
    if any(isinstance(item, DamagedRange) for item in some):
        with database.reading() as connection:
            catalog.load(connection)
    contents = file_wal.told(some, file_wal.known(catalog))
    for damaged, _ in contents.damages:
        _log.error("%s", damaged)
    return contents.polls


def spans(polls: Iterable[Poll], catalog: Catalog) -> Iterator[list[Chunk]]:
    """Of each journal row that the polls become in a copy.

    Raises StoreError where the database does not know their series.
    """
    hot = Head(catalog.renamed)
    for poll in polls:
        hot.take(poll)
    while batch := hot.uncommitted(_BATCH):
        made = journal_spans(batch, catalog)
        if catalog.fresh:
            text = "the journal file has series that the store lacks; start meterd once with both"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)
        hot.confirm(batch)
        yield made
