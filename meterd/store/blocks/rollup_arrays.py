"""Roll-ups of many days as numpy arrays, for readers: what rollup.py packs, day upon day.

One day is 96 numbers a lane, on which numpy's calls cost more than its work: so the lanes of all
days are inflated one by one, and then decoded together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meterd.model.sample import LARGEST
from meterd.store.blocks import array_decoder, byte_planes, codec, rollup
from meterd.store.blocks.array_decoder import Times, Values
from meterd.store.blocks.checksum import decoding
from meterd.store.blocks.rollup import RollupSections, sections
from meterd.store.blocks.varint import Cursor

LANES = ("min", "max", "sum")  # in the order of their bodies
_BITMAP = rollup.QUARTERS // 8


class RollupArrays(NamedTuple):
    """Quarter hours in time order, each by its number since 1970."""

    numbers: Times
    n: Values
    low: Values
    high: Values
    total: Values


@dataclass(slots=True)
class _RollupGroup:
    """Lanes of one length whose numbers were packed in one width."""

    rows: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    powers: list[float] = field(default_factory=list)
    planes: list[bytes] = field(default_factory=list)


def decode(bodies: Sequence[bytes], wanted: Collection[str] = LANES) -> RollupArrays:
    """Of days in time order; lanes that are not wanted are NaN. Raises StoreError (corrupt)."""
    with decoding(rollup.WHAT):
        days = [sections(body) for body in bodies]
        counts = [day.count for day in days]
        lanes = [_lane(days, place, wanted) for place in range(len(LANES))]
        for lane in lanes:
            # As rollup.py does of what an older meterd made of infinities.
            lane[np.abs(lane) > LARGEST] = np.nan
        return RollupArrays(_numbers(days, counts), _joined(_counts(days)), *lanes)


def _numbers(days: Sequence[RollupSections], counts: Sequence[int]) -> Times:
    table = np.frombuffer(b"".join([day.places for day in days]), dtype=np.uint8)
    bits = np.unpackbits(table.reshape(-1, _BITMAP), axis=1, bitorder="little")
    firsts = np.array([day.day * rollup.QUARTERS for day in days], dtype=np.int64)
    return np.repeat(firsts, counts) + np.nonzero(bits)[1]


def _counts(days: Sequence[RollupSections]) -> list[Values]:
    """How many samples; most days say it in the same bytes."""
    decoded: dict[tuple[bytes, int], Values] = {}
    for day in days:
        if (day.counts, day.count) not in decoded:
            steps = np.array(byte_planes.unpack(day.counts, day.count), dtype=np.int64)
            decoded[day.counts, day.count] = np.cumsum(steps).astype(np.float64)
    return [decoded[day.counts, day.count] for day in days]


def _lane(days: Sequence[RollupSections], place: int, wanted: Collection[str]) -> Values:
    if LANES[place] not in wanted:
        return np.full(sum([day.count for day in days]), np.nan)
    rows_: list[Values] = [np.empty(0)] * len(days)
    groups: dict[tuple[int, int], _RollupGroup] = {}
    for row, day in enumerate(days):
        body = day.lanes[place]
        cursor = Cursor(body)
        if cursor.byte() != codec.DECIMAL or not day.count:
            rows_[row] = array_decoder.values(body, day.count)
            continue
        digits, first = codec.decimal_header(cursor)
        width, inflated = byte_planes.gathered(cursor.rest(), day.count - 1)
        group = groups.setdefault((width, day.count), _RollupGroup())
        group.rows.append(row)
        group.firsts.append(first)
        group.powers.append(codec.POWERS[digits])
        group.planes.append(inflated)
    for (width, count), group in groups.items():
        for row, values in zip(group.rows, _matrix(group, width, count), strict=True):
            rows_[row] = values
    return _joined(rows_)


def _matrix(group: _RollupGroup, width: int, count: int) -> "NDArray[np.float64]":
    """A row for each lane of the group."""
    numbers = np.empty((len(group.rows), count), dtype=np.int64)
    numbers[:, 0] = group.firsts
    numbers[:, 1:] = array_decoder.signed_rows(group.planes, width, count - 1)
    np.cumsum(numbers, axis=1, out=numbers)
    powers: Values = np.array(group.powers)
    return np.divide(numbers, powers[:, np.newaxis])


def _joined(parts: Sequence[Values]) -> Values:
    return np.concatenate(parts) if parts else np.empty(0)
