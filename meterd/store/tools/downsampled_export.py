"""What is left of a window where raw samples are deleted: quarter hours, hours and UTC days.

Each bucket begins at a multiple of its length since 1970 and is told as a whole.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from meterd.model.sample import Quality, finite
from meterd.store.blocks.rollup import QUARTER_MS, QuarterRollup, total
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Name
from meterd.store.query.range_query import SeriesInfo
from meterd.store.tools.export import Wanted, rfc3339, series

if TYPE_CHECKING:
    from meterd.store.reader import Reader

# Quarter hours in one bucket.
RESOLUTIONS = {"15m": 1, "1h": 4, "1d": 96}
COLUMNS = (
    *("time", "device", "quantity", "unit"),
    *("n", "min", "mean", "max", "increase", "quality"),
)
_STRETCH = 16 * DAY  # read at a time
_PIECE = 700  # lines in one piece of text: about 64 KiB


class DownsampledBucket(NamedTuple):
    """One bucket of a series from `time` (Unix ms) on; `n` counts values that are valid.

    `min`, `mean` and `max` are None where `n` is 0, and where they are not known. `increase` is
    what a counter rose by, in its unit, None for what does not count; `quality` is `estimated`
    where that was interpolated.
    """

    time: int
    device: str
    quantity: str
    unit: str
    n: int
    min: float | None
    mean: float | None
    max: float | None
    increase: float | None
    quality: str


def buckets(reader: "Reader", wanted: Wanted, resolution: str) -> Iterator[DownsampledBucket]:
    """Those that begin in the window, by series and time; `resolution` is one of RESOLUTIONS.

    Reads as it goes: to be called in a thread, raises StoreError at any step.
    """
    for info in series(reader, wanted):
        yield from of_series(reader, info, wanted, resolution)


def of_series(
    reader: "Reader", info: SeriesInfo, wanted: Wanted, resolution: str
) -> Iterator[DownsampledBucket]:
    """Of one series, some days at a time."""
    size = RESOLUTIONS[resolution] * QUARTER_MS
    name = info.device, info.quantity, info.unit
    start = max(-(-wanted.start // size), info.first // size) * size
    end = min(wanted.end, info.last + 1)
    while start < end:
        stop = min(start // _STRETCH * _STRETCH + _STRETCH, -(-end // size) * size)
        by_bucket: dict[int, list[QuarterRollup]] = {}
        for number, quarter in reader.quarters(name, start, stop).items():
            by_bucket.setdefault(number * QUARTER_MS // size, []).append(quarter)
        for number, quarters in sorted(by_bucket.items()):
            yield _bucket(number * size, name, total(quarters))
        start = stop


def _bucket(time: int, name: Name, whole: QuarterRollup) -> DownsampledBucket:
    n, increase = whole.n, whole.increase
    # An older meterd may have taken infinities for values: what came of them is not known.
    aggregates = (whole.min, whole.sum / n, whole.max) if n else ()
    low, mean, high = map(finite, aggregates) if aggregates else (None, None, None)
    quality = Quality.ESTIMATED if whole.estimated else Quality.GOOD
    rise = None if increase is None else increase / 1000
    return DownsampledBucket(time, *name, n, low, mean, high, rise, quality.value)


def as_csv(buckets_: Iterable[DownsampledBucket]) -> Iterator[str]:
    """With a header, also where no row follows; unknown values are empty cells."""
    yield ",".join(COLUMNS) + "\n"
    for piece in _pieces(buckets_):
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows((rfc3339(bucket.time), *map(_cell, bucket[1:])) for bucket in piece)
        yield text.getvalue()


def as_ndjson(buckets_: Iterable[DownsampledBucket]) -> Iterator[str]:
    """One object a line."""
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
    for piece in _pieces(buckets_):
        objects = ({**bucket._asdict(), "time": rfc3339(bucket.time)} for bucket in piece)
        yield "".join(encode(bucket) + "\n" for bucket in objects)


TEXTS = {"csv": as_csv, "ndjson": as_ndjson}


def _pieces(buckets_: Iterable[DownsampledBucket]) -> Iterator[Sequence[DownsampledBucket]]:
    iterator = iter(buckets_)
    while some := list(islice(iterator, _PIECE)):
        yield some


def _cell(value: object) -> object:
    return "" if value is None else repr(value) if isinstance(value, float) else value
