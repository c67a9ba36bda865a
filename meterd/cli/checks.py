"""What doctor looks at, one function a field; none of them changes anything."""

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
_LEAST_FREE = 200 << 20  # bytes
_SCARCE = 1 << 30
_BORN = 1_735_689_600  # 2025: a clock that says less was never set
_UNSYNCHRONISED = 5  # adjtimex: TIME_ERROR
_TIMEX = 512  # bytes, more than struct timex has


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do where it is not fine."""

    area: str
    state: str
    what: str
    todo: str = ""


def environment() -> Iterator[Finding]:
    """Versions, and packages that lack."""
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
    """Whether the time is set, and kept right by somebody."""
    if time.time() < _BORN:
        return Finding("clock", WRONG, "the clock was never set", "set it: install chrony")
    is_kept = _is_synchronised()
    if is_kept is None:
        return Finding("clock", UNUSUAL, "nobody tells whether the clock is kept right", "")
    if not is_kept:
        todo = "install chrony or systemd-timesyncd: samples are stamped with this clock"
        return Finding("clock", UNUSUAL, "the clock is not synchronised", todo)
    return Finding("clock", FINE, "the clock is synchronised")


def _is_synchronised() -> bool | None:
    """As the kernel sees it; None where it does not tell."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = int(libc.adjtimex(ctypes.create_string_buffer(_TIMEX)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def store(url: str | Sequence[str], spool: Path | None = None) -> Iterator[Finding]:
    """Reachable, of this meterd's schema, with room, and ours to write; nothing in it damaged.

    `spool` is where polls wait, if it is not beside the store.
    """
    from meterd.store.db import store_url
    from meterd.store.db.extras import MissingDriverError

    try:
        place = store_url.find(url)
    except MissingDriverError as error:
        yield Finding("store", WRONG, error.what, error.todo)
        return
    except StoreError as error:
        yield Finding("store", WRONG, str(error), "correct store.url")
        return
    if place.path is not None:
        yield from _file(place.path)
    yield _schema(url)
    yield from _damage(place, spool)


def _damage(place: "Database", spool: Path | None) -> Iterator[Finding]:
    """What cannot be read of the journal file and the spool."""
    from meterd.store.db import quarantine
    from meterd.store.head.catalog import Catalog
    from meterd.store.tools import check

    catalog = Catalog()
    try:
        if place.path is not None and place.made():
            with place.reading() as connection, quarantine.readable_rows(place.label):
                catalog.load(connection)
    except StoreError:
        pass  # told already
    for text in check.files(place, spool, catalog):
        todo = "the rest is read; `meterd run` keeps what is damaged in a file of its own"
        yield Finding("store", WRONG, text, todo)


def _schema(url: str | Sequence[str]) -> Finding:
    from meterd.store.db import foreign_rows, migrate, store_url
    from meterd.store.db.schema import SMALL

    place = store_url.find(url)
    if not place.made():
        return Finding("store", FINE, f"{place.label}: not there yet; `meterd run` makes it")
    try:
        with place.reading() as connection:
            found = migrate.version(connection)
            looked = found == migrate.versions()[-1] and place.path is not None
            odd = list(foreign_rows.find_rows(connection, SMALL)) if looked else []
    except StoreError as error:
        return Finding("store", WRONG, str(error), "see docs/store.md, or restore a backup")
    if odd:
        what = f"{len(odd)} rows make no sense: {odd[0]}"
        todo = "start meterd, which puts them aside; `meterd db check` names more"
        return Finding("store", WRONG, what, todo)
    if found != migrate.versions()[-1]:
        todo = "`meterd db migrate`, or just start meterd"
        return Finding("store", UNUSUAL, f"{place.label}: schema {found or 'empty'}", todo)
    return Finding("store", FINE, f"{place.label}: schema {found}")


def _file(path: Path) -> Iterator[Finding]:
    user = getpass.getuser()
    folder = path.parent
    if not folder.is_dir():
        yield Finding("store", WRONG, f"{folder} is not there", "make it, or mount its disk")
        return
    for place in (folder, *(one for one in (path, Path(f"{path}-wal")) if one.exists())):
        if not os.access(place, os.W_OK):
            todo = f"chown {user} {place}, or run this as the user that meterd runs as"
            yield Finding("store", WRONG, f"{user} may not write to {place}", todo)
    yield from _owners(path)
    if (holder := holder_of(path)) is not None:
        what = RUNNING if holder.is_daemon else f"{holder} has the store"
        todo = "" if holder.is_daemon else "meterd starts when that has ended"
        yield Finding("store", FINE if holder.is_daemon else UNUSUAL, what, todo)
    free = shutil.disk_usage(folder).free
    what = f"{free / (1 << 30):.1f} GiB are free on the disk of {folder}"
    if free < _SCARCE:
        state = WRONG if free < _LEAST_FREE else UNUSUAL
        yield Finding("store", state, what, "make room, or set store.keep.raw")
    else:
        yield Finding("store", FINE, what)


def _owners(path: Path) -> Iterator[Finding]:
    """Files that a tool run as root, or as somebody else, has left beside the store."""
    number = path.parent.stat().st_uid
    if number == 0:
        return
    owner = ownership.user(number)
    # `meterd.db` and what is named after it; and the tokens.
    for file in sorted((*path.parent.glob(f"{path.name}*"), *path.parent.glob("*.tokens"))):
        if (other := file.lstat().st_uid) != number:
            what = f"{file} belongs to {ownership.user(other)}, its folder to {owner}"
            yield Finding("store", WRONG, what, f"chown {owner}: {file}")


def links(settings: Settings) -> Iterator[Finding]:
    """Each serial port and host that a device uses."""
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
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        todo = "correct the name, or write its address"
        return Finding("link", WRONG, f"{url}: {host}: {error.strerror or error}", todo)
    address = str(found[0][4][0])
    known = "" if address == host else f" {host} is {address},"
    return Finding("link", FINE, f"{url}:{known} not asked; `meterd check --online` does")


def certificate(settings: Settings) -> Iterator[Finding]:
    """Of the API: whether it can be served, and for how long."""
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
    """Whether what meterd listens on is free, or is its own."""
    doors = [("api.listen", settings.api.host, settings.api.port)]
    if settings.proxy is not None:
        doors.append(("proxy.listen", settings.proxy.host, settings.proxy.port))
    for name, host, port in doors:
        trouble = _taken(host, port)
        what = f"{name} {host}:{port}"
        if is_running:
            if trouble == errno.EADDRINUSE:
                yield Finding("port", FINE, f"{what} is in use, by the meterd that runs")
            else:
                todo = "see its log: `journalctl -u meterd`"
                yield Finding("port", WRONG, f"a meterd runs, and {what} is free", todo)
        elif trouble:
            todo = "choose another port, or stop what listens there (`ss -ltnp`)"
            yield Finding("port", WRONG, f"{what}: {os.strerror(trouble)}", todo)
        else:
            yield Finding("port", FINE, f"{what} is free")


def _taken(host: str, port: int) -> int:
    """The errno of listening there; 0 where it works."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            # Two may be bound with REUSEADDR, but only one listens.
            made.listen(1)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno or errno.EIO
    return 0
