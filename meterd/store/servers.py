"""PostgreSQL and MariaDB: connections to the first node that answers, and what errors mean."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from meterd.errors import StoreError
from meterd.store.database import Connections, Opened

_CONNECT = 5  # seconds for one node
_PATIENCE = 60  # seconds for one statement
_LOCK = "meterd"
_LOCK_NUMBER = 0x6D6574657264  # the same, for PostgreSQL

# What is tried again at once: another transaction won, and nothing of this one is there.
_CONFLICTS = {"40001", "40P01", 1205, 1213, 1047}
_FULL = {"53100", 1021, 1114}
_ADVICE: dict[object, str] = {
    "28P01": "check user and password in store.url",
    "28000": "check user and password in store.url",
    "3D000": "make that database first",
    1045: "check user and password in store.url",
    1044: "grant that user all rights on the database",
    1049: "make that database first",
    "42501": "grant that user the right to make tables",
    1142: "grant that user the right to make tables",
}


class ServerDatabase:
    """A store on a server. Several URLs are the nodes of one cluster, tried in turn."""

    path: Path | None = None

    def __init__(self, urls: Sequence[str], folder: Path | None = None) -> None:
        """`folder` is for the spool. Raises StoreError for a URL that means no server."""
        self._urls = [_parsed(url) for url in urls]
        kinds = {url.get_backend_name() for url in self._urls}
        if len(kinds) != 1:
            raise StoreError("the nodes of a store are of one kind", code="unavailable")
        self.kind = kinds.pop()
        self.label = "store " + ", ".join(_shown(url) for url in self._urls)
        self.folder = folder or Path.cwd()
        connect, dialect = _KINDS[self.kind]
        self._connect = connect
        self._last = 0  # the node that answered last

        def of(writing: bool, begin: str) -> Connections:
            return Connections(
                lambda: self._any(writing), self.mapped, dialect=dialect, begin=begin
            )

        self._writing = of(True, "")
        self._reading = of(False, "")

    def prepare(self) -> None:
        """A server is prepared by its owner."""

    def made(self) -> bool:
        return True

    def lock(self) -> "_NoLock":
        """The writer's own connection holds the lock, so that both end together."""
        return _NoLock()

    def writing(self) -> Opened:
        return self._writing.open()

    @contextmanager
    def reading(self, abandoned: Event | None = None) -> Iterator[Connection]:
        opened = self._reading.open()
        try:
            with opened.begin() as connection:
                yield connection
        finally:
            opened.close()

    def _any(self, writing: bool) -> Any:
        """A connection to the node that answered last, else to the next one."""
        count = len(self._urls)
        for turn in range(count):
            node = (self._last + turn) % count
            try:
                raw = self._connect(self._urls[node], writing)
            except self._errors():
                if turn == count - 1:
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
        code = getattr(error, "sqlstate", None)
        if code is None and error.args and isinstance(error.args[0], int):
            code = error.args[0]
        advice = _ADVICE.get(code)
        told = " ".join(str(error.args[-1] if error.args else error).split())
        text = f"{self.label}: {told}" + (f"; {advice}" if advice else "")
        if code in _FULL:
            return StoreError(text, code="full")
        return StoreError(text, code="conflict" if code in _CONFLICTS else "unavailable")


class _NoLock:
    def release(self) -> None:
        """Nothing is held beside the connection."""


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except SQLAlchemyError as error:
        raise StoreError(f"store.url cannot be read: {error}", code="unavailable") from error
    if backend not in _KINDS or not parsed.database:
        text = f"{_shown(parsed)}: store.url must be sqlite:///FILE, or postgresql:// or mariadb://"
        raise StoreError(f"{text} with USER:PASSWORD@HOST/DATABASE", code="unavailable")
    return parsed


def _shown(url: URL) -> str:
    """Without user and password."""
    where = f"{url.host or 'localhost'}" + (f":{url.port}" if url.port else "")
    return f"{url.get_backend_name()}://{where}/{url.database or ''}"


def _postgresql(url: URL, writing: bool) -> Any:
    import psycopg

    settings = [
        "-c timezone=UTC",
        f"-c statement_timeout={_PATIENCE}s",
        # A client whose machine is gone frees its lock within a minute.
        "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
    ]
    if not writing:
        settings.append("-c default_transaction_read_only=on")
        settings.append("-c default_transaction_isolation='repeatable\\ read'")
    more: dict[str, Any] = {name: str(value) for name, value in url.query.items()}
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
        **more,
    )
    if writing:
        _need(raw, f"SELECT pg_try_advisory_lock({_LOCK_NUMBER})")
        raw.commit()
    return raw


def _mariadb(url: URL, writing: bool) -> Any:
    import pymysql

    query = {name: str(value) for name, value in url.query.items()}
    raw = pymysql.connect(
        host=url.host or "localhost",
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        unix_socket=query.get("unix_socket"),
        charset="utf8mb4",
        connect_timeout=_CONNECT,
        read_timeout=_PATIENCE,
        write_timeout=_PATIENCE,
        autocommit=False,
    )
    with raw.cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '+00:00', wait_timeout = 600")
        level = "READ COMMITTED" if writing else "REPEATABLE READ, READ ONLY"
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
    if writing:
        _need(raw, f"SELECT GET_LOCK(CONCAT('{_LOCK} ', DATABASE()), 0)")
        raw.commit()
    return raw


def _need(raw: Any, lock: str) -> None:
    with raw.cursor() as cursor:
        cursor.execute(lock)
        (held,) = cursor.fetchone()
    if not held:
        raw.close()
        text = "another meterd writes to this database; stop it, or use another store.url"
        raise StoreError(text, code="already_running")


_KINDS: dict[str, tuple[Callable[[URL, bool], Any], str]] = {
    "postgresql": (_postgresql, "postgresql+psycopg"),
    "mariadb": (_mariadb, "mariadb+pymysql"),
    "mysql": (_mariadb, "mysql+pymysql"),
}
