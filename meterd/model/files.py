"""Reads files named by users, up to a size limit, and without blocking on pipes or devices."""

import errno
import os
import select
import stat
from pathlib import Path

# Seconds without data after which reading a pipe fails: it may have no writer.
_PIPE_TIMEOUT_S = 10.0
_READ_BYTES = 1 << 16


def read(path: Path, max_bytes: int, *, pipe: bool = True) -> bytes:
    """Reads a whole file. Raises OSError with `strerror` set, also beyond `max_bytes`.

    Terminals are refused; so are pipes and character devices unless `pipe`: some have no end.
    """
    file = open_regular(path, pipe=pipe)
    try:
        is_pipe = not stat.S_ISREG(os.fstat(file).st_mode)
        data = bytearray()
        while True:
            if is_pipe:
                _wait(file, path)
            chunk = os.read(file, _READ_BYTES)
            if not chunk:
                return bytes(data)
            data += chunk
            if len(data) > max_bytes:
                text = f"it is larger than {max_bytes >> 10} KiB: is it the right file?"
                raise OSError(errno.EFBIG, text, str(path))
    finally:
        os.close(file)


def read_text(path: Path, max_bytes: int) -> str:
    """Reads a whole file as UTF-8. Raises OSError, UnicodeDecodeError."""
    return read(path, max_bytes).decode("utf-8")


def open_regular(path: Path, *, pipe: bool = False) -> int:
    """Opens a regular file (or a pipe, if `pipe`) for reading; returns its descriptor.

    Raises OSError, also for folders, terminals and invalid names.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:
        # A NUL, or a lone surrogate.
        raise OSError(errno.EINVAL, "that is no name of a file", ascii(str(path))) from error
    mode = os.fstat(file).st_mode
    is_device = stat.S_ISCHR(mode) and not os.isatty(file)
    if stat.S_ISREG(mode) or (pipe and (stat.S_ISFIFO(mode) or is_device)):
        return file
    os.close(file)
    number, text = (errno.EISDIR, "it is a folder") if stat.S_ISDIR(mode) else (0, "it is no file")
    raise OSError(number or errno.EINVAL, text, str(path))


def _wait(file: int, path: Path) -> None:
    """Waits until a pipe is readable. Raises OSError (ETIMEDOUT)."""
    ready, _, _ = select.select([file], [], [], _PIPE_TIMEOUT_S)
    if not ready:
        raise OSError(errno.ETIMEDOUT, "nobody writes to that pipe", str(path))
