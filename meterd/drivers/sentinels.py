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

from meterd.model.quantity import Kind, Quantity, describe

_FLT_MAX = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]
# Codes of floats, and what they hold where nothing was measured.
_FLOATS = {
    "f32": (">f", (_FLT_MAX,)),
    "f64": (">d", (_FLT_MAX, sys.float_info.max)),
}


def unavailable(quantity: str, unit: str, kind: str, words: int, *, named: bool) -> tuple[int, ...]:
    """The raw words, as one unsigned number, that are no value of such a row.

    `named`: the map names the numbers (`enum`), so each of them is a state. So are the numbers of
    quantities without a unit, except power factors, counters, and texts that tell what it is:
    there all ones are as good as any other pattern of bits. A counter of one register passes
    through each of its numbers whenever it runs over.
    """
    if kind in _FLOATS:
        code, largest = _FLOATS[kind]
        return tuple(_words(code, value) for size in largest for value in (size, -size))
    bits = 16 * words
    ones, top = (1 << bits) - 1, 1 << bits - 1
    known = describe(quantity, unit)
    counts = known is not None and known.kind is Kind.COUNTER
    if named or not (counts or _is_size(quantity, known)) or (counts and words == 1):
        return ()
    if kind[0] == "s" and kind != "str":
        return (top, top - 1)
    return (ones,) if kind[0] in "um" and kind != "m10k" else ()


def _is_size(quantity: str, known: Quantity | None) -> bool:
    """Whether a row's number is a size, or a name, and not a state."""
    if known is not None and known.unit not in ("", "1"):
        return True
    return quantity.startswith(("info.", "power_factor"))


def _words(code: str, value: float) -> int:
    return int.from_bytes(struct.pack(code, value), "big")
