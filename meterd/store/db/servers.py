"""PostgreSQL and MariaDB: connections to the first node that answers."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from math import isfinite
from pathlib import Path
from ssl import SSLContext
from threading import Event
from typing import Any

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from meterd.errors import StoreCode, StoreError
from meterd.store.db.connections import Connections, Opened
from meterd.store.db.extras import need_driver
from meterd.store.db.galera_lock import GaleraLock
from meterd.store.db.lockfile import Claim
from meterd.store.db.server_errors import meaning, one_line
from meterd.store.db.statement_timeout import StatementTimeout

_CONNECT = 5  # seconds for one node
_PATIENCE = 60  # seconds for one statement, as the server counts
# Seconds for one statement, as we count: commits wait for standbys, and networks lose connections.
_WRITING, _READING = 30.0, 65.0
# Seconds. A session whose client is gone without a word frees its lock at last then; commits
# and tasks come at least every minute.
_IDLE = 150
_LOCK = "meterd"
_LOCK_NUMBER = 0x6D6574657264  # the same, for PostgreSQL
_LOCK_TRIES = 20  # a tenth of a second each: one that was killed just now still ends
_LOCK_PAUSE = 0.1
_ENDED = 20  # sessions that are remembered

# What may stand behind the ? of a URL; the drivers call it so, too.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey"),
    "mariadb": ("ssl_ca", "ssl_cert", "ssl_key", "unix_socket"),
}
_FILES = {"sslrootcert", "sslcert", "sslkey", "ssl_ca", "ssl_cert", "ssl_key"}


class ServerDatabase:
    """A store on a server. Several URLs are the nodes of one cluster, tried in turn."""

    path: Path | None = None

    def __init__(
        self, urls: Sequence[str], folder: Path | None = None, *, shared: bool = False
    ) -> None:
        """`folder` is for the spool. `shared`: other meterds write here too (cluster/leases.py).

        Raises StoreError for a URL that means no server, MissingDriverError without its package.
        """
        self._urls = [_parsed(url) for url in urls]
        kinds = {url.get_backend_name() for url in self._urls}
        if len(kinds) != 1:
            raise StoreError("the nodes of a store are of one kind", code=StoreCode.SETTINGS)
        self.kind = kinds.pop()
        need_driver(self.kind)
        self.places = frozenset(_shown(url) for url in self._urls)
        self.label = "store " + ", ".join(_shown(url) for url in self._urls)
        self.folder = folder or Path.cwd()
        self._shared = shared
        self._connect, dialect = _KINDS[self.kind]
        self._last = 0  # the node that answered last
        self._watches = (
            StatementTimeout(self.label, _READING),
            StatementTimeout(self.label, _WRITING),
        )

        def of(writing: bool) -> Connections:
            return Connections(
                lambda: self._any(writing),
                self.mapped,
                dialect=dialect,
                watch=self._watches[writing],
            )

        self._writing = of(True)
        self._galera_lock = GaleraLock(self._writing.open)
        self._reading = of(False)

    def prepare(self) -> None:
        """A server is prepared by its owner."""

    def made(self) -> bool:
        return True

    def lock(self, claim: Claim | None = None) -> "_NoLock":
        """The writer's own connection holds the lock, so that both end together."""
        return _NoLock()

    def writing(self) -> Opened:
        opened = self._writing.open()
        if self.kind != "mariadb" or self._shared:
            return opened
        try:
            return self._galera_lock.take(opened) if _is_many(opened) else opened
        except BaseException:
            opened.close()
            raise

    @contextmanager
    def reading(self, abandoned: Event | None = None) -> Iterator[Connection]:
        opened = self._reading.open()
        try:
            with opened.begin() as connection:
                yield connection
        finally:
            opened.close()

    def rest(self) -> None:
        """Nothing is kept open for readers."""

    def hurry(self, seconds: float) -> None:
        for watch in self._watches:
            watch.hurry(seconds)

    def let_go(self) -> None:
        """Nor now."""

    def _any(self, writing: bool) -> Any:
        """A connection to the node that answered last, else to the next one."""
        count = len(self._urls)
        for turn in range(count):
            node = (self._last + turn) % count
            try:
                raw = self._connect(self._urls[node], writing, self._shared, self._watches[writing])
            except (self._errors(), StoreError) as error:
                is_away = not isinstance(error, StoreError) or error.code == StoreCode.UNREACHABLE
                if turn == count - 1 or not is_away:
                    raise
                continue
            self._last = node
            return raw
        raise AssertionError("a store has one URL at least")

    def _errors(self) -> type[Exception]:
        if self.kind == "postgresql":
            import psycopg

            return psycopg.Error
        import pymysql

        return pymysql.err.Error

    @contextmanager
    def mapped(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._error(error.orig or error) from error
        except (SQLAlchemyError, OSError, self._errors()) as error:
            raise self._error(error) from error

    def _error(self, error: BaseException) -> StoreError:
        code, advice = meaning(error)
        text = f"{self.label}: {one_line(error)}" + (f"; {advice}" if advice else "")
        return StoreError(text, code=code)


class _NoLock:
    inode = None

    def check(self) -> None:
        """Does nothing: the lock is the connection's, whose failure shows."""

    def release(self) -> None:
        """Nothing is held beside the connection."""


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (SQLAlchemyError, ValueError):
        # Not even as the cause: those words may hold the password.
        text = "store.url cannot be read; write %40 for @, %3A for : and %2F for / in a password"
        raise StoreError(text, code=StoreCode.SETTINGS) from None
    if backend not in _KINDS or not parsed.database:
        text = f"{_shown(parsed)}: store.url must be sqlite:///FILE, or postgresql:// or mariadb://"
        raise StoreError(f"{text} with USER:PASSWORD@HOST/DATABASE", code=StoreCode.SETTINGS)
    unknown = set(parsed.query) - set(_OPTIONS[backend])
    if unknown:
        options = ", ".join(_OPTIONS[backend])
        text = (
            f"{_shown(parsed)}: no such option: {', '.join(sorted(unknown))}; there are {options}"
        )
        raise StoreError(text, code=StoreCode.SETTINGS)
    return parsed


def _shown(url: URL) -> str:
    """Without user and password."""
    where = f"{url.host or 'localhost'}" + (f":{url.port}" if url.port else "")
    return f"{url.get_backend_name()}://{where}/{url.database or ''}"


def _options(url: URL) -> dict[str, Any]:
    """Raises StoreError for a file that is not there: the drivers say so without its name."""
    options = {name: str(value) for name, value in url.query.items()}
    for name in options.keys() & _FILES:
        if options[name] != "system" and not Path(options[name]).is_file():
            text = f"{_shown(url)}: {name}={options[name]} is no file; correct store.url"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)
    return options


def _postgresql(url: URL, writing: bool, shared: bool, watch: StatementTimeout) -> Any:
    import psycopg

    settings = [
        "-c timezone=UTC",
        f"-c statement_timeout={_PATIENCE}s",
        # A client whose machine is gone frees its lock within a minute.
        "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
    ]
    if not writing:
        settings.append("-c default_transaction_read_only=on")
        settings.append(r"-c default_transaction_isolation=repeatable\ read")
    more = _options(url)
    raw = psycopg.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        dbname=url.database,
        connect_timeout=_CONNECT,
        keepalives_idle=10,
        tcp_user_timeout=30_000,
        options=" ".join(settings),
        application_name="meterd",
        target_session_attrs="read-write" if writing else "any",
        **more,
    )
    if writing:
        gone = _end_cut(raw, watch, _end_of_postgresql)
        if not shared:
            _need(raw, f"SELECT pg_try_advisory_lock({_LOCK_NUMBER})", watch, gone)
    return raw


def _end_of_postgresql(raw: Any, session: int) -> None:
    """Ends the session of a connection that was cut: it may wait with the lock for ever."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name"
    _first_row(raw, f"{ended} = 'meterd' AND usename = current_user AND pid = {session}")


@cache
def _mariadb_driver() -> Any:
    """PyMySQL's connection, which makes a TLS context anew each time.

    That takes 20 ms, as the system's certificates are loaded; and where no `ssl_ca` is given,
    nothing is verified by them.
    """
    import pymysql.connections

    driver: Any = pymysql.connections.Connection

    class WithOneContext(driver):  # type: ignore[misc]
        _unverified: SSLContext | None = None

        def _create_ssl_ctx(self, wanted: dict[str, Any]) -> Any:
            if wanted:
                return super()._create_ssl_ctx(wanted)
            own = type(self)
            if own._unverified is None:
                own._unverified = super()._create_ssl_ctx(wanted)
            return own._unverified

    return WithOneContext


def _mariadb(url: URL, writing: bool, shared: bool, watch: StatementTimeout) -> Any:
    from pymysql.converters import conversions

    more = _options(url)
    raw = _mariadb_driver()(
        host=url.host or "localhost",
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        charset="utf8mb4",
        conv={**conversions, float: _literal},
        binary_prefix=True,  # a block is no text that could be badly written
        sql_mode="STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
        connect_timeout=_CONNECT,
        read_timeout=_PATIENCE,
        write_timeout=_PATIENCE,
        autocommit=False,
        ssl_verify_identity="ssl_ca" in more or None,
        defer_connect=True,
        **more,
    )
    try:
        # Its own timeout for this ends with the first packet.
        with watch.bound(raw, _CONNECT):
            raw.connect()
        with watch.bound(raw):
            level = "READ COMMITTED" if writing else "REPEATABLE READ, READ ONLY"
            _first_row(raw, f"SET SESSION time_zone = '+00:00', wait_timeout = {_IDLE}")
            _first_row(raw, f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
            many = _is_cluster(raw)
            raw.rollback()
    except BaseException:
        _close(raw)
        raise
    if writing and not many:
        gone = _end_cut(raw, watch, _end_of_mariadb)
        if not shared:
            # A node of a cluster would hold it for itself alone, and refuses to (galera_lock.py).
            lock = f"SELECT GET_LOCK(CONCAT('{_LOCK} ', DATABASE()), 0)"
            _need(raw, lock, watch, gone)
    return raw


def _end_of_mariadb(raw: Any, session: int) -> None:
    there = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id ="
    if _first_row(raw, f"{there} {session}"):
        with suppress(Exception):  # it may have ended in between
            _first_row(raw, f"KILL CONNECTION {session}")


def _close(raw: Any) -> None:
    """Also one that was never open, or was cut."""
    with suppress(Exception):
        raw.close()


def _literal(value: float, _: object = None) -> str:
    # The sum of an hour can leave the range of doubles, and MariaDB has no infinity.
    if not isfinite(value):
        return "NULL"
    text = repr(value)
    return text if "e" in text else f"{text}e0"


def _is_cluster(raw: Any) -> bool:
    """Whether this is a Galera node; then it says only what all of them know."""
    if _first_row(raw, "SHOW VARIABLES LIKE 'wsrep_on'") in (None, ("wsrep_on", "OFF")):
        return False
    # Waits until what other nodes committed is here; a node that is not part of the cluster
    # fails already, and the next one is asked.
    _first_row(raw, "SET SESSION wsrep_sync_wait = 7")
    _first_row(raw, "SELECT count(*) FROM information_schema.schemata")
    return True


def _is_many(opened: Opened) -> bool:
    """The same of a connection to the store."""
    with opened.begin() as connection:
        variable = connection.exec_driver_sql("SHOW VARIABLES LIKE 'wsrep_on'").first()
    return variable is not None and variable[1] != "OFF"


def _first_row(raw: Any, statement: str) -> Any:
    """The first row of the result, or None."""
    with raw.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def _end_cut(raw: Any, watch: StatementTimeout, end: Callable[[Any, int], None]) -> Sequence[int]:
    """Ends sessions of ours that were cut: they hold locks; returns them."""
    gone = list(watch.cut)
    try:
        for _, session in gone:
            with watch.bound(raw):
                end(raw, session)
                raw.commit()
    except BaseException:
        _close(raw)
        raise
    watch.cut = [number for number in watch.cut if number not in gone]
    watch.ended = (*watch.ended, *(session for _, session in gone))[-_ENDED:]
    return watch.ended


def _need(raw: Any, lock: str, watch: StatementTimeout, ended: Sequence[int]) -> None:
    """Takes the lock that every other meterd needs. Raises StoreError (already_running).

    `ended` are sessions of ours that were told to end, and may have it all the same.
    """
    try:
        for _ in range(_LOCK_TRIES):
            with watch.bound(raw):
                (held,) = _first_row(raw, lock)
                raw.commit()
            if held:
                watch.ended = ()
                return
            time.sleep(_LOCK_PAUSE)
        if ended:
            text = (
                "a session of this meterd that did not answer still has the lock, or another "
                "meterd has it by now; it is waited for"
            )
            raise StoreError(text, code=StoreCode.UNREACHABLE)
        text = "another meterd writes to this database; stop it, or use another store.url"
        raise StoreError(text, code=StoreCode.ALREADY_RUNNING)
    except BaseException:
        _close(raw)
        raise


_KINDS: dict[str, tuple[Callable[[URL, bool, bool, StatementTimeout], Any], str]] = {
    "postgresql": (_postgresql, "postgresql+psycopg"),
    "mariadb": (_mariadb, "mariadb+pymysql"),
}
