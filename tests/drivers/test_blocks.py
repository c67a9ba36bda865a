"""What one reply says, row by row: the short way through a block means the same as the long one."""

import math
import random
import struct

import pytest

from meterd.drivers.blocks import Block
from meterd.drivers.registers import Row
from meterd.drivers.values import decode, shortest
from meterd.model.sample import Reading


def row(address: int, kind: str = "f32", words: int = 2, **keys: object) -> Row:
    return Row(f"x.r{address}", 3, address, kind, words, "1", **keys)  # type: ignore[arg-type]


def block(*rows: Row) -> Block:
    return Block(3, 0, max(row.last for row in rows) + 1, rows)


def floats(*values: float) -> bytes:
    return struct.pack(f">{len(values)}f", *values)


def values(found: list[Reading]) -> list[float | str | None]:
    return [reading.value for reading in found]


def near(low: float, high: float) -> list[float]:
    """Float32 in this range: any, and decimals of few digits."""
    chance = random.Random(7)
    found = [
        math.copysign(10 ** chance.uniform(low, high), chance.random() - 0.5) for _ in "x" * 900
    ]
    found += [round(chance.uniform(0, 10**high), digits) for digits in range(6) for _ in "x" * 100]
    return [struct.unpack(">f", struct.pack(">f", value))[0] for value in found]


def around(value: float) -> list[float]:
    """The float32 next to it, on both sides."""
    (word,) = struct.unpack(">I", struct.pack(">f", value))
    return [struct.unpack(">f", struct.pack(">I", word + n))[0] for n in range(-20, 21)]


def spelled(value: float) -> float:
    """The first of 7, 8 or 9 digits that is read as the same float32, by way of texts."""
    for digits in (7, 8):
        decimal = float(f"{value:.{digits}g}")
        if struct.pack(">f", decimal) == struct.pack(">f", value):
            return decimal
    return float(f"{value:.9g}")


@pytest.mark.parametrize("power", range(-6, 9))
def test_a_float32_is_the_shortest_decimal_that_names_it(power: int) -> None:
    some = [*near(power, power + 1), *around(10.0**power), *around(2.0 ** (3 * power))]
    assert [shortest(value) for value in some] == [spelled(value) for value in some]


@pytest.mark.parametrize("power", range(-6, 9))
def test_so_it_is_in_a_block_of_any_floats(power: int) -> None:
    some = [*near(power, power + 1), *around(10.0**power)]
    for start in range(0, len(some), 40):
        part = some[start : start + 40]
        one = block(*(row(2 * i) for i in range(len(part))))
        assert values(one.decode(floats(*part))) == [spelled(value) for value in part]


def test_what_is_no_number_leaves_its_neighbours_alone() -> None:
    one = block(*(row(2 * i) for i in range(5)))
    said = one.decode(floats(230.1, math.nan, math.inf, -math.inf, 0.1))
    assert values(said) == [230.1, None, None, None, 0.1]
    assert [bool(reading.reason) for reading in said] == [False, True, True, True, False]


def test_a_sentinel_counts_for_its_own_row_only() -> None:
    one = block(row(0, "u16", 1, na=(0xFFFF,)), row(1, "u16", 1), row(2, "s16", 1, na=(0x8000,)))
    assert values(one.decode(struct.pack(">HHh", 0xFFFF, 0xFFFF, -1))) == [None, 65535, -1]
    assert values(one.decode(struct.pack(">HHh", 1, 0xFFFF, -0x8000))) == [1, 65535, None]
    assert values(one.decode(struct.pack(">HHh", 1, 2, 3))) == [1, 2, 3]


def test_scaled_rows_beside_floats_are_scaled() -> None:
    one = block(row(0, "u16", 1, scale=0.1), row(1), row(3, "s32", 2, scale=10.0), row(5, "u16", 1))
    said = one.decode(struct.pack(">HfiH", 2301, 0.3, -7, 4))
    assert values(said) == [230.1, 0.3, -70, 4]
    assert all(isinstance(reading.value, float) for reading in said)


def test_whole_numbers_beyond_a_float_keep_their_digits() -> None:
    one = block(row(0, "u64", 4), row(4, "u64", 4))
    assert values(one.decode(struct.pack(">QQ", 2**53 + 1, 7))) == [2**53 + 1, 7]


@pytest.mark.parametrize("order", ["big", "little"])
def test_rows_with_holes_overlaps_and_any_order_of_words_are_found(order: str) -> None:
    rows = [row(0, word_order=order), row(5, "u16", 1), row(4, word_order=order), row(9, "bits", 1)]
    words = [0x4366, 0x199A, 1, 2, 0x42C8, 0x0001, 6, 7, 8, 9]
    said = block(*rows).decode(struct.pack(">10H", *words))
    alone = [decode(one, words[one.address : one.address + one.words]) for one in rows]
    assert values(said) == alone


def test_a_text_has_no_unit() -> None:
    name = Row("info.model", 3, 0, "str", 2, "1")
    said = block(name, row(2, "u16", 1)).decode(b"SDM1\0\7")
    assert said == [Reading("info.model", "SDM1", ""), Reading("x.r2", 7.0, "1")]
