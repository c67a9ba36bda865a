"""The raw values that mean "not available" in registers of each type, where a map names none.

type      | all ones    | lowest      | highest     | ±the largest float
u16 … u64 | 0xFFFF      |             |             |
s16 … s64 |             | 0x8000      | 0x7FFF      |
m16, m32  | 0xFFFF      |             |             |
f32, f64  |             |             |             | 0x7F7FFFFF, 0xFF7FFFFF

SunSpec has all ones and the lowest; Huawei, Sungrow and ABB have the highest. None of them is a
number that a meter reaches but by running over. (NaN and the infinities are never a number.)
"""

import struct
import sys

from meterd.drivers.registers import Row
from meterd.model.quantity import Kind
from meterd.model.units import base_of

_FLT_MAX = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]
# Codes of floats, and what they hold where nothing was measured.
_FLOATS = {
    "f32": (">f", (_FLT_MAX,)),
    "f64": (">d", (_FLT_MAX, sys.float_info.max)),
}


def unavailable(row: Row) -> tuple[int, ...]:
    """The raw words, as one unsigned number, that are no value of such a row.

    Where the map names the numbers (`enum`) each of them is a state. So are the numbers of
    quantities without a unit, except power factors, counters, and texts that tell what it is:
    there all ones are as good as any other pattern of bits. A counter of one register passes
    through each of its numbers whenever it runs over.
    """
    kind = row.type
    if kind in _FLOATS:
        code, largest = _FLOATS[kind]
        return tuple(_words(code, value) for size in largest for value in (size, -size))
    counts = row.kind is Kind.COUNTER
    if row.enum or not (counts or _is_size(row)) or (counts and row.words == 1):
        return ()
    ones, top = (1 << 16 * row.words) - 1, 1 << 16 * row.words - 1
    if kind.startswith("s") and kind != "str":
        return (top, top - 1)
    return (ones,) if kind.startswith(("u", "m")) and kind != "m10k" else ()


def _is_size(row: Row) -> bool:
    """Whether a row's number is a size, or a name, and not a state."""
    return base_of(row.unit) != "1" or row.quantity.startswith(("info.", "power_factor"))


def _words(code: str, value: float) -> int:
    return int.from_bytes(struct.pack(code, value), "big")
