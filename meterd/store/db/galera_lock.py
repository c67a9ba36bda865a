"""A single-writer lock on a Galera cluster, where GET_LOCK holds on one node only.

Nodes of such a cluster know nothing of each other's locks. So there is a row that says who has
the lock and until when, by the database's clock. Its holder says so again every few seconds, from
a thread of its own. Each transaction that writes also counts in that row: where another meterd
took the lock meanwhile, one of both loses its certification, and nothing is written twice.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    event,
    insert,
    inspect,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.schema import CreateTable

from meterd.errors import StoreCode, StoreError
from meterd.store.db.connections import Opened

TABLE = "meterd_seat"

_LENGTH = 15.0  # seconds; who was killed holds it so long
_BEAT = 3.0  # seconds
_PAUSE = 0.2  # seconds
_NOW: ColumnElement[int] = literal_column("CAST(unix_timestamp(sysdate(3)) * 1000 AS SIGNED)")
_UNTIL = _NOW + round(_LENGTH * 1000)
# Not one of the schema's: the first of all meterds makes it before there is any.
_lock_row = Table(
    TABLE,
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(100), nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("writes", BigInteger, nullable=False),
)
_FIRST = {"id": 1, "holder": "", "until": 0, "writes": 0}
_READS = ("SELECT", "SHOW", "SET")

_log = logging.getLogger(__name__)


class GaleraLock:
    """For one database: `take` it, then write through what that returns."""

    def __init__(self, connect: Callable[[], Opened]) -> None:
        """`connect` makes another connection, for the thread."""
        self._connect = connect
        self._holder = uuid.uuid4().hex

    def take(self, opened: Opened) -> "GaleraLockHolder":
        """Waits for one that was killed. Raises StoreError: already_running, conflict, …"""
        end, seen = time.monotonic() + _LENGTH + 2, None
        with opened.begin() as connection:
            if not inspect(connection).has_table(TABLE):
                connection.execute(CreateTable(_lock_row, if_not_exists=True))
                connection.execute(insert(_lock_row).prefix_with("IGNORE"), _FIRST)
        while not self._try_take(opened):
            with opened.begin() as connection:
                until = connection.scalar(select(_lock_row.c.until))
            if (seen is not None and until != seen) or time.monotonic() > end:
                text = "another meterd writes to this database; stop it, use another store.url, or "
                raise StoreError(f"{text}add `cluster:` to both", code=StoreCode.ALREADY_RUNNING)
            seen = until
            time.sleep(_PAUSE)
        return GaleraLockHolder(opened, self)

    def _try_take(self, opened: Opened) -> bool:
        free = or_(_lock_row.c.holder == self._holder, _lock_row.c.until < _NOW)
        with opened.begin() as connection:
            return self._change(connection, free, holder=self._holder, until=_UNTIL)

    def hold(self, connection: Connection) -> None:
        """In a transaction that writes. Raises StoreError where another meterd has the lock."""
        if not self._change(connection, _lock_row.c.holder == self._holder):
            text = "another meterd writes to this database by now; stop one of both"
            raise StoreError(text, code=StoreCode.ALREADY_RUNNING)

    def _change(self, connection: Connection, where: ColumnElement[bool], **values: Any) -> bool:
        # It counts in any case: a row that stays what it was is no change, and meets nobody.
        changed = update(_lock_row).where(where).values(writes=_lock_row.c.writes + 1, **values)
        return connection.execute(changed).rowcount == 1

    def beat(self, ended: threading.Event) -> None:
        """The thread: renews the lock until `ended` is set or another meterd has it."""
        opened: Opened | None = None
        mine = _lock_row.c.holder == self._holder
        while not ended.wait(_BEAT):
            try:
                opened = opened or self._connect()
                with opened.begin() as connection:
                    if not self._change(connection, mine, until=_UNTIL):
                        break
            except StoreError as error:
                _log.info("the lock is not renewed: %s", error)
                if opened is not None:
                    opened.close()
                opened = None
        if opened is not None:
            opened.close()

    def leave(self, connection: Connection) -> None:
        self._change(connection, _lock_row.c.holder == self._holder, holder="", until=0)


class GaleraLockHolder(Opened):
    """A connection that writes as long as its meterd has the lock."""

    def __init__(self, opened: Opened, lock: GaleraLock) -> None:
        super().__init__(opened.connection, opened._made, opened._mapped)
        self._lock = lock
        self._wrote = False
        self._ended = threading.Event()
        event.listen(self.connection, "before_cursor_execute", self._note)
        threading.Thread(
            target=lock.beat, args=(self._ended,), name="meterd-galera", daemon=True
        ).start()

    def _note(self, _: Connection, __: Any, statement: str, *___: Any) -> None:
        self._wrote = self._wrote or not statement.lstrip().upper().startswith(_READS)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as connection:
            self._wrote = False
            yield connection
            if self._wrote:
                self._lock.hold(connection)

    def close(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            with suppress(StoreError), super().begin() as connection:
                self._lock.leave(connection)
        super().close()
