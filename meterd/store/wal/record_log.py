"""Record logs: append-only files of checksummed records; a torn or damaged record costs itself.

    file    | magic, 8 bytes | record | record | …       (records: scanner.py)

`AlternatingLog` has two such files in one, written in turn:

    | generation 1: heads | records … | generation 2: heads | records … |

    head    | magic, 8 | generation, 8 | CRC-32 of both, 4 |, three times in the first page

The CRC of its records begins with their generation, so that none of an older one is read.
"""

import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct

from meterd.errors import StoreCode, StoreError
from meterd.store.db import ownership
from meterd.store.db.durable_files import as_store_errors, fsync_folder
from meterd.store.db.file_identity import Inode, of_open
from meterd.store.wal.scanner import HEAD, DamagedRange, Record, encode_record, scan

_MAGIC = b"meterdR1"
_HALF = Struct("<8sQI")
_HEADS = (0, 1024, 2048)  # where they stand in their page: in sectors of their own
_FIRST = 2  # the generation of a new file
_PAGE = 4096  # a half begins on a page, and so do its records
_ZEROS = 1 << 20

_log = logging.getLogger(__name__)


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


class RecordLog:
    """Records one after another. To be used in one thread. Every method raises StoreError."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file; a torn record at its end is cut off."""
        self.path = path
        self.count = 0
        self.flaws: list[DamagedRange] = []
        with as_store_errors(path):
            self._file = ownership.make(path)
        try:
            with as_store_errors(path):
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        size = os.fstat(self._file).st_size
        self._end, self._next = len(_MAGIC), 1
        for item in read_open_log(self._file):
            if isinstance(item, DamagedRange):
                self.flaws.append(item)
            else:
                self.count += 1
            if not isinstance(item, DamagedRange) or item.first:
                self._end, self._next = _behind(item)
        self._is_new = not self.count and not self.flaws
        if self._is_new:
            return  # nothing is written before the first record: the disk may be full
        if any(not flaw.first for flaw in self.flaws):
            _write(self._file, _MAGIC, 0)
        if size > self._end:
            _log.info("%s: its last %d bytes were broken off", self.path, size - self._end)
        os.ftruncate(self._file, self._end)

    @property
    def inode(self) -> Inode:
        """Of the open file, which its name may not lead to any more."""
        return of_open(self._file)

    @property
    def size(self) -> int:
        """Bytes of the file that are in use."""
        return self._end

    def append(self, body: bytes) -> None:
        """On the disk when it returns; where it raises, the record is not there."""
        record = encode_record(self._next, body)
        with as_store_errors(self.path):
            if self._is_new:
                self._entitle()
            _write(self._file, record, self._end)
            os.fdatasync(self._file)
        self._end, self._next, self.count = self._end + len(record), self._next + 1, self.count + 1

    def _entitle(self) -> None:
        os.ftruncate(self._file, 0)
        _write(self._file, _MAGIC, 0)
        os.fdatasync(self._file)
        fsync_folder(self.path.parent)
        self._is_new = False

    def bodies(self) -> Iterator[bytes]:
        """Oldest first."""
        with as_store_errors(self.path):
            for item in scan(self._file, len(_MAGIC), self._end):
                if isinstance(item, Record):
                    yield item.body

    def close(self) -> None:
        os.close(self._file)

    def remove(self) -> None:
        """Closes the file and deletes it."""
        self.close()
        with as_store_errors(self.path):
            self.path.unlink(missing_ok=True)


def read_log(path: Path) -> list[Record | DamagedRange]:
    """The records of a log file, for readers. Raises StoreError."""
    with as_store_errors(path):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return list(read_open_log(file))
        finally:
            os.close(file)


def read_open_log(file: int) -> Iterator[Record | DamagedRange]:
    """The records of an open log. Raises OSError."""
    size = os.fstat(file).st_size
    head = os.pread(file, len(_MAGIC), 0)
    items = list(scan(file, len(_MAGIC), size))
    if head != _MAGIC and items:
        yield DamagedRange(0, 0, 0, len(head), head)
    elif size > len(_MAGIC) and head != _MAGIC:
        # Nothing of it can be read; a file that was only begun is shorter.
        yield DamagedRange(1, 1, 0, size, os.pread(file, size, 0))
    yield from items


def _behind(item: Record | DamagedRange) -> tuple[int, int]:
    """Offset and number of the next record."""
    if isinstance(item, DamagedRange):
        return item.stop, item.last + 1
    return item.end, item.number + 1


class AlternatingLog:
    """A file of fixed size, whose blocks are all there before the first record is written.

    Records go into one half until `restart` begins the other; the half before stays as it was
    until then. To be used in one thread. Every method raises StoreError.
    """

    def __init__(self, path: Path, size: int) -> None:
        """`size` in bytes is that of a new file; one that exists keeps its own."""
        self.path = path
        with as_store_errors(path):
            if not path.exists():
                _make(path, size // 2 // _PAGE * _PAGE * 2)
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with as_store_errors(path):
                self._find()
        except BaseException:
            self.close()
            raise

    def _find(self) -> None:
        self._half, self._generation, heads = _active(self._file)
        start = self._start(self._generation)
        self._end, self._next = start, 1
        self._items = [*heads, *self._of(self._generation)]
        for item in self._items[len(heads) :]:
            self._end, self._next = _behind(item)
        if heads:
            _write(self._file, _heads(self._generation), start - _PAGE)
            os.fdatasync(self._file)

    def _of(self, generation: int) -> Iterator[Record | DamagedRange]:
        start = self._start(generation)
        return scan(self._file, start, self._stop(start), generation)

    @property
    def inode(self) -> Inode:
        """Of the open file, which its name may not lead to any more."""
        return of_open(self._file)

    @property
    def generation(self) -> int:
        """Of the half in use: one more with each `restart`."""
        return self._generation

    def _start(self, generation: int) -> int:
        return generation % 2 * self._half + _PAGE

    def _stop(self, start: int) -> int:
        return start - _PAGE + self._half

    @property
    def used(self) -> float:
        """How full the half in use is, from 0 to 1."""
        start = self._start(self._generation)
        return (self._end - start) / (self._half - _PAGE)

    def found(self) -> Sequence[Record | DamagedRange]:
        """The records that the half in use held when the file was opened, oldest first."""
        return self._items

    def bodies(self) -> Iterator[bytes]:
        """The records of the half in use, oldest first."""
        start = self._start(self._generation)
        with as_store_errors(self.path):
            for item in scan(self._file, start, self._end, self._generation):
                if isinstance(item, Record):
                    yield item.body

    def append(self, body: bytes) -> bool:
        """True once the record is on the disk; False where it does not fit into this half."""
        record = encode_record(self._next, body, self._generation)
        if self._end + len(record) > self._stop(self._start(self._generation)):
            return False
        with as_store_errors(self.path):
            _write(self._file, record, self._end)
            os.fdatasync(self._file)
        self._end, self._next = self._end + len(record), self._next + 1
        return True

    def restart(self, bodies: Iterable[bytes]) -> bool:
        """The other half with these records takes over, all of them or nothing at all.

        False where they do not fit; then all is as it was.
        """
        generation = self._generation + 1
        with as_store_errors(self.path):
            self._clear(generation)
        records = [encode_record(n, body, generation) for n, body in enumerate(bodies, 1)]
        data, start = b"".join(records), self._start(generation)
        if start + len(data) > self._stop(start):
            return False
        with as_store_errors(self.path):
            _write(self._file, data, start)
            os.fdatasync(self._file)
            # The page that makes them count comes last.
            _write(self._file, _heads(generation), start - _PAGE)
            os.fdatasync(self._file)
        self._generation, self._end, self._next = generation, start + len(data), len(records) + 1
        return True

    def _clear(self, generation: int) -> None:
        """Overwrites the records that an interrupted restart left in this half."""
        start = self._start(generation)
        if not any(os.pread(self._file, _PAGE, start - _PAGE)):
            # A meterd of before left it empty until the first restart.
            _write(self._file, _heads(generation - 2), start - _PAGE)
            os.fdatasync(self._file)
        left = [item for item in self._of(generation) if isinstance(item, Record)]
        for item in left:
            _write(self._file, bytes(HEAD.size), item.end - len(item.body) - HEAD.size)
        if left:
            os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_halves(path: Path) -> list[Record | DamagedRange]:
    """The records of the half in use, for readers; empty where there is no file.

    Raises StoreError.
    """
    with as_store_errors(path):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            half, generation, heads = _active(file)
            start = generation % 2 * half + _PAGE
            return [*heads, *scan(file, start, start - _PAGE + half, generation)]
        finally:
            os.close(file)


def generation_of(path: Path) -> int | None:
    """The generation of the half in use, for readers; None where there is no file.

    Raises StoreError, corrupt where both of its heads are damaged.
    """
    with as_store_errors(path):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _active(file)[1]
        finally:
            os.close(file)


def _head(generation: int) -> bytes:
    check = zlib.crc32(_HALF.pack(_MAGIC, generation, 0))
    return _HALF.pack(_MAGIC, generation, check)


def _heads(generation: int) -> bytes:
    """The page, as far as something is in it."""
    page = bytearray(_HEADS[-1] + _HALF.size)
    for at in _HEADS:
        page[at : at + _HALF.size] = _head(generation)
    return bytes(page)


def _active(file: int) -> tuple[int, int, list[DamagedRange]]:
    """The size of a half, the newest generation, and which of its heads are damaged.

    Raises StoreError (corrupt) where there is no generation.
    """
    half = os.fstat(file).st_size // 2
    (even, even_flaws), (odd, odd_flaws) = (_page(file, half, number) for number in (0, 1))
    # Neither page is ever zeros: what is broken off leaves an older generation in it.
    if not even and (odd or not odd_flaws):
        even = _without_head(file, half, max(odd, _FIRST - 1) + 1)
        even_flaws = even_flaws or _nothing(0)
    elif not odd and even:
        odd = _without_head(file, half, even + 1)
        odd_flaws = odd_flaws or _nothing(half)
    if not (even or odd):
        raise StoreError("both of its heads are damaged", code=StoreCode.CORRUPT)
    return half, max(even, odd), even_flaws if even > odd else odd_flaws


def _nothing(place: int) -> list[DamagedRange]:
    """A head of zeros."""
    return [DamagedRange(0, 0, place, place + _HALF.size, bytes(_HALF.size))]


def _page(file: int, half: int, number: int) -> tuple[int, list[DamagedRange]]:
    """The generation that a half's heads say, 0 where none can be read; and the damaged ones."""
    newest, flaws = 0, []
    for at in _HEADS:
        place = number * half + at
        head = os.pread(file, _HALF.size, place)
        generation = _generation(head, number)
        newest = max(newest, generation)
        # A meterd of before wrote the first one alone.
        if head != _head(generation) and any(head):
            flaws.append(DamagedRange(0, 0, place, place + len(head), head))
    return newest, flaws


def _generation(head: bytes, number: int) -> int:
    """The generation in this half's header, also where one bit of it is wrong; else 0."""
    if len(head) < _HALF.size:
        return 0
    as_it_is = int.from_bytes(head, "little")
    for flip in (0, *(1 << bit for bit in range(8 * len(head)))):
        maybe = (as_it_is ^ flip).to_bytes(len(head), "little")
        _, generation, _ = _HALF.unpack(maybe)
        if generation % 2 == number and maybe == _head(generation):
            return int(generation)
    return 0


def _without_head(file: int, half: int, generation: int) -> int:
    """The generation, if the other half has records of it; else 0."""
    start = generation % 2 * half + _PAGE
    items = scan(file, start, start - _PAGE + half, generation)
    return generation if any(isinstance(item, Record) for item in items) else 0


def _make(path: Path, size: int) -> None:
    """Written, not only reserved: a block's first write would be two on most file systems."""
    part = path.with_name(f"{path.name}.part")
    file = ownership.make(part, os.O_RDWR | os.O_TRUNC)
    try:
        for offset in range(0, size, _ZEROS):
            _write(file, bytes(min(_ZEROS, size - offset)), offset)
        _write(file, _heads(_FIRST), 0)
        _write(file, _heads(_FIRST - 1), size // 2)
        os.fsync(file)
    finally:
        os.close(file)
    part.rename(path)
    fsync_folder(path.parent)
