"""Every sample of a window as text, in small pieces: a day of one device is in memory at a time."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from itertools import groupby, islice
from math import isnan
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from meterd.model.sample import Quality
from meterd.store.blocks.chunk import NOT_FINITE
from meterd.store.blocks.quality_codes import GOOD, QUALITIES
from meterd.store.blocks.slicing import DAY, since, until
from meterd.store.db.plain_rows import cells
from meterd.store.head.catalog import Name
from meterd.store.query.day_reader import DaySamples
from meterd.store.query.range_query import SeriesInfo

if TYPE_CHECKING:
    from meterd.store.reader import Reader

COLUMNS = ("time", "device", "quantity", "unit", "value", "quality", "reason")
# Lines in one piece of text: about 64 KiB.
_PIECE = 700
# Samples that are in memory at a time, about; and the series of a day that are looked at first.
_AT_ONCE = 200_000
_FIRST = 2
# Without a zone, isoformat writes none: five times as fast as strftime.
_START = datetime(1970, 1, 1)  # noqa: DTZ001 (see above)
_MS = timedelta(milliseconds=1)
_WORDS: dict[int, str] = {number: quality.value for quality, number in QUALITIES.items()}
_INVALID = Quality.INVALID.value


class ExportedSample(NamedTuple):
    """One sample: Unix ms, canonical unit; `value` None is a null."""

    time: int
    device: str
    quantity: str
    unit: str
    value: float | None
    quality: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A window start <= time < end in Unix ms; None asks for all names."""

    devices: frozenset[str] | None
    quantities: frozenset[str] | None
    start: int
    end: int

    def has(self, info: SeriesInfo) -> bool:
        return (
            (self.devices is None or info.device in self.devices)
            and (self.quantities is None or info.quantity in self.quantities)
            and info.first < self.end
            and info.last >= self.start
        )


Text: TypeAlias = Callable[[Iterable[ExportedSample]], Iterator[str]]
OnLoad: TypeAlias = Callable[[DaySamples | None], None]
"""Is given the samples that an export holds in memory from now on, in place of those before."""


def _unwatched(_: DaySamples | None) -> None:
    """The default of `on_load`: does nothing."""


def series(reader: "Reader", wanted: Wanted) -> list[SeriesInfo]:
    """The series that may have samples there. To be called in a thread. Raises StoreError."""
    return [info for info in reader.names() if wanted.has(info)]


def lines(
    reader: "Reader", wanted: Wanted, on_load: OnLoad = _unwatched
) -> Iterator[ExportedSample]:
    """Samples by device, day, series and time. Lazy: any step may raise StoreError."""
    infos = series(reader, wanted)
    for device, of_device in groupby(infos, key=lambda info: info.device):
        yield from of_series(reader, device, list(of_device), wanted, on_load)


def of_series(
    reader: "Reader",
    device: str,
    infos: Sequence[SeriesInfo],
    wanted: Wanted,
    on_load: OnLoad = _unwatched,
) -> Iterator[ExportedSample]:
    """Of some series of one device, day by day."""
    first = max(wanted.start, min(info.first for info in infos))
    last = min(wanted.end - 1, max(info.last for info in infos))
    names = reader.ordered([(series.device, series.quantity, series.unit) for series in infos])
    for day in range(first // DAY, last // DAY + 1):
        yield from _of_day(reader, device, day, names, wanted, on_load)


def _of_day(
    reader: "Reader",
    device: str,
    day: int,
    names: Sequence[Name],
    wanted: Wanted,
    on_load: OnLoad,
) -> Iterator[ExportedSample]:
    """Some series at a time: a client that is slow to take them holds no whole day in memory."""
    at, width = 0, _FIRST
    while at < len(names):
        some = names[at : at + width]
        at += width
        samples = reader.day(device, day, frozenset(some))
        on_load(samples)
        if samples is None:
            width *= 2
            continue
        chunk = since(until(samples.chunk, wanted.end), wanted.start)
        width = max(1, _AT_ONCE // max(1, len(samples.chunk.times)))
        for column in chunk.columns:
            name = samples.names[column.series]
            for time, value, quality, reason in cells(chunk, column):
                if isnan(value):
                    yield ExportedSample(time, *name, None, *_null(quality, reason))
                else:
                    yield ExportedSample(time, *name, value, _WORDS.get(quality, _INVALID), reason)


def _null(quality: int, reason: str) -> tuple[str, str]:
    """Quality and reason of a null; stores of older versions may call it good."""
    if quality == GOOD:
        return _INVALID, reason or NOT_FINITE
    return _WORDS.get(quality, _INVALID), reason


def rfc3339(ms: int) -> str:
    """Unix ms as `2026-11-21T10:00:00.000Z`."""
    return (_START + ms * _MS).isoformat(timespec="milliseconds") + "Z"


def as_csv(samples: Iterable[ExportedSample]) -> Iterator[str]:
    """With a header, also where nothing follows; a null is empty."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for piece in _pieces(samples):
        for line in piece:
            value = "" if line.value is None else repr(line.value)
            writer.writerow((rfc3339(line.time), *line[1:4], value, *line[5:]))
        yield _drain(text)
    yield _drain(text)


def as_ndjson(samples: Iterable[ExportedSample]) -> Iterator[str]:
    """One object a line; `reason` only where there is one."""
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
    for piece in _pieces(samples):
        objects = []
        for line in piece:
            fields = {**line._asdict(), "time": rfc3339(line.time)}
            if not line.reason:
                del fields["reason"]
            objects.append(encode(fields) + "\n")
        yield "".join(objects)


TEXTS: dict[str, Text] = {"csv": as_csv, "ndjson": as_ndjson}


def _pieces(samples: Iterable[ExportedSample]) -> Iterator[list[ExportedSample]]:
    iterator = iter(samples)
    while some := list(islice(iterator, _PIECE)):
        yield some


def _drain(text: StringIO) -> str:
    piece = text.getvalue()
    text.seek(0)
    text.truncate()
    return piece
