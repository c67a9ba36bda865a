"""What means "not available" by itself, by type and width, and where it is a number."""

import struct

import pytest

from meterd.drivers.map_file import parse
from meterd.drivers.registers import Row
from meterd.drivers.values import decode
from meterd.errors import ConfigError

FLT_MAX = 0x7F7FFFFF
HEAD = "source: a test of this\nmaker: Acme\nmodel: One\nrows:\n"


def row(text: str) -> Row:
    """A row of somebody's own map, as YAML."""
    return parse(f"{HEAD}  {text}\n", "own", "own.yaml").rows[0]


def words(number: int, count: int) -> list[int]:
    return [number >> 16 * place & 0xFFFF for place in reversed(range(count))]


WIDTH = {"16": 1, "32": 2, "48": 3, "64": 4}
CASES = [
    *((f"u{bits}", (1 << int(bits)) - 1) for bits in WIDTH),
    *((f"s{bits}", 1 << int(bits) - 1) for bits in WIDTH),
    *((f"s{bits}", (1 << int(bits) - 1) - 1) for bits in WIDTH),
    ("m16", 0xFFFF),
    ("m32", 0xFFFFFFFF),
    ("f32", FLT_MAX),
    ("f32", FLT_MAX | 1 << 31),
    ("f32", 0x7FC00000),
    ("f32", 0xFF800000),
    ("f64", struct.unpack(">Q", struct.pack(">d", -1.7976931348623157e308))[0]),
    ("f64", struct.unpack(">Q", struct.pack(">d", 3.4028234663852886e38))[0]),
]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("kind", "raw"), CASES)
def test_a_pattern_of_its_type_is_no_value(kind: str, raw: int, order: str) -> None:
    count = WIDTH[kind[1:]]
    text = f"{{function: 4, address: 0, type: {kind}, word_order: {order}, unit: W}}"
    content = words(raw, count)
    if order == "little":
        content.reverse()
    assert decode(row(f"active_power: {text}"), content) is None


@pytest.mark.parametrize(("kind", "raw"), [case for case in CASES if case[0][0] != "f"])
def test_its_neighbours_and_the_patterns_of_other_types_are_values(kind: str, raw: int) -> None:
    count = WIDTH[kind[1:]]
    own = row(f"active_power: {{function: 4, address: 0, type: {kind}, unit: W}}")
    low = {"u": (0, 1, 1 << 16 * count - 1), "s": (0, 1, (1 << 16 * count) - 1), "m": (0, 1)}
    lowest = raw - 1 if raw - 1 not in own.absent else raw - 2
    for number in (lowest, *low[kind[0]]):
        assert decode(own, words(number, count)) is not None, hex(number)


@pytest.mark.parametrize("said", ["[]", "none", "[none]", "[none, 0x8000]"])
def test_a_map_says_that_they_are_values(said: str) -> None:
    own = row(f"active_power: {{function: 4, address: 0, type: u16, unit: W, na: {said}}}")
    assert decode(own, [0xFFFF]) == 65535
    assert (decode(own, [0x8000]) is None) is ("0x8000" in said)


def test_those_of_the_map_come_on_top() -> None:
    own = row("active_power: {function: 4, address: 0, type: s32, unit: W, na: [0x7FFFFFFE]}")
    absent = [n for n in (0x7FFFFFFE, 0x7FFFFFFF, 1 << 31, 7) if decode(own, words(n, 2)) is None]
    assert absent == [0x7FFFFFFE, 0x7FFFFFFF, 1 << 31]


@pytest.mark.parametrize(
    "text",
    [
        "alarm: {function: 4, address: 0, type: u16}",
        "x.flags: {function: 4, address: 0, type: u16, unit: '1'}",
        "x.mode: {function: 4, address: 0, type: u16, unit: V, enum: {0: off, 65535: all}}",
        "x.bits: {function: 4, address: 0, type: bits, unit: '1'}",
        # A counter of one register passes through it each time that it runs over.
        "active_energy.import: {function: 4, address: 0, type: u16, unit: Wh}",
    ],
)
def test_all_ones_are_a_state_or_a_count(text: str) -> None:
    assert decode(row(text), [0xFFFF]) == 65535


@pytest.mark.parametrize(
    "text",
    [
        "power_factor: {function: 4, address: 0, type: u16, scale: 0.001}",
        "x.water: {function: 4, address: 0, type: u16, unit: l}",
        "info.serial_number: {function: 4, address: 0, type: u16}",
        "temperature: {function: 4, address: 0, type: u16, scale: 0.1, unit: °C}",
    ],
)
def test_all_ones_are_no_size_and_no_name(text: str) -> None:
    assert decode(row(text), [0xFFFF]) is None


def test_a_wide_counter_is_absent_at_all_ones() -> None:
    own = row("active_energy.import: {function: 4, address: 0, type: u32, unit: Wh}")
    assert decode(own, [0xFFFF, 0xFFFF]) is None
    assert decode(own, [0xFFFF, 0xFFFE]) == 2**32 - 2


def test_what_is_no_raw_value_is_told() -> None:
    with pytest.raises(ConfigError, match="or none, not 'nothing'"):
        row("active_power: {function: 4, address: 0, type: u16, unit: W, na: nothing}")
