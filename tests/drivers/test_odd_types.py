"""Types that no struct code has, offsets, and fields of bits: what they are and what is refused."""

import pytest

from meterd.drivers.map_file import parse
from meterd.drivers.registers import Row
from meterd.drivers.values import decode
from meterd.errors import ConfigError
from meterd.sim.registers import encode_row


def row(keys: str, name: str = "x.one") -> Row:
    (found,) = parse(f"rows:\n  {name}: {{function: 3, address: 7, {keys}}}\n", "own", "own").rows
    return found


CASES = [
    ("type: u48", (0x0001, 0, 2), 4294967298.0),
    ("type: s48, scale: 0.1", (0xFFFF, 0xFFFF, 0xFFFE), -0.2),
    ("type: s48, word_order: little", (1, 0, 0x8000), -140737488355327.0),
    ("type: m16", (0x8001,), -1.0),
    ("type: m16, scale: 0.001", (0x03B6,), 0.95),
    ("type: m32, word_order: little", (0x0010, 0x8001), -65552.0),
    ("type: m10k, count: 3", (1, 2, 9999), 100029999.0),
    ("type: m10k, count: 2, word_order: little, scale: 10", (42, 1), 100420.0),
    ("type: bits, bit: [8, 15]", (0x19FF,), 25.0),
    ("type: bits, bit: [0, 3], scale: 0.5, offset: -1", (0xFFF5,), 1.5),
    ("type: bits, count: 2, bit: [12, 19]", (0x000A, 0x5FFF), 165.0),
    ("type: u16, scale: 0.1, offset: -40", (653,), 25.3),
    ("type: f32, offset: 1.5", (0x3F80, 0), 2.5),
]


@pytest.mark.parametrize(("keys", "words", "expected"), CASES)
def test_registers_give_the_value(keys: str, words: tuple[int, ...], expected: float) -> None:
    found = row(keys)
    assert found.words == len(words)
    assert decode(found, words) == expected


@pytest.mark.parametrize(
    ("keys", "words", "expected"), [one for one in CASES if "bit:" not in one[0]]
)
def test_a_simulated_meter_has_the_same_registers(
    keys: str, words: tuple[int, ...], expected: float
) -> None:
    assert encode_row(row(keys), expected) == words


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("type: m10k, count: 2", (1, 10000)),
        ("type: m10k, count: 2", (0xFFFF, 0xFFFF)),
        ("type: u48, na: 0xFFFFFFFFFFFF", (0xFFFF, 0xFFFF, 0xFFFF)),
        ("type: m16, na: 0x8000", (0x8000,)),
        ("type: f32, offset: 1", (0x7FC0, 0)),
    ],
)
def test_what_is_no_number_gives_none(keys: str, words: tuple[int, ...]) -> None:
    assert decode(row(keys), words) is None


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ("type: bits, bit: [8, 16]", "the low byte is bit: [0, 7]"),
        ("type: bits, bit: [4, 2]", "the low byte is bit: [0, 7]"),
        ("type: bits, bit: 16", ""),
        ("type: u16, bit: [0, 3]", ""),
        ("type: bits, bit: 3, scale: 2", ""),
        ("type: u16, offset: ten", "times scale, plus offset"),
        ("type: m10k, count: 5", ""),
        ("type: u48, count: 2", "count belongs to"),
        ("type: uint48", "did you mean u48?"),
        ("type: mod10k", "did you mean m10k?"),
        ("type: byte", "bit: [0, 7]"),
    ],
)
def test_a_mistake_is_told_at_its_key(keys: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        row(keys)
    assert hint in caught.value.problems[0].hint
    assert caught.value.problems[0].line == 2
