"""Makes files with the owner of the store's folder and without rights for others.

Whoever runs a tool as root beside a daemon that is somebody else leaves nothing of root's there.
"""

import os
import pwd
from pathlib import Path

from meterd.errors import StoreCode, StoreError

MODE = 0o640  # less where the umask says so; also of SQLite's -wal and -shm, which copy it
_FOLDER_MODE = 0o750


def make(path: Path, flags: int = os.O_RDWR) -> int:
    """Opens a file, created where it is missing. Raises OSError, StoreError.

    root gives a new file to the owner of the database that it stands beside, else of its folder.
    """
    flags |= os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            # Exclusive: what somebody else has put there meanwhile is not given away.
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
        except FileExistsError:
            if path.is_symlink():
                raise
            continue
        try:
            _give(file, path)
        except BaseException:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        return file


def touch(path: Path) -> None:
    """Creates the file with mode and owner, before another program opens it."""
    os.close(make(path))


def folders(path: Path) -> None:
    """Makes a folder and those above it. Raises OSError, StoreError."""
    if path.is_dir():
        return
    folders(path.parent)
    path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _give(held, path)
    finally:
        os.close(held)


def _give(file: int, path: Path) -> None:
    if os.geteuid() != 0:
        return
    owner, mine = _owner(path).stat(), os.fstat(file)
    if (owner.st_uid, owner.st_gid) == (mine.st_uid, mine.st_gid):
        return
    try:
        os.fchown(file, owner.st_uid, owner.st_gid)
    except OSError as error:
        name = user(owner.st_uid)
        text = f"{path} would belong to root, and {name} could not use it; run this as {name}"
        raise StoreError(text, code=StoreCode.UNAVAILABLE) from error


def _owner(path: Path) -> Path:
    """The owner that a file should have: that of `meterd.db` for `meterd.db.spool-000001`, else
    that of its folder.
    """
    name = path.name
    while "." in name:
        name = name.rpartition(".")[0]
        if name and (beside := path.with_name(name)).is_file():
            return beside
    return path.parent


def user(number: int) -> str:
    """A user's name, or the number of one without."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def blame(path: Path) -> str:
    """What to do about a file that cannot be written; "" where its owner is not the reason."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return ""
    if os.access(path, os.W_OK):
        return ""
    name, me = user(owner), user(os.geteuid())
    if owner == os.geteuid():
        return f"{me} may not write to it: chmod u+w {path}"
    return f"it belongs to {name}, and this runs as {me}: `chown {me} {path}`, or run it as {name}"
