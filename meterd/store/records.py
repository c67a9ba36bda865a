"""Files of records that a crash cannot hurt: what is damaged ends a file and is never read.

    file    | magic, 8 bytes | record | record | …
    record  | bytes of the body, 4 | number, 8 | CRC-32 of both and the body, 4 | body |

Numbers rise by one within a file. `Halves` has two such files in one, written in turn:

    | generation 1: magic, number, CRC | records … | generation 2: … | records … |

The CRC of its records begins with their generation, so that none of an older one is read.
"""

import errno
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct

from meterd.errors import StoreError
from meterd.store import ownership
from meterd.store.identity import Inode, of_open

MOST_BYTES = 1 << 26  # of one body

_MAGIC = b"meterdR1"
_HEAD = Struct("<IQI")
_HALF = Struct("<8sQI")
_PAGE = 4096  # a half begins on a page, and so do its records
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ZEROS = 1 << 20


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turns what the file system says into StoreError: full or unavailable."""
    try:
        yield
    except OSError as error:
        code = "full" if error.errno in _FULL else "unavailable"
        advice = "make room on its disk" if code == "full" else "check its disk and its owner"
        raise StoreError(f"{path}: {error.strerror}; {advice}", code=code) from error


def sync_folder(folder: Path) -> None:
    """A new or renamed file's name is on the disk, too. Raises OSError."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def framed(number: int, body: bytes, seed: int = 0) -> bytes:
    """One record."""
    return _HEAD.pack(len(body), number, _check(number, body, seed)) + body


def _check(number: int, body: bytes, seed: int) -> int:
    crc = zlib.crc32(_HEAD.pack(len(body), number, 0), seed)
    return zlib.crc32(body, crc)


def _scan(file: int, start: int, end: int, seed: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset of the end, body) of each record up to the first damaged one."""
    expected: int | None = None
    while start + _HEAD.size <= end:
        head = os.pread(file, _HEAD.size, start)
        if len(head) < _HEAD.size:
            return
        size, number, check = _HEAD.unpack(head)
        stop = start + _HEAD.size + size
        if size > MOST_BYTES or stop > end or expected not in (None, number):
            return
        body = os.pread(file, size, start + _HEAD.size)
        if len(body) < size or _check(number, body, seed) != check:
            return
        yield number, stop, body
        start, expected = stop, number + 1


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


class Log:
    """Records one after another. To be used in one thread. Every method raises StoreError."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; what follows the last sound record is cut off."""
        self.path = path
        self.count = 0
        with mapped(path):
            self._file = ownership.make(path)
        try:
            with mapped(path):
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self._end, self._next = len(_MAGIC), 1
        self._is_new = os.pread(self._file, len(_MAGIC), 0) != _MAGIC
        if self._is_new:
            return  # nothing is written before the first record: the disk may be full
        for number, end, _ in _scan(self._file, self._end, os.fstat(self._file).st_size):
            self._end, self._next, self.count = end, number + 1, self.count + 1
        # A sound record after a damaged one must not follow the next that is written.
        os.ftruncate(self._file, self._end)

    @property
    def inode(self) -> Inode:
        """Of the file that is open, whatever its name means by now."""
        return of_open(self._file)

    @property
    def size(self) -> int:
        """Bytes of the file that are in use."""
        return self._end

    def append(self, body: bytes) -> None:
        """On the disk when it returns; where it raises, the record is not there."""
        record = framed(self._next, body)
        with mapped(self.path):
            if self._is_new:
                self._entitle()
            _write(self._file, record, self._end)
            os.fdatasync(self._file)
        self._end, self._next, self.count = self._end + len(record), self._next + 1, self.count + 1

    def _entitle(self) -> None:
        os.ftruncate(self._file, 0)
        _write(self._file, _MAGIC, 0)
        os.fdatasync(self._file)
        sync_folder(self.path.parent)
        self._is_new = False

    def bodies(self) -> Iterator[bytes]:
        """Oldest first."""
        with mapped(self.path):
            for _, _, body in _scan(self._file, len(_MAGIC), self._end):
                yield body

    def close(self) -> None:
        os.close(self._file)

    def remove(self) -> None:
        """Closes the file and deletes it."""
        self.close()
        with mapped(self.path):
            self.path.unlink(missing_ok=True)


class Halves:
    """A file of fixed size, whose blocks are all there before the first record is written.

    Records go into one half until `restart` begins the other; the half before stays as it was
    until then. To be used in one thread. Every method raises StoreError.
    """

    def __init__(self, path: Path, size: int) -> None:
        """`size` in bytes is that of a new file; one that exists keeps its own."""
        self.path = path
        with mapped(path):
            if not path.exists():
                _make(path, size // 2 // _PAGE * _PAGE * 2)
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with mapped(path):
                self._find()
        except BaseException:
            self.close()
            raise

    def _find(self) -> None:
        self._half, self._generation = _active(self._file)
        start = self._start(self._generation)
        self._end, self._next = start, 1
        for number, end, _ in _scan(self._file, start, self._stop(start), self._generation):
            self._end, self._next = end, number + 1

    @property
    def inode(self) -> Inode:
        """Of the file that is open, whatever its name means by now."""
        return of_open(self._file)

    def _start(self, generation: int) -> int:
        return generation % 2 * self._half + _PAGE

    def _stop(self, start: int) -> int:
        return start - _PAGE + self._half

    @property
    def used(self) -> float:
        """How full the half in use is, from 0 to 1."""
        start = self._start(self._generation)
        return (self._end - start) / (self._half - _PAGE)

    def bodies(self) -> Iterator[bytes]:
        """The records of the half in use, oldest first."""
        start = self._start(self._generation)
        with mapped(self.path):
            for _, _, body in _scan(self._file, start, self._end, self._generation):
                yield body

    def append(self, body: bytes) -> bool:
        """True once it is on the disk; false where it does not fit into this half."""
        record = framed(self._next, body, self._generation)
        if self._end + len(record) > self._stop(self._start(self._generation)):
            return False
        with mapped(self.path):
            _write(self._file, record, self._end)
            os.fdatasync(self._file)
        self._end, self._next = self._end + len(record), self._next + 1
        return True

    def restart(self, bodies: Iterable[bytes]) -> bool:
        """The other half with these records takes over, all of them or nothing at all.

        False where they do not fit; then all is as it was.
        """
        generation = self._generation + 1
        records = [framed(n, body, generation) for n, body in enumerate(bodies, 1)]
        data, start = b"".join(records), self._start(generation)
        if start + len(data) > self._stop(start):
            return False
        with mapped(self.path):
            _write(self._file, data, start)
            os.fdatasync(self._file)
            # The page that makes them count comes last.
            _write(self._file, _half_head(generation), start - _PAGE)
            os.fdatasync(self._file)
        self._generation, self._end, self._next = generation, start + len(data), len(records) + 1
        return True

    def close(self) -> None:
        os.close(self._file)


def read_halves(path: Path) -> list[bytes]:
    """The records of the half in use, for who does not write; none where there is no file.

    Raises StoreError.
    """
    with mapped(path):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            half, generation = _active(file)
            start = generation % 2 * half + _PAGE
            return [b for _, _, b in _scan(file, start, start - _PAGE + half, generation)]
        finally:
            os.close(file)


def _half_head(generation: int) -> bytes:
    check = zlib.crc32(_HALF.pack(_MAGIC, generation, 0))
    return _HALF.pack(_MAGIC, generation, check)


def _active(file: int) -> tuple[int, int]:
    """The size of a half, and the newest generation; 0 where both heads are damaged."""
    half = os.fstat(file).st_size // 2
    newest = 0
    for place in (0, half):
        head = os.pread(file, _HALF.size, place)
        if len(head) == _HALF.size:
            _, generation, _ = _HALF.unpack(head)
            if head == _half_head(generation):
                newest = max(newest, generation)
    return half, newest


def _make(path: Path, size: int) -> None:
    """Written, not only reserved: a block's first write would be two on most file systems."""
    part = path.with_name(f"{path.name}.part")
    file = ownership.make(part, os.O_RDWR | os.O_TRUNC)
    try:
        for offset in range(0, size, _ZEROS):
            _write(file, bytes(min(_ZEROS, size - offset)), offset)
        _write(file, _half_head(2), 0)
        os.fsync(file)
    finally:
        os.close(file)
    part.rename(path)
    sync_folder(path.parent)
