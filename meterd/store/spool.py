"""Polls in files of their own while the store cannot take them, oldest first.

Each record names its devices and series, since the store may not have given them numbers yet:

    | bytes of the names, 4 | names, JSON deflated | polls, as in a journal row |

A spool is several files, `NAME-000001` and so on: the oldest goes whole, when its polls are in
the store or when there is no room.
"""

import json
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from meterd.errors import StoreError
from meterd.model.sample import Poll
from meterd.store.catalog import Catalog
from meterd.store.format import journal
from meterd.store.format.columns import merge
from meterd.store.hot import Stretch
from meterd.store.polls import Polls
from meterd.store.records import Log, mapped

_PARTS = 8
_LENGTH = 4


def pack(batch: Sequence[Stretch]) -> bytes:
    """One record of these polls."""
    local = Catalog()
    spans: dict[str, list[Any]] = {}
    for stretch in batch:
        owner = local.device(stretch.device)
        spans.setdefault(stretch.device, []).extend(
            # A stretch remembers the numbers that the store gave; here they are others.
            span
            for span in stretch.unnumbered().spans(owner, local.one)
            if span.times
        )
    body = journal.encode([merge(some) for some in spans.values() if some])
    samples = sum(stretch.samples for stretch in batch)
    names = {
        "samples": samples,
        "devices": [local.names[number + 1] for number in range(len(local.names))],
        "series": [local.by_id[number + 1].name for number in range(len(local.by_id))],
    }
    told = zlib.compress(json.dumps(names).encode())
    return len(told).to_bytes(_LENGTH, "little") + told + body


def unpack(record: bytes) -> Iterator[Poll]:
    """The polls of a record. Raises StoreError (corrupt)."""
    names, body = _names(record)
    devices, series = dict(enumerate(names.devices, 1)), dict(enumerate(names.series, 1))
    polls = Polls(series.__getitem__)
    for span in journal.decode(body):
        if span.device not in devices or any(one.series not in series for one in span.columns):
            text = "a record of the spool has polls of what it does not name"
            raise StoreError(text, code="corrupt")
        yield from polls.of(span, devices[span.device])


class _Names(NamedTuple):
    samples: int
    devices: list[str]
    series: list[tuple[str, str, str]]


def _names(record: bytes) -> tuple[_Names, bytes]:
    end = _LENGTH + int.from_bytes(record[:_LENGTH], "little")
    try:
        told = json.loads(zlib.decompress(record[_LENGTH:end]))
        series = [(str(device), str(name), str(unit)) for device, name, unit in told["series"]]
        names = _Names(int(told["samples"]), [str(one) for one in told["devices"]], series)
    except (LookupError, TypeError, ValueError, zlib.error) as error:
        raise StoreError(f"a record of the spool is damaged: {error}", code="corrupt") from error
    return names, record[end:]


def _samples(record: bytes) -> int:
    """One that cannot be read is left out when its turn comes."""
    try:
        return _names(record)[0].samples
    except StoreError:
        return 0


@dataclass(slots=True)
class _Part:
    path: Path
    samples: int
    size: int


def _found(path: Path) -> _Part:
    log = Log(path)
    try:
        return _Part(path, sum(_samples(body) for body in log.bodies()), log.size)
    finally:
        log.close()


class Spool:
    """To be used in the writer's thread. Its methods raise StoreError where files fail."""

    def __init__(self, path: Path, size: int) -> None:
        """`path` is the beginning of its files' names, `size` the most bytes of them all."""
        self.path = self._path = path
        self._size = size
        self._log: Log | None = None  # the newest part, while it is written
        self._parts: list[_Part] = []
        self._reading: deque[bytes] | None = None  # what is left of the oldest part

    def limit(self, size: int) -> None:
        """The most bytes from now on; what is too much goes with the next record."""
        self._size = size

    def open(self) -> None:
        """Finds what an earlier meterd has left; one file that fails is told after the others."""
        named = re.compile(re.escape(self._path.name) + r"-\d{6,}")
        with mapped(self._path):
            found = sorted(p for p in self._path.parent.iterdir() if named.fullmatch(p.name))
        failed: StoreError | None = None
        for path in found:
            try:
                self._parts.append(_found(path))
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    @property
    def samples(self) -> int:
        return sum(part.samples for part in self._parts)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, batch: Sequence[Stretch]) -> int:
        """On the disk when it returns; returns how many older samples went to make room."""
        record = pack(batch)
        dropped = 0
        while self._parts and sum(part.size for part in self._parts) + len(record) > self._size:
            dropped += self._parts[0].samples
            self._drop_first()
        log = self._log
        if log is None or log.size + len(record) > self._size // _PARTS:
            log = self._begin()
        log.append(record)
        self._parts[-1].size = log.size
        self._parts[-1].samples += sum(stretch.samples for stretch in batch)
        return dropped

    def _begin(self) -> Log:
        self._close_log()
        last = int(self._parts[-1].path.name.rpartition("-")[2]) if self._parts else 0
        path = self._path.with_name(f"{self._path.name}-{last + 1:06}")
        log = self._log = Log(path)
        self._parts.append(_Part(path, 0, log.size))
        return log

    def oldest(self) -> bytes | None:
        """The oldest record; it stays until `done`."""
        while self._parts:
            if self._reading is None:
                self._reading = self._read_first()
            if self._reading:
                return self._reading[0]
            self._drop_first()
        return None

    def done(self, samples: int) -> None:
        """The oldest record is in the store; a crash now would only bring it there twice."""
        if self._reading:
            self._reading.popleft()
            self._parts[0].samples -= samples
            if not self._reading:
                self._drop_first()

    def _read_first(self) -> "deque[bytes]":
        if len(self._parts) == 1:
            # What comes meanwhile goes to another part.
            self._close_log()
        log = Log(self._parts[0].path)
        try:
            return deque(log.bodies())
        finally:
            log.close()

    def _drop_first(self) -> None:
        if len(self._parts) == 1:
            self._close_log()
        with mapped(self._path):
            self._parts[0].path.unlink(missing_ok=True)
        del self._parts[0]
        self._reading = None

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    close = _close_log
