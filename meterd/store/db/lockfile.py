"""The lock that keeps a second daemon away from the same data."""

import errno
import fcntl
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meterd.errors import StoreCode, StoreError
from meterd.store.db import file_identity, ownership
from meterd.store.db.file_identity import Inode

_LOCKS = Path("/proc/locks")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A program that only looks holds a shared lock for a moment; and who has just got the lock has
# not written yet who it is.
_TRIES = 10
_PAUSE = 0.1  # seconds between two of them
_SIZE_LIMIT = 4096
_COMMAND_LIMIT = 200
# An SD card that writes at random, and a minute to begin and to end.
_BYTES_A_SECOND = 500_000
_SETUP = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a tool wants the store for, and for how many seconds at most."""

    command: str
    most: float


def claimed(command: str, size: int) -> Claim:
    """A claim of a tool that reads, checks and writes so many bytes, with slow flash in mind."""
    return Claim(command, _SETUP + size / _BYTES_A_SECOND)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the lock; `most`: seconds it may take, None for a daemon and for other
    programs.

    `since` is Unix seconds, 0 where it is not known; so is `pid`.
    """

    pid: int
    command: str
    since: float = 0.0
    most: float | None = None
    is_daemon: bool = False

    def __str__(self) -> str:
        who = f"{self.command} (pid {self.pid})" if self.pid else self.command
        if not self.since:
            return who
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        most = "" if self.most is None else f", for {_spell(self.most)} at most"
        return f"{who}, since {since}{most}"

    def is_late(self, now: float) -> bool:
        """Whether it has taken longer than it said; `now` is Unix seconds."""
        return self.most is not None and now > self.since + self.most


def _spell(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


class LockFile:
    """Held by one process from its construction to `release`, or to that process' end.

    The file `<database>.lock` stays: removing it would let two in. While it is held it says who
    holds it: the pid in the first line, the rest as JSON in the second.
    """

    def __init__(
        self,
        database: Path,
        claim: Claim | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`claim` is a tool's; none is a daemon's.

        Raises StoreError: already_running where a daemon has it; busy where a tool or another
        program has; full or unavailable where the file cannot be written.
        """
        self._database = database
        self._claim = claim
        self._path = path = lock_path(database)
        self._file = _opened(path)
        try:
            self._take(database, sleep)
            self._write_holder(path, claim)
        except BaseException:
            os.close(self._file)
            raise

    def _take(self, database: Path, sleep: Callable[[float], None]) -> None:
        for turn in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = _holder(self._file)
                # Only who says nothing of itself may be one that is gone in a moment.
                if holder.since or turn == _TRIES - 1:
                    raise _already_running(database, holder) from error
                sleep(_PAUSE)
            except OSError as error:
                text = f"{lock_path(database)}: {error.strerror}"
                raise StoreError(text, code=StoreCode.UNAVAILABLE) from error
            else:
                return

    def _write_holder(self, path: Path, claim: Claim | None) -> None:
        holder = {
            "kind": "daemon" if claim is None else "tool",
            "command": ("meterd run" if claim is None else claim.command)[:_COMMAND_LIMIT],
            "since": round(time.time(), 3),
            "most_s": None if claim is None else claim.most,
        }
        text = f"{os.getpid()}\n{json.dumps(holder)}\n"
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text.encode(), 0)
        except OSError as error:
            if error.errno not in _FULL:
                raise StoreError(f"{path}: {error.strerror}", code=StoreCode.UNAVAILABLE) from error
            # On a full disk the lock holds all the same; it only says less of who has it.

    @property
    def inode(self) -> Inode:
        """Of the file that is locked."""
        return file_identity.of_open(self._file)

    def check(self) -> None:
        """Takes the lock again where somebody deleted or replaced its file.

        Raises StoreError: busy, already_running where another has it by now.
        """
        flaw = file_identity.changed(self._path, self.inode)
        if not flaw:
            return
        again = LockFile(self._database, self._claim, lambda _: None)
        os.close(self._file)
        self._file = again._file
        _log.error("%s: it is locked again. It says that meterd runs: leave it there", flaw)

    def release(self) -> None:
        # Who comes next must not take what is written there for the one that holds it.
        try:
            os.ftruncate(self._file, 0)
        except OSError as error:
            if error.errno not in (*_FULL, errno.EROFS, errno.EIO):
                raise
        finally:
            os.close(self._file)


def lock_path(database: Path) -> Path:
    """The lock's file."""
    return database.with_name(f"{database.name}.lock")


def _opened(path: Path) -> int:
    try:
        # Its content is replaced, by root too: never that of what somebody's link leads to.
        file = ownership.make(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _FULL:
            text = f"{path}: {error.strerror}; make room on its disk"
            raise StoreError(text, code=StoreCode.FULL) from error
        advice = ownership.blame(path) or "meterd must be able to write in that folder"
        raise StoreError(
            f"{path}: {error.strerror}; {advice}", code=StoreCode.UNAVAILABLE
        ) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise StoreError(f"{path} is no file; remove it", code=StoreCode.UNAVAILABLE)
    return file


def holder_of(database: Path) -> Holder | None:
    """Who holds the lock of a database; None where nobody does, or it cannot be found out.

    It makes no file, which might then belong to the wrong user.
    """
    try:
        file = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file)
        except OSError:
            return None
        # Ours is shared, and so is that of any other that is there at the same time.
        others = [pid for pid in _pids(file) if pid != os.getpid()]
        return _stranger(others[0]) if others else None
    finally:
        os.close(file)


def _already_running(database: Path, holder: Holder) -> StoreError:
    if holder.is_daemon:
        text = f"another meterd (pid {holder.pid}) keeps {database}"
        text += "; stop it, or use another store.url"
        return StoreError(text, code=StoreCode.ALREADY_RUNNING)
    text = f"{database} is held by {holder}; wait until that has ended, or stop it"
    return StoreError(text, code=StoreCode.BUSY)


def _holder(file: int) -> Holder:
    """Who holds a locked file: what it says, if the kernel names the same process."""
    noted = _written_holder(file)
    pids = _pids(file)
    if noted is not None and (not pids or noted.pid in pids):
        return noted
    return _stranger(pids[0]) if pids else Holder(0, "another program")


def _written_holder(file: int) -> Holder | None:
    try:
        first, _, rest = os.pread(file, _SIZE_LIMIT, 0).decode().partition("\n")
        pid = int(first)
        if not rest.strip():
            # A meterd that said no more than its pid was a daemon, or so short a tool.
            return Holder(pid, "meterd run", time.time(), is_daemon=True)
        fields = json.loads(rest)
        most = fields["most_s"]
        return Holder(
            pid,
            "".join(c if c.isprintable() else "?" for c in str(fields["command"])),
            float(fields["since"]),
            None if most is None else float(most),
            fields["kind"] == "daemon",
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _pids(file: int) -> list[int]:
    """The processes that hold the lock, by the kernel; empty where it does not tell, as in a
    sandbox.
    """
    if not sys.platform.startswith("linux"):
        return []
    inode = str(os.fstat(file).st_ino)
    try:
        lines = _LOCKS.read_text("ascii", "replace").splitlines()
    except OSError:
        return []
    # `1: FLOCK  ADVISORY  WRITE 4711 fd:01:393 0 EOF`; devices of some file systems differ
    # from what stat says, so the inode decides. Waiters' lines have an arrow.
    lines_ = [line.split() for line in lines if "->" not in line]
    return [
        int(parts[4])
        for parts in lines_
        if len(parts) > 5 and parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == inode
        if parts[4].isdecimal() and int(parts[4]) > 0
    ]


def _stranger(pid: int) -> Holder:
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        name = ""
    name = "".join(c if c.isprintable() else "?" for c in name)
    return Holder(pid, name or "another program")
