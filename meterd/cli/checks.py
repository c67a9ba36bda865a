"""The checks of `meterd doctor`, one function an area; none of them changes anything."""

import ctypes
import errno
import getpass
import grp
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from meterd import __version__
from meterd.config.settings import Settings
from meterd.errors import MeterdError, StoreError
from meterd.store.db import ownership
from meterd.store.db.lockfile import holder_of

if TYPE_CHECKING:
    from meterd.store.db.connections import Database

FINE, UNUSUAL, WRONG = "ok", "warning", "wrong"
RUNNING = "a meterd runs and keeps the store"
_PACKAGES = ("aiohttp", "alembic", "numpy", "pydantic", "pymodbus", "sqlalchemy")
_DISK_FREE_WRONG = 200 << 20  # bytes
_DISK_FREE_LOW = 1 << 30  # bytes
_CLOCK_SET_SINCE_S = 1_735_689_600  # 2025-01-01: an earlier time means that the clock was never set
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # more than the size of struct timex


@dataclass(frozen=True, slots=True)
class Finding:
    """One result: the area checked, its state, what is the case, and what to do about it."""

    area: str
    state: str
    what: str
    todo: str = ""


def environment() -> Iterator[Finding]:
    """Check versions, required packages and the platform."""
    what = f"meterd {__version__}, Python {platform.python_version()}, {platform.machine()}"
    yield Finding("python", FINE, what)
    for package in _PACKAGES:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding("python", WRONG, f"{package} is missing", "install meterd again with pip")
    if not sys.platform.startswith("linux"):
        yield Finding("system", UNUSUAL, f"{sys.platform} is not tested", "run meterd on Linux")


def clock() -> Finding:
    """Check that the clock is set and synchronised."""
    if time.time() < _CLOCK_SET_SINCE_S:
        return Finding("clock", WRONG, "the clock was never set", "set it: install chrony")
    is_kept = _is_synchronised()
    if is_kept is None:
        return Finding("clock", UNUSUAL, "nobody tells whether the clock is kept right", "")
    if not is_kept:
        todo = "install chrony or systemd-timesyncd: samples are stamped with this clock"
        return Finding("clock", UNUSUAL, "the clock is not synchronised", todo)
    return Finding("clock", FINE, "the clock is synchronised")


def _is_synchronised() -> bool | None:
    """The kernel's state of the clock; None where it cannot be read."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = int(libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def store(url: str | Sequence[str], spool: Path | None = None) -> Iterator[Finding]:
    """Check that the store can be reached and written, its schema, disk space and damaged files.

    `spool` is the prefix of the spool files, None: beside the store.
    """
    from meterd.store.db import store_url
    from meterd.store.db.extras import MissingDriverError

    try:
        database = store_url.find(url)
    except MissingDriverError as error:
        yield Finding("store", WRONG, error.what, error.todo)
        return
    except StoreError as error:
        yield Finding("store", WRONG, str(error), "correct store.url")
        return
    if database.path is not None:
        yield from _file(database.path)
    yield _schema(url)
    yield from _damaged_files(database, spool)


def _damaged_files(database: "Database", spool: Path | None) -> Iterator[Finding]:
    """Check the file WAL and the spool for damaged records."""
    from meterd.store.db import quarantine
    from meterd.store.head.catalog import Catalog
    from meterd.store.tools import check

    catalog = Catalog()
    try:
        if database.path is not None and database.made():
            with database.reading() as connection, quarantine.readable_rows(database.label):
                catalog.load(connection)
    except StoreError:
        pass  # reported by the other checks of the store
    for text in check.files(database, spool, catalog):
        todo = "the rest is read; `meterd run` keeps what is damaged in a file of its own"
        yield Finding("store", WRONG, text, todo)


def _schema(url: str | Sequence[str]) -> Finding:
    from meterd.store.db import foreign_rows, migrate, store_url
    from meterd.store.db.schema import SMALL

    database = store_url.find(url)
    if not database.made():
        return Finding("store", FINE, f"{database.label}: not there yet; `meterd run` makes it")
    try:
        with database.reading() as connection:
            version = migrate.version(connection)
            is_checked = version == migrate.versions()[-1] and database.path is not None
            flaws = list(foreign_rows.find_rows(connection, SMALL)) if is_checked else []
    except StoreError as error:
        return Finding("store", WRONG, str(error), "see docs/store.md, or restore a backup")
    if flaws:
        what = f"{len(flaws)} rows make no sense: {flaws[0]}"
        todo = "start meterd, which puts them aside; `meterd db check` names more"
        return Finding("store", WRONG, what, todo)
    if version != migrate.versions()[-1]:
        todo = "`meterd db migrate`, or just start meterd"
        return Finding("store", UNUSUAL, f"{database.label}: schema {version or 'empty'}", todo)
    return Finding("store", FINE, f"{database.label}: schema {version}")


def _file(path: Path) -> Iterator[Finding]:
    user = getpass.getuser()
    folder = path.parent
    if not folder.is_dir():
        yield Finding("store", WRONG, f"{folder} is not there", "make it, or mount its disk")
        return
    for entry in (folder, *(file for file in (path, Path(f"{path}-wal")) if file.exists())):
        if not os.access(entry, os.W_OK):
            todo = f"chown {user} {entry}, or run this as the user that meterd runs as"
            yield Finding("store", WRONG, f"{user} may not write to {entry}", todo)
    yield from _foreign_owners(path)
    if (holder := holder_of(path)) is not None:
        what = RUNNING if holder.is_daemon else f"{holder} has the store"
        todo = "" if holder.is_daemon else "meterd starts when that has ended"
        yield Finding("store", FINE if holder.is_daemon else UNUSUAL, what, todo)
    free = shutil.disk_usage(folder).free
    what = f"{free / (1 << 30):.1f} GiB are free on the disk of {folder}"
    if free < _DISK_FREE_LOW:
        state = WRONG if free < _DISK_FREE_WRONG else UNUSUAL
        yield Finding("store", state, what, "make room, or set store.keep.raw")
    else:
        yield Finding("store", FINE, what)


def _foreign_owners(path: Path) -> Iterator[Finding]:
    """Check for files beside the store with another owner, as tools run by root leave them."""
    number = path.parent.stat().st_uid
    if number == 0:
        return
    owner = ownership.user(number)
    # `meterd.db` with its -wal, spool and backups; and the token files.
    for file in sorted((*path.parent.glob(f"{path.name}*"), *path.parent.glob("*.tokens"))):
        if (other := file.lstat().st_uid) != number:
            what = f"{file} belongs to {ownership.user(other)}, its folder to {owner}"
            yield Finding("store", WRONG, what, f"chown {owner}: {file}")


def links(settings: Settings) -> Iterator[Finding]:
    """Check each serial port and host that a device uses."""
    urls = dict.fromkeys(
        settings.links[device.link].url if device.link in settings.links else device.link
        for device in settings.devices.values()
        if device.enabled
    )
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "serial":
            yield _serial(Path(parts.path))
        elif parts.hostname:
            yield _host(parts.hostname, url.partition("?")[0])


def _serial(port: Path) -> Finding:
    if not port.exists():
        todo = "plug it in; `ls -l /dev/serial/by-id/` shows what is there"
        return Finding("link", WRONG, f"{port} is not there", todo)
    if os.access(port, os.R_OK | os.W_OK):
        return Finding("link", FINE, f"{port} can be opened")
    user = getpass.getuser()
    group = _group(port)
    todo = f"sudo usermod -aG {group} {user}, and log in again (a service: restart it)"
    return Finding("link", WRONG, f"{user} may not open {port} of group {group}", todo)


def _group(port: Path) -> str:
    number = port.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _host(host: str, url: str) -> Finding:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        todo = "correct the name, or write its address"
        return Finding("link", WRONG, f"{url}: {host}: {error.strerror or error}", todo)
    address = str(infos[0][4][0])
    resolved = "" if address == host else f" {host} is {address},"
    return Finding("link", FINE, f"{url}:{resolved} not asked; `meterd check --online` does")


def certificate(settings: Settings) -> Iterator[Finding]:
    """Check the API's certificate: its files and its validity."""
    from meterd.cli.servers import check_certificate

    if settings.api.tls is None:
        return
    file = settings.api.tls.certificate
    try:
        flaw = check_certificate(settings.api, time.time())
    except MeterdError as error:
        yield Finding("certificate", WRONG, str(error), "correct api.tls")
        return
    if flaw:
        state = UNUSUAL if "expires in" in flaw else WRONG
        yield Finding("certificate", state, flaw, "renew it; meterd takes the new one by itself")
    else:
        yield Finding("certificate", FINE, f"{file} fits its key and is valid")


def ports(settings: Settings, is_running: bool) -> Iterator[Finding]:
    """Check that the listen addresses are free, or in use by the running meterd."""
    addresses = [("api.listen", settings.api.host, settings.api.port)]
    if settings.proxy is not None:
        addresses.append(("proxy.listen", settings.proxy.host, settings.proxy.port))
    for name, host, port in addresses:
        code = _bind_errno(host, port)
        what = f"{name} {host}:{port}"
        if is_running:
            if code == errno.EADDRINUSE:
                yield Finding("port", FINE, f"{what} is in use, by the meterd that runs")
            else:
                todo = "see its log: `journalctl -u meterd`"
                yield Finding("port", WRONG, f"a meterd runs, and {what} is free", todo)
        elif code:
            todo = "choose another port, or stop what listens there (`ss -ltnp`)"
            yield Finding("port", WRONG, f"{what}: {os.strerror(code)}", todo)
        else:
            yield Finding("port", FINE, f"{what} is free")


def _bind_errno(host: str, port: int) -> int:
    """The errno of listening on the address; 0 where it is free."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # With SO_REUSEADDR bind() succeeds for two sockets, listen() only for one.
            listener.listen(1)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno or errno.EIO
    return 0
