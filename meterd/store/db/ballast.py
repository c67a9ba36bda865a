"""The ballast file: space that is given back when the disk is full.

In a full database with a write-ahead log not even DELETE works.
"""

import os
from contextlib import suppress
from pathlib import Path

from meterd.errors import StoreError
from meterd.store.db import ownership

_EASE = 4  # it is made again where so many times its size is free


class Ballast:
    """A file that reserves room on the disk. Never raises: on a full disk there is none."""

    def __init__(self, path: Path, size: int) -> None:
        """`size` in bytes; 0 is none."""
        self._path = path
        self._size = size

    def keep(self) -> bool:
        """Creates the file where it is missing; returns whether it exists."""
        if self._path.exists():
            return True
        try:
            if self._size <= 0 or self._free() < _EASE * self._size:
                return False
            return self._make()
        except (OSError, StoreError):
            return False

    def _free(self) -> int:
        told = os.statvfs(self._path.parent)
        return told.f_bavail * told.f_frsize

    def _make(self) -> bool:
        file = ownership.make(self._path, os.O_WRONLY)
        try:
            # Blocks are taken, but nothing is written to them: it costs flash nothing.
            os.posix_fallocate(file, 0, self._size)
        except OSError:
            self.release()
            raise
        finally:
            os.close(file)
        return True

    def release(self) -> bool:
        """Gives the room back; whether there was any to give."""
        with suppress(OSError):
            self._path.unlink()
            return True
        return False
