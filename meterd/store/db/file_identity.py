"""Identity of open files by device and inode: notices when they were deleted or replaced.

SQLite, and every open file, goes on with what it opened: a file that was deleted or replaced
meanwhile takes all that is written, and no name leads there any more.
"""

import os
import weakref
from collections.abc import Iterable
from pathlib import Path

from meterd.errors import StoreCode, StoreError

Inode = tuple[int, int]
"""Device and inode of a file."""

# Closing any other descriptor of a database would end the locks that SQLite has on it.
_HOLD: int = os.O_PATH
WAL, SHM = "-wal", "-shm"
_BESIDE = (WAL, SHM)


class GoneError(StoreError):
    """A file of the store was deleted or replaced: the open file is not the one of that name."""

    def __init__(self, text: str) -> None:
        super().__init__(text, code=StoreCode.UNAVAILABLE)


def inode(path: Path) -> Inode | None:
    """Device and inode number; None where the file is missing or cannot be read."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def of_open(file: int) -> Inode:
    """Of a descriptor. Raises OSError."""
    stat = os.fstat(file)
    return stat.st_dev, stat.st_ino


def disk(path: Path) -> int | None:
    """The number of the file system that a file is on, or would be."""
    for place in (path, *path.parents):
        inode_ = inode(place)
        if inode_ is not None:
            return inode_[0]
    return None


def changed(path: Path, before: Inode | None) -> str:
    """What became of a file, as text; "" where it is the same."""
    now = inode(path)
    if now == before:
        return ""
    return f"{path} is deleted" if now is None else f"{path} is another file by now"


class FileIdentities:
    """The files of one open SQLite database, as they were when it was opened."""

    def __init__(self, path: Path) -> None:
        """For an existing database. Raises GoneError where it is missing."""
        self.path = path
        self.is_open = True
        self.is_kept = False  # held on to when it is closed, too, until the next one is open
        try:
            held = os.open(path, _HOLD | os.O_CLOEXEC)
        except OSError as error:
            raise GoneError(f"{path} is gone: {error.strerror}") from error
        # As long as it is held no other file gets its number.
        self.let_go = weakref.finalize(self, os.close, held)
        self.database: Inode = of_open(held)
        self.beside: dict[str, Inode] = {}
        self._note(_BESIDE)

    def _note(self, suffixes: Iterable[str]) -> None:
        for suffix in suffixes:
            if (inode_ := inode(self.beside_path(suffix))) is not None:
                self.beside[suffix] = inode_

    def beside_path(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    @property
    def is_moved(self) -> bool:
        """Whether the database itself is not what its name means."""
        return inode(self.path) != self.database

    def lost(self) -> str:
        """Which file was deleted or replaced, as text; "" where none was. Costs three
        stat calls.
        """
        flaw = changed(self.path, self.database)
        if flaw or not self.is_open:
            return flaw
        for suffix in _BESIDE:
            before = self.beside.get(suffix)
            if before is None:
                # SQLite makes both with the first transaction, and keeps them while it is open.
                self._note((suffix,))
            elif flaw := changed(self.beside_path(suffix), before):
                return flaw
        return ""

    def check(self) -> None:
        """Raises GoneError."""
        if flaw := self.lost():
            raise GoneError(flaw)

    def strangers(self) -> list[Path]:
        """What has the name of the log or its index, and is another file."""
        paths = {suffix: self.beside_path(suffix) for suffix in _BESIDE}
        return [
            path
            for suffix, path in paths.items()
            if inode(path) not in (None, self.beside.get(suffix))
        ]

    def leftovers(self) -> list[Path]:
        """The log and the index of this very database, under the names that they had."""
        return [
            path
            for suffix, before in self.beside.items()
            if inode(path := self.beside_path(suffix)) == before
        ]
