"""The spool: record logs with polls that the database cannot take now, oldest first.

Each record names its devices and series, since the store may not have given them numbers yet:

    | bytes of the names, 4 | names, JSON deflated | polls, as in a WAL row |

A spool is several files, `NAME-000001` and so on: the oldest goes whole, when its polls are in
the store or when there is no room. Each is locked by the meterd that has it, so that two of one
folder do not meet.
"""

import errno
import fcntl
import json
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Poll
from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import merge
from meterd.store.db import file_identity
from meterd.store.db.durable_files import as_store_errors, fsync_folder
from meterd.store.db.quarantine import DamageError
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import SeriesBatch
from meterd.store.head.replay import PollDecoder
from meterd.store.wal.record_log import RecordLog, read_open_log
from meterd.store.wal.scanner import DamagedRange, Record

_PARTS = 8
_LENGTH = 4

Lost = Callable[[DamageError, bytes | None], None]
"""Is told what cannot be read, and its bytes; None where nothing is lost by it."""


def pack(batches: Sequence[SeriesBatch]) -> bytes:
    """One record of these polls."""
    local = Catalog()
    chunks: dict[str, list[Any]] = {}
    for batch in batches:
        owner = local.device(batch.device)
        chunks.setdefault(batch.device, []).extend(
            # A batch remembers the numbers that the store gave; here they are others.
            chunk
            for chunk in batch.unnumbered().chunks(owner, local.series_id)
            if chunk.times
        )
    body = commit_record.encode([merge(some) for some in chunks.values() if some])
    mine = extent_of(batches)
    names = {
        "samples": mine.samples,
        "first": mine.first,
        "last": mine.last,
        "devices": [local.names[number + 1] for number in range(len(local.names))],
        "series": [local.by_id[number + 1].name for number in range(len(local.by_id))],
    }
    header = zlib.compress(json.dumps(names).encode())
    return len(header).to_bytes(_LENGTH, "little") + header + body


def unpack(record: bytes) -> Iterator[Poll]:
    """The polls of a record. Raises StoreError (corrupt)."""
    names, body = _names(record)
    devices, series = dict(enumerate(names.devices, 1)), dict(enumerate(names.series, 1))
    polls = PollDecoder(series.__getitem__)
    for chunk in commit_record.decode(body):
        if chunk.device not in devices or any(
            column.series not in series for column in chunk.columns
        ):
            text = "a record of the spool has polls of what it does not name"
            raise StoreError(text, code=StoreCode.CORRUPT)
        yield from polls.of(chunk, devices[chunk.device])


class _SpoolNames(NamedTuple):
    extent: "SpoolExtent"
    devices: list[str]
    series: list[tuple[str, str, str]]


def _names(record: bytes) -> tuple[_SpoolNames, bytes]:
    end = _LENGTH + int.from_bytes(record[:_LENGTH], "little")
    try:
        header = json.loads(zlib.decompress(record[_LENGTH:end]))
        series = [(str(device), str(name), str(unit)) for device, name, unit in header["series"]]
        devices = [str(name_) for name_ in header["devices"]]
        # Records of an earlier meterd do not say their times.
        first, last = (None if header.get(n) is None else int(header[n]) for n in ("first", "last"))
        extent = SpoolExtent(int(header["samples"]), frozenset(devices), first, last)
        names = _SpoolNames(extent, devices, series)
    except (LookupError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise StoreError(
            f"a record of the spool is damaged: {error}", code=StoreCode.CORRUPT
        ) from error
    return names, record[end:]


@dataclass(frozen=True, slots=True)
class SpoolExtent:
    """Samples that are lost: how many, of which devices, from and to which time (Unix ms)."""

    samples: int = 0
    devices: frozenset[str] = frozenset()
    first: int | None = None
    last: int | None = None

    def __add__(self, other: "SpoolExtent") -> "SpoolExtent":
        firsts = [extent.first for extent in (self, other) if extent.first is not None]
        lasts = [extent.last for extent in (self, other) if extent.last is not None]
        return SpoolExtent(
            self.samples + other.samples,
            self.devices | other.devices,
            min(firsts, default=None),
            max(lasts, default=None),
        )

    def __bool__(self) -> bool:
        return self.samples > 0


def extent_of(batches: Sequence[SeriesBatch]) -> SpoolExtent:
    """Of what waits in memory."""
    times = [time for batch in batches for time in batch.times]
    return SpoolExtent(
        sum(batch.samples for batch in batches),
        frozenset(batch.device for batch in batches),
        min(times, default=None),
        max(times, default=None),
    )


def _extent(record: bytes) -> SpoolExtent:
    """The extent of a record; an empty one where it cannot be read, which is reported when it is
    due.
    """
    try:
        return _names(record)[0].extent
    except StoreError:
        return SpoolExtent()


@dataclass(slots=True)
class _Part:
    path: Path
    samples: int
    size: int
    extent: SpoolExtent  # of all that was ever put into it
    keys: list[int] = field(default_factory=list)  # of its records
    flaws: list[DamagedRange] = field(default_factory=list)
    held: int | None = None  # the file that is locked

    @property
    def change(self) -> str:
        """What became of the file of that name, as text; "" where it is the same."""
        return (
            ""
            if self.held is None
            else file_identity.changed(self.path, file_identity.of_open(self.held))
        )

    def release(self) -> None:
        if self.held is not None:
            os.close(self.held)
            self.held = None


def _locked(path: Path) -> int | None:
    """The open file, locked until it is closed; None where another meterd has it. Raises
    StoreError.
    """
    with as_store_errors(path):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        return file


def _open_part(path: Path) -> _Part | None:
    held = _locked(path)
    if held is None:
        return None
    try:
        log = RecordLog(path)
        try:
            part = _Part(path, 0, log.size, SpoolExtent(), flaws=log.flaws, held=held)
            for body in log.bodies():
                part.extent += _extent(body)
                part.keys.append(_key(body))
            part.samples = part.extent.samples
            return part
        finally:
            log.close()
    except BaseException:
        os.close(held)
        raise


def _key(record: bytes) -> int:
    """Identifies a record."""
    return len(record) << 32 | zlib.crc32(record)


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def files(path: Path) -> list[Path]:
    """The files of a spool whose names begin like this, oldest first. Raises StoreError."""
    named = re.compile(re.escape(path.name) + r"-\d{6,}")
    with as_store_errors(path):
        return sorted(p for p in path.parent.iterdir() if named.fullmatch(p.name))


class Spool:
    """To be used in the store's thread. Its methods raise StoreError where files fail."""

    def __init__(
        self,
        path: Path,
        size: int,
        lost: Lost = lambda *_: None,
        gone: Callable[[int], None] = lambda _: None,
        also: Sequence[Path] = (),
        renewed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`path` is the beginning of its files' names, `size` the most bytes of them all.

        `also` are beginnings of names of which there may be files, too.
        `lost` is told of each record that cannot be read; `gone` of each that is in the store
        now, or was dropped, by its key; `renewed` of each file that was deleted or replaced.
        """
        self._gone = gone
        self._renewed = renewed
        self._also = also
        self.path = self._path = path
        self._size = size
        self._lost = lost
        self._told: set[tuple[str, int]] = set()  # which of those
        self._disk: int | None = None  # of its folder, once it is open
        self._log: RecordLog | None = None  # the newest part, while it is written
        self._parts: list[_Part] = []
        self._reading: deque[bytes] | None = None  # what is left of the oldest part

    def limit(self, size: int) -> None:
        """Sets the size limit in bytes; the next record drops the oldest ones beyond it."""
        self._size = size

    def open(self) -> None:
        """Finds the files of an earlier run; the error of one is raised after the others
        are open.
        """
        failed: StoreError | None = None
        self._disk = file_identity.disk(self._path.parent)
        for path in (path for begin in (*self._also, self._path) for path in files(begin)):
            try:
                part = _open_part(path)
                if part is not None:
                    self._parts.append(part)
                    self._report_damage(path, part.flaws)
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    @property
    def samples(self) -> int:
        return sum(part.samples for part in self._parts)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, batches: Sequence[SeriesBatch]) -> tuple[SpoolExtent, int]:
        """On the disk when it returns.

        Returns what older samples went to make room, and the record's key.
        """
        record = pack(batches)
        self.look()
        dropped = SpoolExtent()
        while self._parts and sum(part.size for part in self._parts) + len(record) > self._size:
            dropped += replace(self._parts[0].extent, samples=self._parts[0].samples)
            self._drop_first()
        log = self._log
        if log is None or log.size + len(record) > self._size // _PARTS:
            log = self._begin()
        log.append(record)
        mine, newest = extent_of(batches), self._parts[-1]
        newest.size = log.size
        newest.samples += mine.samples
        newest.extent += mine
        newest.keys.append(_key(record))
        self.look()
        return dropped, newest.keys[-1]

    def look(self) -> bool:
        """Whether a file was deleted or replaced; its records are written to another one then."""
        if self._disk is not None and file_identity.disk(self._path.parent) != self._disk:
            flaw = f"{self._path.parent} is on another disk than at the start"
            raise StoreError(flaw, code=StoreCode.UNAVAILABLE)
        gone = [(part, held) for part in self._parts if part.change and (held := part.held)]
        for part, held in gone:
            self._renew(part, held)
        return bool(gone)

    def _renew(self, part: _Part, open_file: int) -> None:
        """As long as a file is open it can be read, whatever its name means."""
        if part is self._parts[-1]:
            self._close_log()
        change = part.change
        self._copy(part, open_file)
        self._renewed(f"{change} while meterd runs: what it held is in {part.path} now")

    def _copy(self, part: _Part, open_file: int) -> None:
        """Copies its records to another file. Where it raises, nothing has changed."""
        log, held = self._unused()
        try:
            with as_store_errors(part.path):
                for item in read_open_log(open_file):
                    if isinstance(item, Record):
                        log.append(item.body)
        except StoreError:
            os.close(held)
            log.remove()
            raise
        log.close()
        part.release()
        part.path, part.held, part.size = log.path, held, log.size

    def adopt(self, others: Iterable[Path]) -> dict[Path, StoreError]:
        """Files of another spool, oldest first, which lie beside its own from now on.

        Returns which could not be moved, and why: they are read where they are as long as this
        process runs, unless they cannot even be read; then they stay what they are.
        """
        failed: dict[Path, StoreError] = {}
        ours = {part.path for part in self._parts}
        adopted: list[_Part] = []
        for path in others:
            try:
                if path in ours or (part := _open_part(path)) is None:
                    continue
                self._report_damage(path, part.flaws)
                adopted.append(part)
                self._move(part)
            except StoreError as error:
                failed[path] = error
        # Behind the one that is being read, before the one that is written.
        at = 0 if self._reading is None else 1
        self._parts[at:at] = adopted
        return failed

    def _move(self, part: _Part) -> None:
        was = part.path
        log, held = self._unused()
        log.close()
        with as_store_errors(was):
            try:
                part.path = was.rename(log.path)
            except OSError:
                log.path.unlink(missing_ok=True)
            finally:
                os.close(held)
            if part.path != was:
                fsync_folder(part.path.parent)
            elif part.held is not None:
                # It is on another disk.
                self._copy(part, part.held)
                was.unlink()

    def give_up(self) -> list[Path]:
        """Closes it; its files, oldest first, also those that were never looked for."""
        ours = [part.path for part in self._parts]
        try:
            named = [path for begin in (*self._also, self._path) for path in files(begin)]
        except StoreError:
            named = []
        self.close()
        return [*(path for path in named if path not in ours), *ours]

    def _report_damage(self, path: Path, flaws: Sequence[DamagedRange]) -> None:
        for flaw in flaws:
            if (path.name, flaw.start) in self._told:
                continue
            self._told.add((path.name, flaw.start))
            key = f"{path.name.rpartition('-')[2]}-{flaw.first or 'head'}"
            self._lost(
                DamageError("spool", key, f"{path.name}: {flaw}"), flaw.raw if flaw.first else None
            )

    def _begin(self) -> RecordLog:
        self._close_log()
        self._log, held = self._unused()
        self._parts.append(_Part(self._log.path, 0, self._log.size, SpoolExtent(), held=held))
        return self._log

    def _unused(self) -> tuple[RecordLog, int]:
        """A new file, and its lock."""
        used = {*files(self._path), *(part.path for part in self._parts)}
        number, held = max((_number(path) for path in used), default=0), None
        while held is None:
            number += 1
            path = self._path.with_name(f"{self._path.name}-{number:06}")
            log = RecordLog(path)
            held = _locked(path)
            if held is None:
                log.close()  # another meterd was quicker
        return log, held

    def oldest(self) -> bytes | None:
        """The oldest record; it stays until `done`."""
        while self._parts:
            if self._reading is None:
                self._reading = self._read_first()
            if self._reading:
                return self._reading[0]
            self._drop_first()
        return None

    def done(self, record: bytes) -> None:
        """The oldest record is in the store; a crash now would only bring it there twice."""
        if self._reading and self._reading[0] is record:
            self._reading.popleft()
            self._gone(_key(record))
            self._parts[0].samples -= _extent(record).samples
            if not self._reading:
                self._drop_first()

    def _read_first(self) -> "deque[bytes]":
        self.look()
        if len(self._parts) == 1:
            # What comes meanwhile goes to another part.
            self._close_log()
        log = RecordLog(self._parts[0].path)
        try:
            self._report_damage(log.path, log.flaws)
            return deque(log.bodies())
        finally:
            log.close()

    def _drop_first(self) -> None:
        if len(self._parts) == 1:
            self._close_log()
        if not self._parts[0].change:
            with as_store_errors(self._path):
                self._parts[0].path.unlink(missing_ok=True)
        for key in self._parts[0].keys:
            self._gone(key)
        self._parts[0].release()
        del self._parts[0]
        self._reading = None

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def close(self) -> None:
        """Its files are anybody's, then."""
        self._close_log()
        for part in self._parts:
            part.release()
        self._parts, self._reading = [], None
