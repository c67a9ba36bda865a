"""The lock that keeps a second daemon away from the same data."""

import fcntl
import os
from pathlib import Path

from meterd.errors import StoreError


class Lock:
    """Held by one process from its construction to `release`, or to that process' end.

    The file `<database>.lock` stays: removing it would let two in. It holds the owner's pid.
    """

    def __init__(self, database: Path) -> None:
        """Raises StoreError: already_running; unavailable where the file cannot be written."""
        path = database.with_name(f"{database.name}.lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            text = f"{path}: {error.strerror}; meterd must be able to write in that folder"
            raise StoreError(text, code="unavailable") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise self._taken(database, error) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def _taken(self, database: Path, error: OSError) -> StoreError:
        owner = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
        os.close(self._file)
        if not isinstance(error, BlockingIOError):
            return StoreError(f"{database}.lock: {error.strerror}", code="unavailable")
        text = f"another meterd (pid {owner}) keeps {database}; stop it, or use another store.url"
        return StoreError(text, code="already_running")

    def release(self) -> None:
        os.close(self._file)
