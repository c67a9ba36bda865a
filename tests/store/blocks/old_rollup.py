"""Roll-ups as meterd wrote them before aligned samples were kept: format 1."""

from array import array
from collections.abc import Mapping, Sequence
from itertools import pairwise

from meterd.store.blocks import byte_planes, codec, varint
from meterd.store.blocks.checksum import seal
from meterd.store.blocks.rollup import QUARTERS, QuarterRollup


def pack(day: int, quarters: Mapping[int, QuarterRollup]) -> bytes:
    numbers = sorted(quarters)
    listed = [quarters[number] for number in numbers]
    counted = [at for at, quarter in enumerate(listed) if quarter.increase is not None]
    counts = [later - earlier for earlier, later in pairwise([0, *[one.n for one in listed]])]
    rises = [quarter.increase for quarter in listed if quarter.increase is not None]
    parts = [
        varint.signed(day),
        varint.number(len(listed)),
        _bits([number - day * QUARTERS for number in numbers]),
        _bits([at for at, quarter in enumerate(listed) if quarter.estimated]),
        _bits(counted),
        varint.sized(byte_planes.pack(counts)),
        varint.sized(byte_planes.pack(rises)),
    ]
    lanes = zip(*((one.min, one.max, one.sum) for one in listed), strict=True)
    parts += [varint.sized(codec.encode(array("d", lane))) for lane in list(lanes) or [()] * 3]
    return seal(1, b"".join(parts))


def _bits(places: Sequence[int]) -> bytes:
    return sum(1 << place for place in places).to_bytes(QUARTERS // 8, "little")
