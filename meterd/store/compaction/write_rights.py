"""Which devices a process may write for, and how the rows of its WAL are numbered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from sqlalchemy import Connection, func, select

from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY
from meterd.store.db import plain_rows
from meterd.store.db.connections import Opened, Transactions
from meterd.store.db.keys import block_id, dirty_of
from meterd.store.db.lease_check import need_alone
from meterd.store.db.schema import block, dirty, journal
from meterd.store.db.statements import Row
from meterd.store.db.writer_lease import WriterLease
from meterd.store.head.replay import journal_rows


class WriteRights(Protocol):
    """Of one session. Whatever takes a connection or a session raises StoreError."""

    @property
    def is_owner(self) -> bool:
        """Whether rows of a file that no meterd wrote may be put aside."""

    def enter(self, opened: Opened) -> None:
        """Before the first transaction."""

    def loading(self) -> AbstractContextManager[object]:
        """Held while the session fills the catalogue."""

    def admit(self, connection: Connection) -> None:
        """Raises StoreError for a database that other meterds write to."""

    def first_number(self, session: Transactions) -> int:
        """Of the next WAL row; after this the session is open."""

    def fence(self, connection: Connection, devices: Iterable[int] | None) -> Mapping[int, int]:
        """Proves the right to write for these devices (None: all there are) until the commit.

        What it returns is for `confirmed`.
        """

    def confirmed(self, fenced: Mapping[int, int]) -> None:
        """The transaction of that fence is committed."""

    def leave(self, opened: Opened) -> None:
        """Releases the right to write."""

    def may_write(self, device: int) -> bool: ...

    def rows(self, number: int, chunks: Sequence[Chunk], digits: dict[int, int]) -> list[Row]:
        """The WAL rows of a commit; `digits` is what the encoder learned of each series."""

    def carried(self, number: int, body: bytes, digits: dict[int, int]) -> list[Row]:
        """WAL rows for polls that outlive the rows they were in; `body` is an encoded record."""

    def keys(self, numbers: Sequence[int]) -> Sequence[int]:
        """The keys of the WAL rows of these numbers."""

    def numbers(self, connection: Connection) -> list[int]:
        """Of the WAL rows there are."""

    def wal(self, session: Transactions) -> Iterator[tuple[int, list[Chunk]]]:
        """Every number of the WAL with its chunks, oldest first."""

    def expired(self, connection: Connection, before: int, most: int) -> list[int]:
        """Keys of blocks of UTC days that ended before `before` (Unix ms), none of a dirty day."""

    def forget_plain(self, connection: Connection, before: int) -> bool:
        """Deletes some plain rows from before `before` (Unix ms); whether there are more."""


class SoleWriter:
    """The one writer of its database: one WAL row a commit, its key is the commit's number."""

    def __init__(self, lease: WriterLease | None = None) -> None:
        """`lease` says so in a database file; on a server the lock does."""
        self._lease = lease
        self._newest = 0

    @property
    def is_owner(self) -> bool:
        return self._lease is not None

    def enter(self, opened: Opened) -> None:
        if self._lease is not None:
            self._lease.take(opened)

    def loading(self) -> AbstractContextManager[object]:
        return nullcontext()

    def admit(self, connection: Connection) -> None:
        need_alone(connection)
        self._newest = connection.scalar(select(func.max(journal.c.id))) or 0

    def first_number(self, session: Transactions) -> int:
        return self._newest + 1

    def fence(self, connection: Connection, devices: Iterable[int] | None) -> Mapping[int, int]:
        if self._lease is not None:
            self._lease.hold(connection)
        return {}

    def confirmed(self, fenced: Mapping[int, int]) -> None:
        """Nothing is counted."""

    def leave(self, opened: Opened) -> None:
        if self._lease is not None:
            self._lease.leave(opened)

    def may_write(self, device: int) -> bool:
        return True

    def rows(self, number: int, chunks: Sequence[Chunk], digits: dict[int, int]) -> list[Row]:
        return [{"id": number, "body": commit_record.encode(chunks, digits)}]

    def carried(self, number: int, body: bytes, digits: dict[int, int]) -> list[Row]:
        return [{"id": number, "body": body}]

    def keys(self, numbers: Sequence[int]) -> Sequence[int]:
        return numbers

    def numbers(self, connection: Connection) -> list[int]:
        return list(connection.scalars(select(journal.c.id)))

    def wal(self, session: Transactions) -> Iterator[tuple[int, list[Chunk]]]:
        with session.transaction() as connection:
            yield from journal_rows(connection)

    def expired(self, connection: Connection, before: int, most: int) -> list[int]:
        day = before // DAY
        oldest_dirty = connection.scalar(select(func.min(dirty.c.id)))
        if oldest_dirty is not None:
            day = min(day, dirty_of(oldest_dirty)[1])
        old = select(block.c.id).where(block.c.id < block_id(0, day * DAY))
        return list(connection.scalars(old.order_by(block.c.id).limit(most)))

    def forget_plain(self, connection: Connection, before: int) -> bool:
        return plain_rows.forget(connection, before)
