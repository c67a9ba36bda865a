"""Brings a database to the newest schema: runs alembic's migrations/, forward only."""

import logging
import re
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text

import meterd
from meterd.errors import StoreCode, StoreError
from meterd.store.db import galera_lock, premigration_backup, quarantine, views
from meterd.store.db.connections import Database

_VERSIONS = "alembic_version"
_VERSION = re.compile(r"\d{4}")

_log = logging.getLogger(__name__)


def folder() -> Path:
    """migrations/: inside the package where it was installed, beside it in a checkout."""
    package = Path(meterd.__file__).parent
    for place in (package / "migrations", package.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    lost = f"{package / 'migrations'} is missing; install meterd again"
    raise StoreError(lost, code=StoreCode.UNAVAILABLE)


@cache
def versions() -> tuple[str, ...]:
    """Every schema this program knows, oldest first, by the names of the migrations' files."""
    files = (folder() / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")
    return tuple(sorted(file.name[:4] for file in files))


def version(connection: Connection) -> str | None:
    """The database's schema; None where it is empty.

    Raises StoreError: newer_schema; unavailable where it is another program's database.
    """
    tables = [name for name in inspect(connection).get_table_names() if name != galera_lock.TABLE]
    if not tables:
        return None
    if _VERSIONS not in tables:
        alien = f"the database is another program's (it has {tables[0]}); use another store.url"
        raise StoreError(alien, code=StoreCode.UNAVAILABLE)
    stored = connection.scalar(text(f"SELECT version_num FROM {_VERSIONS}"))  # noqa: S608 (ours)
    if "device" in tables and (stored is None or not _VERSION.fullmatch(str(stored))):
        what = f"its alembic_version says {stored!r}, which is no schema's name"
        raise StoreError(f"the store is damaged: {what}; start meterd once", code=StoreCode.CORRUPT)
    if stored is not None and stored not in versions():
        newer = (
            f"the store has schema {stored}, this meterd {meterd.__version__} knows "
            f"{versions()[-1]} at most; install a newer meterd, or restore a backup"
        )
        raise StoreError(newer, code=StoreCode.NEWER_SCHEMA)
    return None if stored is None else str(stored)


def is_current(connection: Connection) -> bool:
    """Whether there is a schema to read. Raises StoreError: newer_schema, older_schema."""
    stored = version(connection)
    if stored is not None and stored != versions()[-1]:
        older = (
            f"the store has schema {stored}, this meterd {meterd.__version__} reads "
            f"{versions()[-1]}; `meterd db migrate` brings it up to date"
        )
        raise StoreError(older, code=StoreCode.OLDER_SCHEMA)
    return stored is not None


def upgrade(database: Database) -> None:
    """Makes or upgrades the schema. Idempotent.

    Whoever calls holds the lock (lockfile.py); on servers the connection does. Raises StoreError:
    unavailable, full, corrupt, newer_schema, already_running.
    """
    database.prepare()
    if database.made():
        stored = _stored_version(database)
        if stored == versions()[-1]:
            return
        # A server's databases are copied by whoever keeps the server.
        if stored is not None and database.path is not None:
            premigration_backup.copy_database(database.path, stored)
    opened = database.writing()
    try:
        with opened.begin() as connection:
            # Another meterd may have done it while we waited for the lock.
            if version(connection) != versions()[-1]:
                _run(connection)
    finally:
        opened.close()


def _stored_version(database: Database) -> str | None:
    """The schema's version; where the file has a wrong one, that of its tables; None where it is
    empty.
    """
    try:
        with database.reading() as connection:
            return version(connection)
    except StoreError as error:
        if error.code != StoreCode.CORRUPT or quarantine.is_damage(error):
            raise
        if database.path is None:
            # MariaDB shows tables while another meterd makes them: who has the lock looks again.
            return None
        # Half a second for each schema: only paid where there is something to do.
        from meterd.store.db.expected_schema import schema_differences

        path = database.path
        fit = next(
            (
                candidate
                for candidate in reversed(versions())
                if not list(schema_differences(path, candidate))
            ),
            None,
        )
        if fit is None:
            raise
        _log.error("%s; its tables are those of schema %s, and it says so again", error, fit)
    opened = database.writing()
    try:
        with opened.begin() as connection:
            connection.execute(text(f"DELETE FROM {_VERSIONS}"))  # noqa: S608 (ours)
            statement = f"INSERT INTO {_VERSIONS} (version_num) VALUES (:found)"  # noqa: S608 (ours)
            connection.execute(text(statement), {"found": fit})
    finally:
        opened.close()
    return fit


def make(database: Database, revision: str) -> None:
    """The schema as it was at some version, in a database that is empty. Raises StoreError."""
    opened = database.writing()
    try:
        with opened.begin() as connection:
            _run(connection, revision)
    finally:
        opened.close()


def _run(connection: Connection, revision: str = "head") -> None:
    # Half a second: only paid where there is something to do.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    # ConfigParser would take a % in the path for its own.
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    views.drop(connection)
    command.upgrade(config, revision)
    if revision in ("head", versions()[-1]):
        views.make(connection)
