"""The single-writer lease: a row of a SQLite store that says who writes to it.

The lock (lockfile.py) is a file beside the database: where somebody deletes it, or gives the
database a second name, two programs can hold one each. The row is one, whatever names there are.
It says enough of its writer to tell whether that is dead, so that no restart waits after a crash:

- it held the very lock that we hold now, on this machine and since this boot: it is gone;
- its process is of this boot and of our pid namespace: the kernel knows;
- it is of this machine, before its last boot: it is gone;
- it wrote to another copy of the file: it is no matter of ours;
- else, of another machine or container: it is gone once nothing was written for its `lease`.

Each transaction that writes looks whether the row is still its own.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, delete, select

from meterd.errors import StoreCode, StoreError
from meterd.store.db import file_identity
from meterd.store.db.connections import Opened
from meterd.store.db.file_identity import Inode
from meterd.store.db.lockfile import Claim
from meterd.store.db.schema import memo
from meterd.store.db.statements import replace_rows

NAME = "store.writer"

_LEAST_LEASE = 90.0  # seconds: network file systems tell sizes and times up to a minute late
_MOST_LEASE = 3600.0
_PAUSE = 1.0  # seconds between two looks at a writer that may be dead
_DATA = ("", file_identity.WAL, ".journal")  # whatever is committed changes one of them
_BODY = select(memo.c.body).where(memo.c.name == NAME)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """One writer: process, machine, and the inodes of its lock and database; `since` is Unix s."""

    id: str
    command: str
    pid: int
    started: str  # of the process, in the kernel's ticks since the boot: pids come again
    pids: str  # the pid namespace
    boot: str
    host: str
    lock: int
    file: int
    since: float
    lease: float  # seconds within which it writes when it lives

    @classmethod
    def of(cls, body: object) -> "LeaseHolder | None":
        """Parses a memo's body; None where it is no lease."""
        try:
            fields = json.loads(body) if isinstance(body, str) else {}
            return cls(
                id=str(fields["id"]),
                command=str(fields["command"]),
                pid=int(fields["pid"]),
                started=str(fields["started"]),
                pids=str(fields["pids"]),
                boot=str(fields["boot"]),
                host=str(fields["host"]),
                lock=int(fields["lock"]),
                file=int(fields["file"]),
                since=float(fields["since"]),
                lease=min(float(fields["lease"]), _MOST_LEASE),
            )
        except (TypeError, ValueError, LookupError):
            return None

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return f"{self.command} (pid {self.pid} on {self.host.split()[-1]}), since {since}"


def this_process(lock: Inode, file: Inode, claim: Claim | None, commit: float) -> LeaseHolder:
    """`commit`: how often we write, in seconds."""
    return LeaseHolder(
        id=uuid.uuid4().hex,
        command="meterd run" if claim is None else claim.command,
        pid=os.getpid(),
        started=_started(os.getpid()),
        pids=_pid_namespace(),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        host=f"{_text('/etc/machine-id')} {socket.gethostname()}".strip(),
        lock=lock[1],
        file=file[1],
        since=round(time.time(), 3),
        lease=_lease(commit),
    )


def _lease(commit: float) -> float:
    return min(max(_LEAST_LEASE, 3 * commit), _MOST_LEASE)


def is_dead(holder: LeaseHolder, own: LeaseHolder) -> bool | None:
    """Whether a writer has ended or never was one of this file; None where only waiting
    shows it.
    """
    if holder.file != own.file:
        # A copy, or what a copy was put in the place of.
        return True
    if holder.boot != own.boot or not own.boot:
        return True if holder.host == own.host else None
    if holder.lock == own.lock:
        return True
    if holder.pids != own.pids:
        return None
    return _started(holder.pid) != holder.started


def _started(pid: int) -> str:
    """The start time of a process, as text; "" where there is none."""
    # `4711 (a name) S 1 …`: the 22nd field, and names may hold anything.
    fields_after_name = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields_after_name[19] if len(fields_after_name) > 19 else ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""


class WriterLease:
    """For one writer of one SQLite file, in its thread. Elsewhere it does nothing."""

    def __init__(
        self,
        path: Path | None,
        claim: Claim | None,
        commit: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`path` is the database's, None on a server; `commit` how often is written, in seconds."""
        self._path = path
        self._claim = claim
        self._commit = commit
        self._sleep = sleep
        self._us: LeaseHolder | None = None
        self.lock: Inode | None = None  # that is held; it may become another one
        self.is_stopping: Callable[[], bool] = lambda: False

    def tune(self, commit: float) -> None:
        """Sets the commit interval after a reload; the next transaction writes it."""
        self._commit = commit
        if self._us is not None:
            self._us = replace(self._us, lease=_lease(commit))

    def take(self, opened: Opened) -> None:
        """Waits for one of another machine that may be dead.

        Raises StoreError: already_running where somebody else writes.
        """
        if self._path is None or self.lock is None or opened.files is None:
            return
        file = opened.files.database
        if self._us is None or self._us.file != file[1]:
            self._us = this_process(self.lock, file, self._claim, self._commit)
        holder, waited = self._try_take(opened, None), 0.0
        if holder is None:
            return
        warning = "%s wrote to this store: whether it still does shows within %.0f s"
        _log.warning(warning, holder, holder.lease)
        seen = self._written()
        while waited < holder.lease:
            if self.is_stopping():
                raise _refusal(holder)
            self._sleep(_PAUSE)
            waited += _PAUSE
            if self._written() != seen:
                raise _refusal(holder)
        if (another := self._try_take(opened, holder)) is not None:
            raise _refusal(another)

    def _try_take(self, opened: Opened, dead: LeaseHolder | None) -> LeaseHolder | None:
        """Makes the row ours; returns its holder instead where that may be alive."""
        with opened.begin() as connection:
            holder = LeaseHolder.of(connection.scalar(_BODY))
            if holder == self._us:
                return None
            if holder is not None and holder != dead and self._is_alive(holder) is None:
                return holder
            self._write(connection)
        # Who has the database under another name has another log, and sees no more than this.
        opened.checkpoint()
        return None

    def _is_alive(self, holder: LeaseHolder) -> bool | None:
        """False for this process and for dead ones; None where only waiting shows it. Raises
        StoreError.
        """
        assert self._us is not None  # noqa: S101 (take made it)
        gone = holder.id == self._us.id or is_dead(holder, self._us)
        if gone is False:
            raise _refusal(holder)
        return None if gone is None else False

    def _write(self, connection: Connection) -> None:
        replace_rows(connection, memo, [{"name": NAME, "body": _body(self._us)}])

    def _written(self) -> list[tuple[int, int] | None]:
        """Size and time of what changes with each commit."""
        assert self._path is not None  # noqa: S101 (take looked)
        states: list[tuple[int, int] | None] = []
        for end in _DATA:
            try:
                stat = self._path.with_name(self._path.name + end).stat()
            except OSError:
                states.append(None)
            else:
                states.append((stat.st_size, stat.st_mtime_ns))
        return states

    def hold(self, connection: Connection) -> None:
        """To be called in a transaction that writes. Raises StoreError where another writer has the
        row.
        """
        if self._us is None:
            return
        if self.lock is not None and self.lock[1] != self._us.lock:
            self._us = replace(self._us, lock=self.lock[1])
        holder = LeaseHolder.of(connection.scalar(_BODY))
        if holder == self._us:
            return
        if holder is not None and self._is_alive(holder) is None:
            raise _refusal(holder)
        self._write(connection)

    def leave(self, opened: Opened) -> None:
        """At the end. Raises StoreError."""
        if self._us is not None:
            ours = memo.c.name == NAME, memo.c.body == _body(self._us)
            with opened.begin() as connection:
                connection.execute(delete(memo).where(*ours))
            self._us = None


def _body(tenant: LeaseHolder | None) -> str:
    return "" if tenant is None else json.dumps(asdict(tenant))


def _refusal(holder: LeaseHolder) -> StoreError:
    text = f"{holder} writes to this very file, under another name or with another lock file"
    return StoreError(f"{text}; stop one of both", code=StoreCode.ALREADY_RUNNING)
