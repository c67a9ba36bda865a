"""Sentinels: raw values of each register type that mean "not available", where a map names none.

type      | all ones    | lowest      | highest     | ±the largest float
u16 … u64 | 0xFFFF      |             |             |
s16 … s64 |             | 0x8000      | 0x7FFF      |
m16, m32  | 0xFFFF      |             |             |
f32, f64  |             |             |             | 0x7F7FFFFF, 0xFF7FFFFF

SunSpec uses all ones and the lowest; Huawei, Sungrow and ABB use the highest. A meter reaches them
only by overflow. (NaN and infinities are never a number.)
"""

import struct
import sys

from meterd.drivers.registers import Row
from meterd.model.quantity import Kind
from meterd.model.units import base_of

_FLT_MAX = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]
# Struct codes of floats, and the magnitudes that mean "not available".
_FLOATS = {
    "f32": (">f", (_FLT_MAX,)),
    "f64": (">d", (_FLT_MAX, sys.float_info.max)),
}


def unavailable(row: Row) -> tuple[int, ...]:
    """The sentinels of a row: raw words as one unsigned number.

    None for enumerations (`enum`) and for quantities without a unit other than power factors,
    counters and texts: there all ones are a valid state. None for a counter of one register, which
    passes through every number whenever it rolls over.
    """
    kind = row.type
    if kind in _FLOATS:
        code, largest = _FLOATS[kind]
        return tuple(
            _words(code, value) for magnitude in largest for value in (magnitude, -magnitude)
        )
    counts = row.kind is Kind.COUNTER
    if row.enum or not (counts or _is_measurement(row)) or (counts and row.words == 1):
        return ()
    ones, top = (1 << 16 * row.words) - 1, 1 << 16 * row.words - 1
    if kind.startswith("s") and kind != "str":
        return (top, top - 1)
    return (ones,) if kind.startswith(("u", "m")) and kind != "m10k" else ()


def _is_measurement(row: Row) -> bool:
    """Whether a row's number is a measurement or a name, not a state."""
    return base_of(row.unit) != "1" or row.quantity.startswith(("info.", "power_factor"))


def _words(code: str, value: float) -> int:
    return int.from_bytes(struct.pack(code, value), "big")
