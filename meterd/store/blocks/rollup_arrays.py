"""Roll-ups of many days as numpy arrays, for readers: what rollup_codec.py packs, day upon day.

One day is 96 numbers a lane, on which numpy's calls cost more than its work: so the lanes of all
days are taken apart one by one, and then decoded together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meterd.model.sample import LARGEST
from meterd.store.blocks import array_decoder, byte_planes, codec, rice_arrays, rollup_codec
from meterd.store.blocks.array_decoder import Times, Values
from meterd.store.blocks.checksum import decoding
from meterd.store.blocks.rice_arrays import Numbers, zagzig
from meterd.store.blocks.rollup import QUARTERS
from meterd.store.blocks.rollup_codec import STEEP, RollupSections, sections
from meterd.store.blocks.varint import Cursor

LANES = ("min", "max", "sum")  # in the order of their bodies
_BITMAP = QUARTERS // 8
_MEAN, _BELOW, _ABOVE, _REST, _ALIGNED = range(5)  # the lanes of decimals


class RollupArrays(NamedTuple):
    """Quarter hours in time order, each by its number since 1970."""

    numbers: Times
    n: Values
    low: Values
    high: Values
    total: Values


class AlignedArrays(NamedTuple):
    """Aligned samples, by the number of the quarter hour that begins there."""

    numbers: Times
    values: Values


@dataclass(slots=True)
class _RollupGroup:
    """Lanes of one length whose numbers were packed in one width."""

    rows: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    powers: list[float] = field(default_factory=list)
    planes: list[bytes] = field(default_factory=list)


class _DecimalDays(NamedTuple):
    """Quarter hours as whole numbers, which are those of `scale` times the values.

    `n`, `low`, `high` and `total` are of the samples that are not aligned, 0 without any.
    """

    numbers: Times
    n: Numbers
    low: Numbers
    high: Numbers
    total: Numbers
    aligned: Numbers
    is_aligned: "NDArray[np.bool_]"
    scale: Values


def decode(bodies: Sequence[bytes], wanted: Collection[str] = LANES) -> RollupArrays:
    """Of days in time order; lanes that are not wanted are NaN. Raises StoreError (corrupt)."""
    with decoding(rollup_codec.WHAT):
        days = [sections(body) for body in bodies]
        decimal, other = _by_form(days)
        return _in_order(
            _joined_decimals(_decimals(decimal, wanted), wanted), _doubles(other, wanted)
        )


def decode_apart(
    bodies: Sequence[bytes], wanted: Collection[str] = LANES
) -> tuple[RollupArrays, AlignedArrays, list[int]]:
    """Quarter hours without aligned samples, these, and the days since 1970 where they are unknown.

    Of such days there is nothing. Raises StoreError (corrupt).
    """
    with decoding(rollup_codec.WHAT):
        days = [sections(body) for body in bodies]
        decimal, other = _by_form([day for day in days if day.aligned_known])
        whole = _decimals(decimal, wanted)
        inner = _in_order(_inner_decimals(whole, wanted), _doubles(other, wanted))
        values = whole.aligned[whole.is_aligned] / whole.scale[whole.is_aligned]
        aligned = AlignedArrays(whole.numbers[whole.is_aligned], values)
        return _full(inner), aligned, [day.day for day in days if not day.aligned_known]


def _by_form(
    days: Sequence[RollupSections],
) -> tuple[list[RollupSections], list[RollupSections]]:
    """Those of decimals, and those of doubles."""
    return (
        [day for day in days if day.has_decimals],
        [day for day in days if not day.has_decimals],
    )


def _in_order(some: RollupArrays, others: RollupArrays) -> RollupArrays:
    """Both in time order."""
    if not len(others.numbers):
        return some
    if not len(some.numbers):
        return others
    order = np.argsort(np.concatenate((some.numbers, others.numbers)), kind="stable")
    numbers = np.concatenate((some.numbers, others.numbers))[order]
    lanes = [np.concatenate(pair)[order] for pair in zip(some[1:], others[1:], strict=True)]
    return RollupArrays(numbers, *lanes)


def _full(arrays: RollupArrays) -> RollupArrays:
    """Those that have samples."""
    full = arrays.n > 0
    if full.all():
        return arrays
    return RollupArrays(arrays.numbers[full], *(lane[full] for lane in arrays[1:]))


def _inner_decimals(days: _DecimalDays, wanted: Collection[str]) -> RollupArrays:
    unknown = np.full(len(days.n), np.nan)
    return RollupArrays(
        days.numbers,
        days.n.astype(np.float64),
        days.low / days.scale if "min" in wanted else unknown,
        days.high / days.scale if "max" in wanted else unknown,
        days.total / days.scale if "sum" in wanted else unknown,
    )


def _joined_decimals(days: _DecimalDays, wanted: Collection[str]) -> RollupArrays:
    """With the aligned samples among the others."""
    low, high = days.low, days.high
    if days.is_aligned.any():
        alone = days.is_aligned & (days.n == 0)
        low = np.where(days.is_aligned, np.minimum(low, days.aligned), low)
        low = np.where(alone, days.aligned, low)
        high = np.where(days.is_aligned, np.maximum(high, days.aligned), high)
        high = np.where(alone, days.aligned, high)
    # An aligned sample is 0 where there is none.
    n, total = days.n + days.is_aligned, days.total + days.aligned
    joined = _inner_decimals(days._replace(n=n, low=low, high=high, total=total), wanted)
    if joined.n.all():
        return joined
    empty = joined.n == 0
    return joined._replace(
        low=np.where(empty, np.nan, joined.low), high=np.where(empty, np.nan, joined.high)
    )


def _decimals(days: Sequence[RollupSections], wanted: Collection[str]) -> _DecimalDays:
    counts = [day.size for day in days]
    n = _cumulated(zagzig(rice_arrays.decode([day.counts for day in days], counts)), counts)
    full = n > 0
    per_day = _sums_by_day(full, counts)
    means = _means(days, per_day)

    def lane(place: int) -> Numbers:
        return rice_arrays.decode([day.lanes[place] for day in days], per_day)

    nothing = np.zeros(len(n), np.int64)
    low = _spread(means - lane(_BELOW), full) if "min" in wanted else nothing
    high = _spread(means + lane(_ABOVE), full) if "max" in wanted else nothing
    total = _spread(n[full] * means + lane(_REST), full) if "sum" in wanted else nothing
    aligned, is_aligned = _aligned(days, counts, _spread(means, full))
    scale = np.repeat(np.array([codec.POWERS[day.digits] for day in days]), counts)
    return _DecimalDays(_numbers(days, counts), n, low, high, total, aligned, is_aligned, scale)


def _means(days: Sequence[RollupSections], per_day: Sequence[int]) -> Numbers:
    steps = zagzig(rice_arrays.decode([day.lanes[_MEAN] for day in days], per_day))
    steep = np.array([bool(day.form & STEEP) for day in days], np.bool_)
    if steep.any():
        # All but a day's first number are steps of steps: their sums are steps.
        firsts = _firsts(per_day)
        bends = steps.copy()
        bends[firsts[np.asarray(per_day) > 0]] = 0
        straight = _cumulated(bends, per_day)
        straight[firsts[np.asarray(per_day) > 0]] = steps[firsts[np.asarray(per_day) > 0]]
        steps = np.where(np.repeat(steep, per_day), straight, steps)
    return _cumulated(steps, per_day)


def _aligned(
    days: Sequence[RollupSections], counts: Sequence[int], means: Numbers
) -> "tuple[Numbers, NDArray[np.bool_]]":
    """The aligned sample of each quarter hour, 0 without one; and whether it has one."""
    is_aligned = _bits([day.aligned for day in days], counts)
    aligned = np.zeros(len(means), np.int64)
    if is_aligned.any():
        offsets = rice_arrays.decode(
            [day.lanes[_ALIGNED] for day in days], _sums_by_day(is_aligned, counts)
        )
        aligned[is_aligned] = means[is_aligned] + zagzig(offsets)
    return aligned, is_aligned


def _spread(values: Numbers, full: "NDArray[np.bool_]") -> Numbers:
    """The values at these places, 0 at the others."""
    if len(values) == len(full):
        return values
    spread = np.zeros(len(full), np.int64)
    spread[full] = values
    return spread


def _firsts(counts: Sequence[int]) -> Numbers:
    """Where each day begins."""
    ends = np.cumsum(np.asarray(counts, np.int64))
    return ends - np.asarray(counts, np.int64)


def _cumulated(steps: Numbers, counts: Sequence[int]) -> Numbers:
    """Sums of steps that begin anew with each day, of so many."""
    sums = np.concatenate((np.zeros(1, np.int64), np.cumsum(steps)))
    return sums[1:] - np.repeat(sums[_firsts(counts)], counts)


def _sums_by_day(chosen: "NDArray[np.bool_]", counts: Sequence[int]) -> list[int]:
    sums: Numbers = np.concatenate((np.zeros(1, np.int64), np.cumsum(chosen, dtype=np.int64)))
    firsts = _firsts(counts)
    of_days: list[int] = (sums[firsts + np.asarray(counts, np.int64)] - sums[firsts]).tolist()
    return of_days


def _bits(bitmaps: Sequence[bytes], counts: Sequence[int]) -> "NDArray[np.bool_]":
    """The first bits of each bitmap, as many as its day has quarter hours."""
    table = np.frombuffer(b"".join(bitmaps), dtype=np.uint8).reshape(-1, _BITMAP)
    bits = np.unpackbits(table, axis=1, bitorder="little").astype(np.bool_)
    return bits[np.arange(QUARTERS) < np.asarray(counts, np.int64)[:, np.newaxis]]


def _numbers(days: Sequence[RollupSections], counts: Sequence[int]) -> Times:
    table = np.frombuffer(b"".join([day.places for day in days]), dtype=np.uint8)
    bits = np.unpackbits(table.reshape(-1, _BITMAP), axis=1, bitorder="little")
    firsts = np.array([day.day * QUARTERS for day in days], dtype=np.int64)
    return np.repeat(firsts, counts) + np.nonzero(bits)[1]


def _doubles(days: Sequence[RollupSections], wanted: Collection[str]) -> RollupArrays:
    counts = [day.size for day in days]
    lanes = [_lane(days, place, wanted) for place in range(len(LANES))]
    for lane in lanes:
        # As rollup_codec.py does of what an older meterd made of infinities.
        lane[np.abs(lane) > LARGEST] = np.nan
    return RollupArrays(_numbers(days, counts), _joined(_counts(days)), *lanes)


def _counts(days: Sequence[RollupSections]) -> list[Values]:
    """How many samples; most days say it in the same bytes."""
    decoded: dict[tuple[int, bytes, int], Values] = {}
    for day in days:
        key = day.format, day.counts, day.size
        if key not in decoded:
            decoded[key] = np.array(day.whole_counts(), dtype=np.float64)
    return [decoded[day.format, day.counts, day.size] for day in days]


def _lane(days: Sequence[RollupSections], place: int, wanted: Collection[str]) -> Values:
    if LANES[place] not in wanted:
        return np.full(sum([day.size for day in days]), np.nan)
    rows_: list[Values] = [np.empty(0)] * len(days)
    groups: dict[tuple[int, int], _RollupGroup] = {}
    for row, day in enumerate(days):
        body = day.lanes[place]
        cursor = Cursor(body)
        if cursor.byte() != codec.DECIMAL or not day.size:
            rows_[row] = array_decoder.values(body, day.size)
            continue
        digits, first = codec.decimal_header(cursor)
        width, inflated = byte_planes.gathered(cursor.rest(), day.size - 1)
        group = groups.setdefault((width, day.size), _RollupGroup())
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
