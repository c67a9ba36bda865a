"""Rice codes come back as they went in, one by one and many at once."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.store.blocks import rice, rice_arrays
from meterd.store.blocks.varint import Damage

_small = st.integers(0, 40)
_any = st.integers(0, 2**62)
_numbers = st.lists(_small, max_size=100) | st.lists(_any, max_size=30)


@given(st.lists(_numbers, max_size=6))
def test_numbers_come_back(lanes: list[list[int]]) -> None:
    bodies = [rice.encode(lane) for lane in lanes]
    assert [rice.decode(body, len(lane)) for body, lane in zip(bodies, lanes, strict=True)] == lanes
    found = rice_arrays.decode(bodies, [len(lane) for lane in lanes])
    assert found.tolist() == [number for lane in lanes for number in lane]


def test_numbers_around_a_mean_take_less_than_as_planes() -> None:
    numbers = [abs(7 * n % 61 - 30) for n in range(96)]
    assert len(rice.encode(numbers)) < 96 * 6 / 8
    assert len(rice.encode([0] * 96)) == 1


def test_one_large_number_among_small_ones_takes_no_long_row_of_zeros() -> None:
    numbers = [1] * 95 + [2**60]
    assert len(rice.encode(numbers)) < 200
    assert rice.decode(rice.encode(numbers), 96) == numbers


@given(_numbers.filter(any), st.data())
def test_damaged_codes_are_damage_or_other_numbers(numbers: list[int], data: st.DataObject) -> None:
    body = bytearray(rice.encode(numbers))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for decode in (
        lambda: rice.decode(bytes(body), len(numbers)),
        lambda: rice_arrays.decode([bytes(body)], [len(numbers)]).tolist(),
    ):
        with suppress(Damage, zlib.error):
            assert len(decode()) == len(numbers)


def test_codes_that_are_cut_off_are_damage() -> None:
    body = rice.encode([5, 9, 2, 700, 3])
    for end in range(len(body)):
        with pytest.raises((Damage, zlib.error)):
            rice.decode(body[:end], 5)
