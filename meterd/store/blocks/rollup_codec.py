"""A UTC day of a series' quarter hours as one body.

    | day, 4 | how many, 1 | form, 1 | digits, 1 | kinds of bitmaps, 1 | seven lengths, 2 each |
    | bitmaps: which are there, estimated, counted, aligned | numbers of samples | increases |
    | five lanes |

Form 1 is for decimals: all lanes are whole numbers of one power of ten, as Rice codes. Of the
samples that are not aligned, a quarter hour has the mean (rounded down), how far the minimum is
below and the maximum above it, and what the sum exceeds so many means by; of an aligned sample, how
far it is from that mean. Means are steps from one to the next, or steps of these.

Form 0 has the minima, maxima and sums as doubles, and no aligned samples; in form 2 there were
some, which are not known.

Format 1, from before aligned samples were kept, is form 2 with other bitmaps and packed numbers.
"""

import struct
from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate, pairwise
from math import copysign, isnan, nan
from typing import Final, NamedTuple, TypeAlias

from meterd.model.sample import LARGEST
from meterd.store.blocks import byte_planes, codec, rice
from meterd.store.blocks.checksum import decoding, seal, unsealed
from meterd.store.blocks.chunk import has_infinity
from meterd.store.blocks.rollup import QUARTERS, AlignedSample, QuarterRollup
from meterd.store.blocks.varint import Cursor, Damage, zagzig, zigzag

OLD_FORMAT: Final = 1
FORMAT: Final = 2
WHAT: Final = "a day's roll-up"

DOUBLES: Final = 0
DECIMALS: Final = 1
DOUBLES_WITH_ALIGNED: Final = 2
STEEP: Final = 0x80
"""Added to the form where the means are steps of steps."""

_HEAD = struct.Struct("<iBBBB7H")
_BITMAP = QUARTERS // 8
_EMPTY = bytes(_BITMAP)
_PROBES = 8
_NONE, _ALL, _SOME = 0, 1, 2
_MOST = 1 << 60  # of a whole number; what is computed of two has room in 64 bits

Bitmap: TypeAlias = bytes
"""96 bits, the lowest first."""


class RollupSections(NamedTuple):
    """One day's roll-up, taken apart and not decoded.

    `format` is that of the body. `places` are the `size` quarters that are there; `estimated`,
    `counted` and `aligned` bits of these by their order. `counts` are differences of how many
    samples each has, aligned ones not among them; `increases` belong to `counted`. `lanes` are
    those of the form: minima, maxima and sums; or means, minima, maxima, rests, aligned samples.
    """

    format: int
    day: int
    size: int
    places: Bitmap
    estimated: Bitmap
    counted: Bitmap
    aligned: Bitmap
    form: int
    digits: int
    counts: bytes
    increases: bytes
    lanes: tuple[bytes, ...]

    @property
    def has_decimals(self) -> bool:
        return self.form & ~STEEP == DECIMALS

    @property
    def aligned_known(self) -> bool:
        return self.form != DOUBLES_WITH_ALIGNED

    def whole_counts(self) -> list[int]:
        """How many samples each quarter hour has, aligned ones among them. Raises Damage."""
        if self.format == OLD_FORMAT:
            return list(accumulate(byte_planes.unpack(self.counts, self.size)))
        inner = accumulate(map(zagzig, rice.decode(self.counts, self.size)))
        aligned = int.from_bytes(self.aligned, "little")
        return [n + (aligned >> at & 1) for at, n in enumerate(inner)]

    def rises(self) -> list[int]:
        """The increases of those that are counted. Raises Damage."""
        count = int.from_bytes(self.counted, "little").bit_count()
        if self.format == OLD_FORMAT:
            return byte_planes.unpack(self.increases, count).tolist()
        return list(map(zagzig, rice.decode(self.increases, count)))


def pack(day: int, quarters: Mapping[int, QuarterRollup]) -> bytes:
    """One UTC day (days since 1970) of one series. Raises ValueError for another day's quarters."""
    numbers = sorted(quarters)
    listed = [quarters[number] for number in numbers]
    places = [number - day * QUARTERS for number in numbers]
    if places and not 0 <= places[0] <= places[-1] < QUARTERS:
        raise ValueError(f"quarters {numbers[0]} to {numbers[-1]} are not all of day {day}")
    form, digits, aligned, lanes = _lanes(listed)
    inner = [quarter.n - (at in aligned) for at, quarter in enumerate(listed)]
    rises = [quarter.increase for quarter in listed if quarter.increase is not None]
    packed = [rice.encode(_steps(inner)), rice.encode(list(map(zigzag, rises))), *lanes]
    count = len(listed)
    bitmaps = [
        _bitmap(places, QUARTERS),
        _bitmap([at for at, quarter in enumerate(listed) if quarter.estimated], count),
        _bitmap([at for at, quarter in enumerate(listed) if quarter.increase is not None], count),
        _bitmap(sorted(aligned), count),
    ]
    kinds = sum(kind << 2 * at for at, (kind, _) in enumerate(bitmaps))
    head = _HEAD.pack(day, count, form, digits, kinds, *map(len, packed))
    return seal(FORMAT, b"".join([head, *[body for _, body in bitmaps], *packed]))


def sections(body: bytes) -> RollupSections:
    """To be called within checksum.decoding. Raises StoreError (corrupt) or Damage."""
    number, inside = unsealed(body, (OLD_FORMAT, FORMAT))
    packed = _old_sections(inside) if number == OLD_FORMAT else _sections(inside)
    count = packed.size
    if count > QUARTERS or int.from_bytes(packed.places, "little").bit_count() != count:
        raise Damage(f"{count} quarters in a day")
    for bits in (packed.estimated, packed.counted, packed.aligned):
        if int.from_bytes(bits, "little") >> count:
            raise Damage(f"a bit beyond {count} quarters")
    return packed


def _sections(inside: bytes) -> RollupSections:
    if len(inside) < _HEAD.size:
        raise Damage("it is cut off")
    day, count, form, digits, kinds, *sizes = _HEAD.unpack_from(inside)
    forms = DOUBLES, DECIMALS, DOUBLES_WITH_ALIGNED
    if form & ~STEEP not in forms or digits >= len(codec.POWERS):
        raise Damage(f"form {form} of {digits} digits is not known")
    at, bitmaps = _HEAD.size, []
    for place in range(4):
        kind = kinds >> 2 * place & 3
        if kind == _SOME:
            bitmaps.append(inside[at : at + _BITMAP])
            at += _BITMAP
        else:
            bitmaps.append(_full_bitmap(count if place else QUARTERS) if kind else _EMPTY)
    lanes = []
    for size in sizes:
        lanes.append(inside[at : at + size])
        at += size
    if at != len(inside):
        raise Damage(f"{len(inside)} bytes where {at} are due")
    counts, increases, *rest = lanes
    named = form, digits, counts, increases, tuple(rest)
    places, estimated, counted, aligned = bitmaps
    return RollupSections(FORMAT, day, count, places, estimated, counted, aligned, *named)


def _old_sections(inside: bytes) -> RollupSections:
    cursor = Cursor(inside)
    day, count = cursor.signed(), cursor.number()
    bitmaps = [cursor.take(_BITMAP) for _ in range(3)]
    counts, increases, *lanes = (cursor.sized() for _ in range(5))
    cursor.end()
    places, estimated, counted = bitmaps
    named = DOUBLES_WITH_ALIGNED, 0, counts, increases, tuple(lanes)
    return RollupSections(OLD_FORMAT, day, count, places, estimated, counted, _EMPTY, *named)


def unpack(body: bytes) -> tuple[int, dict[int, QuarterRollup]]:
    """The day and its quarters. Raises StoreError (corrupt)."""
    with decoding(WHAT):
        packed = sections(body)
        estimated, counted = set(listed(packed.estimated)), listed(packed.counted)
        increases = dict(zip(counted, packed.rises(), strict=True))
        counts = packed.whole_counts()
        quarters: dict[int, QuarterRollup] = {}
        aggregates = _decimals(packed, counts) if packed.has_decimals else _doubles(packed)
        for at, (place, n, (low, high, whole, aligned)) in enumerate(
            zip(listed(packed.places), counts, aggregates, strict=True)
        ):
            quarters[packed.day * QUARTERS + place] = QuarterRollup(
                n, low, high, whole, increases.get(at), at in estimated, aligned=aligned
            )
        return packed.day, quarters


def listed(bitmap: Bitmap) -> list[int]:
    """The places of the bits that are set."""
    bits = int.from_bytes(bitmap, "little")
    return [place for place in range(QUARTERS) if bits >> place & 1]


_Aggregate = tuple[float, float, float, AlignedSample | None]


def _lanes(
    quarters: Sequence[QuarterRollup],
) -> tuple[int, int, frozenset[int], Sequence[bytes]]:
    """Form, digits, the places that keep an aligned sample, and five lanes."""
    aligned = frozenset(at for at, quarter in enumerate(quarters) if quarter.aligned is not None)
    decimals = _decimal_lanes(quarters)
    if decimals is not None:
        form, digits, encoded = decimals
        return form, digits, aligned, encoded
    triples = [(quarter.min, quarter.max, quarter.sum) for quarter in quarters]
    lanes = [codec.encode(array("d", lane)) for lane in zip(*triples, strict=True)]
    form = DOUBLES_WITH_ALIGNED if aligned else DOUBLES
    return form, 0, frozenset(), [*lanes, b"", b""]


def _decimal_lanes(quarters: Sequence[QuarterRollup]) -> tuple[int, int, list[bytes]] | None:
    """Form, digits and lanes; None where they would not give back every bit."""
    inner = [_inner(quarter) for quarter in quarters]
    samples = [
        (at, quarter.aligned.value) for at, quarter in enumerate(quarters) if quarter.aligned
    ]
    # The sum of a whole quarter hour follows from its parts; it has to be the same.
    sums = [quarter.sum for quarter in quarters if quarter.aligned]
    parts = [value for n, *lanes in inner if n for value in lanes]
    scaled = _scaled([*parts, *[value for _, value in samples], *sums])
    if scaled is None or not all(map(_is_joined, quarters)):
        return None
    digits, numbers = scaled
    full = [(at, n) for at, (n, *_) in enumerate(inner) if n]
    low, high, totals = (numbers[lane : len(parts) : 3] for lane in range(3))
    means = [whole // n for whole, (_, n) in zip(totals, full, strict=True)]
    below = [mean - least for mean, least in zip(means, low, strict=True)]
    above = [most - mean for mean, most in zip(means, high, strict=True)]
    if min(below, default=0) < 0 or min(above, default=0) < 0:
        return None
    rests = [whole - n * mean for whole, mean, (_, n) in zip(totals, means, full, strict=True)]
    read = numbers[len(parts) : len(parts) + len(samples)]
    by_place = {at: (mean, whole) for (at, _), mean, whole in zip(full, means, totals, strict=True)}
    offsets = []
    for (at, _), value, joined in zip(samples, read, numbers[-len(sums) :], strict=False):
        mean, whole = by_place.get(at, (0, 0))
        if whole + value != joined:
            return None
        offsets.append(zigzag(value - mean))
    steep, steps = _least_steps(means)
    lanes = [rice.encode(lane) for lane in (steps, below, above, rests, offsets)]
    return DECIMALS | (STEEP if steep else 0), digits, lanes


def _scaled(values: Sequence[float]) -> tuple[int, list[int]] | None:
    """The fewest digits with which all are whole numbers exactly, and these."""
    if isnan(sum(values)) or max(map(abs, values), default=0.0) > _MOST:
        return None
    if 0.0 in values and any(value == 0 and copysign(1, value) < 0 for value in values):
        return None
    probes = values[:: len(values) // _PROBES + 1]
    for digits, power in enumerate(codec.POWERS):
        if any(round(probe * power) / power != probe for probe in probes):
            continue
        numbers = [round(value * power) for value in values]
        if values == [number / power for number in numbers]:
            small = max(map(abs, numbers), default=0) < _MOST
            return (digits, numbers) if small else None
    return None


def _is_joined(quarter: QuarterRollup) -> bool:
    """Whether minimum and maximum are those of the aligned sample and the others."""
    if quarter.aligned is None:
        return True
    value, low, high, _ = quarter.aligned
    joined = (min(value, low), max(value, high)) if quarter.n > 1 else (value, value)
    return joined == (quarter.min, quarter.max)


def _inner(quarter: QuarterRollup) -> tuple[int, float, float, float]:
    """How many samples, minimum, maximum and sum without the aligned sample."""
    if quarter.aligned is None:
        return quarter.n, quarter.min, quarter.max, quarter.sum
    return quarter.n - 1, *quarter.aligned[1:]


def _steps(numbers: Sequence[int]) -> list[int]:
    """Each number's difference from the one before, zigzagged; the first one's from 0."""
    return [zigzag(later - earlier) for earlier, later in pairwise([0, *numbers])]


def _least_steps(means: Sequence[int]) -> tuple[bool, list[int]]:
    """Steps, or steps of steps where they are smaller, as for a counter."""
    steps = [later - earlier for earlier, later in pairwise([0, *means])]
    bends = steps[:2] + [later - earlier for earlier, later in pairwise(steps[1:])]
    steep = sum(map(abs, bends)) < sum(map(abs, steps))
    return steep, list(map(zigzag, bends if steep else steps))


def _straightened(bends: Sequence[int]) -> list[int]:
    """The opposite: means of steps of steps."""
    steps = [*bends[:1], *accumulate(bends[1:])]
    return list(accumulate(steps))


def _decimals(packed: RollupSections, counts: Sequence[int]) -> list[_Aggregate]:
    power = codec.POWERS[packed.digits]
    places = listed(packed.aligned)
    inner = [n - (at in places) for at, n in enumerate(counts)]
    full = [at for at, n in enumerate(inner) if n]
    steps, below, above, rests = (rice.decode(lane, len(full)) for lane in packed.lanes[:4])
    signed = list(map(zagzig, steps))
    means = _straightened(signed) if packed.form & STEEP else list(accumulate(signed))
    offsets = dict(zip(places, rice.decode(packed.lanes[4], len(places)), strict=True))
    parts = dict(zip(full, zip(means, below, above, rests, strict=True), strict=True))
    made: list[_Aggregate] = []
    for at, n in enumerate(inner):
        mean, less, more, rest = parts.get(at, (0, 0, 0, 0))
        low, high, whole = mean - less, mean + more, n * mean + rest
        low_, high_, whole_ = low / power, high / power, whole / power
        if at not in offsets:
            made.append((low_, high_, whole_, None) if n else (nan, nan, 0.0, None))
            continue
        value = mean + zagzig(offsets[at])
        aligned = AlignedSample(value / power, *((low_, high_, whole_) if n else (nan, nan, 0.0)))
        if n:
            low, high = min(low, value), max(high, value)
        else:
            low = high = value
        made.append((low / power, high / power, (whole + value) / power, aligned))
    return made


def _doubles(packed: RollupSections) -> list[_Aggregate]:
    lanes = [_without_infinities(codec.decode(lane, packed.size)) for lane in packed.lanes[:3]]
    return [(low, high, whole, None) for low, high, whole in zip(*lanes, strict=True)]


def _without_infinities(lane: "array[float]") -> "array[float]":
    """Replaces infinities, which an older version took for values, by NaN."""
    if not has_infinity(lane):
        return lane
    return array("d", [value if abs(value) <= LARGEST else nan for value in lane])


def _bitmap(places: Sequence[int], count: int) -> tuple[int, bytes]:
    """The kind of a set of places below `count`, and its bits where it has neither none nor all."""
    if not places:
        return _NONE, b""
    if len(places) == count:
        return _ALL, b""
    return _SOME, sum(1 << place for place in places).to_bytes(_BITMAP, "little")


@cache
def _full_bitmap(count: int) -> Bitmap:
    return ((1 << min(count, QUARTERS)) - 1).to_bytes(_BITMAP, "little")
