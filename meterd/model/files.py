"""Files that people name: they are read no further than what is expected of them is long."""

import errno
import os
import select
import stat
from pathlib import Path

# Seconds that a pipe may be silent: nobody may ever write to it.
_PATIENCE = 10.0
_PIECE = 1 << 16


def read(path: Path, most: int, *, pipe: bool = True) -> bytes:
    """All of a file. Raises OSError, with `strerror` set, for whatever keeps it from being read.

    Terminals are refused; so are, unless `pipe`, pipes and devices, of which some have no end.
    """
    file = open_regular(path, pipe=pipe)
    try:
        is_pipe = not stat.S_ISREG(os.fstat(file).st_mode)
        data = bytearray()
        while True:
            if is_pipe:
                _wait(file, path)
            piece = os.read(file, _PIECE)
            if not piece:
                return bytes(data)
            data += piece
            if len(data) > most:
                text = f"it is larger than {most >> 10} KiB: is it the right file?"
                raise OSError(errno.EFBIG, text, str(path))
    finally:
        os.close(file)


def read_text(path: Path, most: int) -> str:
    """The same as text. Raises OSError; UnicodeDecodeError where it is no UTF-8."""
    return read(path, most).decode("utf-8")


def open_regular(path: Path, *, pipe: bool = False) -> int:
    """A descriptor for reading. Raises OSError where it is no file, too."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:
        # A NUL, or a character that no file's name has.
        raise OSError(errno.EINVAL, "that is no name of a file", ascii(str(path))) from error
    mode = os.fstat(file).st_mode
    is_device = stat.S_ISCHR(mode) and not os.isatty(file)
    if stat.S_ISREG(mode) or (pipe and (stat.S_ISFIFO(mode) or is_device)):
        return file
    os.close(file)
    number, text = (errno.EISDIR, "it is a folder") if stat.S_ISDIR(mode) else (0, "it is no file")
    raise OSError(number or errno.EINVAL, text, str(path))


def _wait(file: int, path: Path) -> None:
    """For whoever writes to a pipe."""
    ready, _, _ = select.select([file], [], [], _PATIENCE)
    if not ready:
        raise OSError(errno.ETIMEDOUT, "nobody writes to that pipe", str(path))
