"""fsync of folders, and errors of the file system as StoreErrors."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meterd.errors import StoreCode, StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def as_store_errors(path: Path) -> Iterator[None]:
    """Maps OSError to StoreError: full or unavailable."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in _FULL
        code = StoreCode.FULL if is_full else StoreCode.UNAVAILABLE
        advice = "make room on its disk" if is_full else "check its disk and its owner"
        raise StoreError(f"{path}: {error.strerror}; {advice}", code=code) from error


def fsync_folder(folder: Path) -> None:
    """A new or renamed file's name is on the disk, too. Raises OSError."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(held)
    finally:
        os.close(held)
