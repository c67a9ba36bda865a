"""Raw words that mean "not available", and single bits."""

import struct

import pytest

from meterd.drivers.registers import Row
from meterd.drivers.values import decode


def row(kind: str, words: int, **keys: object) -> Row:
    return Row("x.value", 3, 0, kind, words, "1", **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ((0x7FFF, 0x0000), None),
        ((0x7FFF, 0x1234), None),
        ((0x7FFF, 0xFFFF), None),
        ((0x7FFE, 0xFFFF), 0x7FFEFFFF),
        ((0x8000, 0x0000), -0x80000000),
        ((0xFFFF, 0xFFFF), -1),
    ],
)
def test_a_range_is_not_available_to_its_ends_and_no_further(
    words: tuple[int, ...], value: float | None
) -> None:
    assert decode(row("s32", 2, na_ranges=((0x7FFF0000, 0x7FFFFFFF),)), words) == value


def test_a_range_counts_words_without_their_sign() -> None:
    coded = row("s16", 1, na_ranges=((0x8000, 0xFC17),))
    assert decode(coded, (0x83B6,)) is None
    assert decode(coded, (0xFC18,)) == -1000


def test_a_range_counts_the_highest_word_first_in_any_order() -> None:
    swapped = row("s32", 2, word_order="little", na_ranges=((0x7FFF0000, 0x7FFFFFFF),))
    assert decode(swapped, (0x1234, 0x7FFF)) is None
    assert decode(swapped, (0x7FFF, 0x1234)) == 0x12347FFF


def test_floats_have_ranges_and_single_words_too() -> None:
    high, low = struct.unpack(">2H", struct.pack(">f", -230.1))
    single = (high << 16) + low
    assert decode(row("f32", 2, na=(single,)), (high, low)) is None
    assert decode(row("f32", 2, na_ranges=((single, single + 9),)), (high, low)) is None
    assert decode(row("f32", 2, na=(single + 1,)), (high, low)) == -230.1


@pytest.mark.parametrize("kind", ["bits", "bcd"])
def test_bits_and_digits_have_them_too(kind: str) -> None:
    assert decode(row(kind, 1, na=(0x9999,)), (0x9999,)) is None
    assert decode(row(kind, 1, na_ranges=((0x9000, 0x9999),)), (0x9001,)) is None
    assert decode(row(kind, 1, na=(0x9999,)), (0x0001,)) == 1


@pytest.mark.parametrize(("bit", "value"), [(0, 1.0), (1, 0.0), (15, 1.0), (16, 0.0), (17, 1.0)])
def test_a_bit_counts_from_the_lowest(bit: int, value: float) -> None:
    assert decode(row("bits", 2, bit=bit), (0x0002, 0x8001)) == value


def test_bits_without_a_bit_are_the_whole_word() -> None:
    assert decode(row("bits", 1), (0x8001,)) == 0x8001
