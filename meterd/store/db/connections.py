"""Protocols of databases and of open connections, and how connections are made."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from meterd.errors import StoreError
from meterd.store.db.file_identity import FileIdentities, Inode
from meterd.store.db.lockfile import Claim
from meterd.store.db.statement_timeout import StatementTimeout

# What a dialect has a driver do; of cursors, and of connections.
_OF_CURSORS = ("do_execute", "do_executemany", "do_execute_no_params")
_OF_CONNECTIONS = ("do_commit", "do_rollback")


class Transactions(Protocol):
    """Something open on a database: a transaction is committed at its end, or rolled back."""

    def transaction(self) -> AbstractContextManager[Connection]: ...


class StoreLock(Protocol):
    """A lock that one meterd holds on a store; `inode` is its file's, None on a server."""

    @property
    def inode(self) -> Inode | None: ...

    def check(self) -> None:
        """Raises StoreError (busy) where the lock is lost and another process has it."""

    def release(self) -> None: ...


class Database(Protocol):
    """One database, whichever program keeps it. Every method maps errors to StoreError.

    `label` names it in messages, without secrets; `path` is its file, None on a server;
    `folder` is where files of its neighbourhood (spool, copies) belong. `places` are the file, or
    the nodes without user and options: who has one of them in common is the same store.
    """

    label: str
    places: frozenset[str]
    path: Path | None
    folder: Path

    def prepare(self) -> None:
        """Make what must be there before the first connection. Raises StoreError."""

    def made(self) -> bool:
        """Whether the database exists; False spares readers an error."""

    def lock(self, claim: Claim | None = None) -> StoreLock:
        """Keep every other meterd away; `claim` is a tool's.

        Raises StoreError: already_running, or busy where a tool or another program has it.
        """

    def writing(self) -> "Opened":
        """A connection for the one writer. Raises StoreError."""

    def reading(self, abandoned: Event | None = None) -> AbstractContextManager[Connection]:
        """A connection that writes nothing and sees one moment; stops once `abandoned`."""

    def rest(self) -> None:
        """Closes what waits for the next reader; from now on each opens its own."""

    def hurry(self, seconds: float) -> None:
        """At the end: no statement takes longer from now on, as far as that can be had."""

    def let_go(self) -> None:
        """Closes what waits for the next reader."""

    def mapped(self) -> AbstractContextManager[None]:
        """Turns what drivers, SQLAlchemy and the file system raise into StoreError."""


class Connections:
    """Makes connections of one kind; `begin` is the first statement of each of their
    transactions.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        mapped: Callable[[], AbstractContextManager[None]],
        *,
        dialect: str = "sqlite",
        begin: str = "",
        watch: StatementTimeout | None = None,
    ) -> None:
        """`connect` makes a DBAPI connection; `watch` bounds its statements."""
        self._connect = connect
        self._mapped = mapped
        self._local = threading.local()
        self._watch = watch
        self._engine = create_engine(f"{dialect}://", creator=self._make, poolclass=NullPool)
        if begin:
            event.listen(self._engine, "begin", lambda conn: conn.exec_driver_sql(begin))
        if watch is not None:
            self._bound(watch)

    def _bound(self, watch: StatementTimeout) -> None:
        dialect = self._engine.dialect
        for name in _OF_CURSORS:
            setattr(dialect, name, partial(_of_cursor, watch, getattr(dialect, name)))
        for name in _OF_CONNECTIONS:
            setattr(dialect, name, partial(_of_connection, watch, getattr(dialect, name)))

    def _make(self) -> Any:
        raw = self._connect()
        self._local.made.append(raw)
        if self._watch is not None:
            # Dialects have drivers look up types of their own before the first statement.
            self._local.opening.enter_context(self._watch.bound(raw))
        return raw

    def open(self) -> "Opened":
        """To be used and closed in the thread that calls. Raises StoreError."""
        # After a failed rollback SQLAlchemy forgets its connection without closing it, so
        # every one that was ever made is remembered.
        made = self._local.made = []
        with self._mapped(), ExitStack() as self._local.opening:
            return Opened(self._engine.connect(), made, self._mapped)


class Opened:
    """One open connection; after a StoreError close it and open another.

    `files` are those of a database in a file, None on a server.
    """

    files: FileIdentities | None = None

    def __init__(
        self,
        connection: Connection,
        made: list[Any],
        mapped: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.connection = connection
        self._made = made
        self._mapped = mapped

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: all of it or nothing. Raises StoreError."""
        with self._mapped(), self.connection.begin():
            yield self.connection

    def checkpoint(self) -> None:
        """Writes the log to the database file, where there is a log. Raises StoreError."""

    def close(self) -> None:
        """Never raises: what a commit confirmed is safe, and the rest is not here."""
        with suppress(StoreError), self._mapped():
            self.connection.close()
        for raw in self._made:
            with suppress(StoreError), self._mapped():
                raw.close()
        self._made.clear()


def _of_cursor(watch: StatementTimeout, do: Callable[..., Any], cursor: Any, *more: Any) -> Any:
    with watch.bound(cursor.connection):
        return do(cursor, *more)


def _of_connection(watch: StatementTimeout, do: Callable[..., Any], connection: Any) -> Any:
    raw = getattr(connection, "dbapi_connection", connection)
    if watch.was_cut(raw):
        return None  # there is nobody to say it to
    with watch.bound(raw):
        return do(connection)
