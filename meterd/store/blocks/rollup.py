"""Quarter hours: what 15 minutes of a series come to, and a day of them as one body.

A quarter is [t, t + 15 min) and is known by its number since 1970. `increase` is the difference
of the counter's readings at both ends, so those of neighbours add up exactly.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import fsum, isnan, nan

from meterd.model.sample import LARGEST
from meterd.store.blocks import byte_planes, codec, varint
from meterd.store.blocks.checksum import decoding, payload, seal
from meterd.store.blocks.chunk import has_infinity
from meterd.store.blocks.counter_increase import CounterIncrease, Power
from meterd.store.blocks.varint import Cursor, Damage

QUARTER_MS = 900_000
QUARTERS = 96  # of a UTC day
_BITMAP = QUARTERS // 8
FORMAT = 1
WHAT = "a day's roll-up"
_DIGITS = 6  # meterd's values have no more
# Rounding a sum may undo the error of binary fractions, and change nothing else.
_TIDY = 1e-12

Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class QuarterRollup:
    """`n` values, none of them null; where `n` is 0, `min` and `max` are NaN and `sum` is 0.

    `increase` is in thousandths of the unit, None for what does not count. It is `estimated`
    where it was interpolated over a hole. `covered` of its ms lie between two readings of the
    counter: fewer than all in the quarters of its first and its last one.
    """

    n: int
    min: float
    max: float
    sum: float
    increase: int | None = None
    estimated: bool = False
    covered: int = QUARTER_MS


def fold(
    times: Sequence[int],
    values: Sequence[float],
    *,
    counter: bool,
    before: Point | None = None,
    after: Point | None = None,
    power: Power | None = None,
    within: range | None = None,
    total: bool = False,
) -> dict[int, QuarterRollup]:
    """Quarters by number, ascending, of ascending times (Unix ms) and their values (NaN: null).

    `before` and `after` are the nearest values outside, from which a counter's readings at the
    edges are interpolated; without them it counts from the first value and to the last one.
    A counter has quarters in holes as well, right up to `before` and `after`. `power` helps to
    tell whether it was frozen. `within` cuts the answer to those quarters. A counter that is a
    running `total` never falls: samples by which it does are no part of its rise. A quarter that
    the window cuts in two is not whole: give all of its values.
    """
    # A list is read twice as quickly as an array.
    times, values = _without_nulls(times, list(values))
    quarters = dict(_gauges(times, values))
    if counter:
        rise = CounterIncrease.of(times, values, before, after, power, total=total)
        chunk = _counted(times, before, after)
        if within is not None:
            chunk = range(max(chunk.start, within.start), min(chunk.stop, within.stop))
        empty = QuarterRollup(0, nan, nan, 0.0)
        for number in sorted({*chunk, *quarters}):
            gauge = quarters.pop(number, empty)
            start = number * QUARTER_MS
            increase, guessed = rise.between(start, start + QUARTER_MS)
            quarters[number] = QuarterRollup(
                gauge.n, gauge.min, gauge.max, gauge.sum, increase, guessed
            )
    if within is not None:
        quarters = {number: quarter for number, quarter in quarters.items() if number in within}
    return quarters


def total(quarters: Iterable[QuarterRollup]) -> QuarterRollup:
    """The sum of several quarters."""
    listed = list(quarters)
    full = [quarter for quarter in listed if quarter.n]
    increases = [quarter.increase for quarter in listed if quarter.increase is not None]
    return QuarterRollup(
        sum(quarter.n for quarter in full),
        min((quarter.min for quarter in full), default=nan),
        max((quarter.max for quarter in full), default=nan),
        _sum([quarter.sum for quarter in full]),
        sum(increases) if increases else None,
        any(quarter.estimated for quarter in listed),
    )


def _without_nulls(
    times: Sequence[int], values: Sequence[float]
) -> tuple[Sequence[int], Sequence[float]]:
    if not isnan(sum(values)):
        return times, values
    pairs = [pair for pair in zip(times, values, strict=True) if not isnan(pair[1])]
    return [time for time, _ in pairs], [value for _, value in pairs]


def _gauges(times: Sequence[int], values: Sequence[float]) -> Iterable[tuple[int, QuarterRollup]]:
    at = 0
    while at < len(times):
        number = times[at] // QUARTER_MS
        end = bisect_left(times, (number + 1) * QUARTER_MS, at)
        mine = values[at:end]
        yield number, QuarterRollup(end - at, min(mine), max(mine), _sum(mine))
        at = end


def _sum(values: Sequence[float]) -> float:
    """The sum, rounded to decimals where it only differs by binary rounding: 690.3, not
    690.3000000000001.
    """
    try:
        exact = fsum(values)
    except OverflowError:
        return sum(values)
    rounded = round(exact, _DIGITS)
    return rounded if abs(rounded - exact) <= _TIDY * abs(exact) else exact


def _counted(times: Sequence[int], before: Point | None, after: Point | None) -> range:
    """The quarters for which the counter's readings are known at both ends."""
    starts = [time // QUARTER_MS for time in times[:1]]
    ends = [time // QUARTER_MS + 1 for time in times[-1:]]
    if before is not None:
        starts.append(before[0] // QUARTER_MS + 1)
    if after is not None:
        ends.append(after[0] // QUARTER_MS)
    if not times and (before is None or after is None):
        return range(0)
    return range(min(starts), max(ends))


def pack(day: int, quarters: Mapping[int, QuarterRollup]) -> bytes:
    """One UTC day (days since 1970) of one series. Raises ValueError for another day's quarters."""
    numbers = sorted(quarters)
    listed = [quarters[number] for number in numbers]
    places = [number - day * QUARTERS for number in numbers]
    if places and not 0 <= places[0] <= places[-1] < QUARTERS:
        raise ValueError(f"quarters {numbers[0]} to {numbers[-1]} are not all of day {day}")
    counted = [quarter.increase is not None for quarter in listed]
    parts = [
        varint.signed(day),
        varint.number(len(listed)),
        _bits(places),
        _bits([at for at, quarter in enumerate(listed) if quarter.estimated]),
        _bits([at for at, yes in enumerate(counted) if yes]),
        varint.sized(
            byte_planes.pack([b - a for a, b in pairwise([0, *[quarter.n for quarter in listed]])])
        ),
        varint.sized(
            byte_planes.pack(
                [quarter.increase for quarter in listed if quarter.increase is not None]
            )
        ),
    ]
    lanes = zip(*((quarter.min, quarter.max, quarter.sum) for quarter in listed), strict=True)
    parts += [varint.sized(codec.encode(array("d", lane))) for lane in list(lanes) or [()] * 3]
    return seal(FORMAT, b"".join(parts))


@dataclass(frozen=True, slots=True)
class RollupSections:
    """One day's roll-up, taken apart and not decoded: bitmaps of 96 bits, and packed numbers.

    `places` are the quarters that are there, `estimated` and `counted` bits of these by their
    order; `counts` are differences of how many samples each has, `increases` belong to `counted`,
    and `lanes` are minima, maxima and sums.
    """

    day: int
    count: int
    places: bytes
    estimated: bytes
    counted: bytes
    counts: bytes
    increases: bytes
    lanes: tuple[bytes, bytes, bytes]


def sections(body: bytes) -> RollupSections:
    """To be called within checksum.named. Raises StoreError (corrupt) or Damage."""
    cursor = Cursor(payload(FORMAT, body))
    day, count = cursor.signed(), cursor.number()
    places, estimated, counted = (cursor.take(_BITMAP) for _ in range(3))
    if count > QUARTERS or int.from_bytes(places, "little").bit_count() != count:
        raise Damage(f"{count} quarters in a day")
    if (int.from_bytes(estimated, "little") | int.from_bytes(counted, "little")) >> count:
        raise Damage(f"a bit beyond {count} quarters")
    counts, increases, low, high, whole = (cursor.sized() for _ in range(5))
    cursor.end()
    return RollupSections(
        day, count, places, estimated, counted, counts, increases, (low, high, whole)
    )


def unpack(body: bytes) -> tuple[int, dict[int, QuarterRollup]]:
    """The day and its quarters. Raises StoreError (corrupt)."""
    with decoding(WHAT):
        packed = sections(body)
        count, estimated = packed.count, set(_places(packed.estimated))
        counted = _places(packed.counted)
        rises = byte_planes.unpack(packed.increases, len(counted))
        increases = dict(zip(counted, rises, strict=True))
        counts = accumulate(byte_planes.unpack(packed.counts, count))
        lanes = [_without_infinities(codec.decode(lane, count)) for lane in packed.lanes]
        quarters: dict[int, QuarterRollup] = {}
        for at, (place, n, low, high, whole) in enumerate(
            zip(_places(packed.places), counts, *lanes, strict=True)
        ):
            quarters[packed.day * QUARTERS + place] = QuarterRollup(
                n, low, high, whole, increases.get(at), at in estimated
            )
        return packed.day, quarters


def _without_infinities(lane: "array[float]") -> "array[float]":
    """Replaces infinities, which an older version took for values, by NaN."""
    if not has_infinity(lane):
        return lane
    return array("d", [value if abs(value) <= LARGEST else nan for value in lane])


def _bits(places: Sequence[int]) -> bytes:
    """A set of places as one number, a bit each."""
    return sum(1 << place for place in places).to_bytes(_BITMAP, "little")


def _places(bitmap: bytes) -> list[int]:
    bits = int.from_bytes(bitmap, "little")
    return [place for place in range(QUARTERS) if bits >> place & 1]
