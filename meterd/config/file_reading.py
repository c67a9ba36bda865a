"""Reads the configuration file: size limit, UTF-8 decoding, characters that YAML allows."""

import codecs
import errno
import re
from pathlib import Path

from meterd.config.codes import Code
from meterd.config.problems import START, FilePosition, Problems
from meterd.model import files

# Bytes. A thousand devices take 200 KiB; parsing takes five seconds per MiB.
MAX_BYTES = 1_048_576
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TEXT_HINT = "save it as plain text in UTF-8"


def read(path: Path, problems: Problems) -> str:
    """The file's text. Raises ConfigError where it cannot be read, is too large or no UTF-8."""
    try:
        data = files.read(path, MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            return decode(bytes(MAX_BYTES + 1), problems)
        reason = getattr(error, "strerror", None) or str(error)
        hint = "name another with -c FILE, or look at its path and permissions"
        problems.add(Code.UNREADABLE, START, f"the file cannot be read: {reason}", hint)
        raise problems.error() from error
    return decode(data, problems)


def decode(data: bytes, problems: Problems) -> str:
    """The bytes as text, without a BOM. Raises ConfigError where they are too many or no UTF-8."""
    if len(data) > MAX_BYTES:
        what = f"the file is larger than {MAX_BYTES // 1024} KiB"
        problems.add(
            Code.TOO_LARGE, START, what, "no configuration needs that much: is it the right file?"
        )
        raise problems.error()
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        what = (
            "the file is UTF-16" if is_utf16 else f"the byte 0x{data[error.start]:02x} is not UTF-8"
        )
        before = data[: error.start].decode("utf-8")
        problems.add(Code.NO_TEXT, position_after(before), what, _TEXT_HINT)
        raise problems.error() from error


def check_printable(text: str, problems: Problems) -> None:
    """Raise ConfigError where the text has a character that YAML does not allow."""
    if match := _UNPRINTABLE.search(text):
        what = f"the character U+{ord(match[0]):04X} is not allowed: is this a text file?"
        problems.add(Code.NO_TEXT, position_after(text[: match.start()]), what, _TEXT_HINT)
        raise problems.error()


def position_after(text: str) -> FilePosition:
    """The position of what follows this text."""
    return FilePosition(text.count("\n") + 1, len(text) - text.rfind("\n"))
