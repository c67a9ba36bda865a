import random
import struct
from array import array
from math import isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.store.blocks import byte_planes, codec, timestamps, varint, word_lanes
from tests.store.blocks import chunks

HOUR = 360


def _size(values: list[float]) -> int:
    body = codec.encode(array("d", values))
    assert codec.decode(body, len(values)).tobytes() == array("d", values).tobytes()
    return len(body)


@given(st.one_of(chunks.series, chunks.holey()))
def test_every_double_comes_back_bit_for_bit(listed: list[float]) -> None:
    values = array("d", listed)
    assert codec.decode(codec.encode(values), len(values)).tobytes() == values.tobytes()


@given(st.lists(st.floats(), max_size=40))
def test_any_double_at_all_comes_back(listed: list[float]) -> None:
    values = array("d", [nan if isnan(value) else value for value in listed])
    assert codec.decode(codec.encode(values), len(values)).tobytes() == values.tobytes()


def test_a_negative_zero_is_not_lost_among_decimals() -> None:
    values = array("d", [230.1, -0.0, 0.0, 230.3])
    assert codec.decode(codec.encode(values), 4).tobytes() == values.tobytes()


@pytest.mark.parametrize("shift", range(9))
def test_numbers_at_the_edge_of_each_width_come_back(shift: int) -> None:
    edge = float(1 << (8 * (shift % 8) + 7) - 1)
    _size([0.0, edge, -edge, edge - 1, -edge - 1, 0.0])


def test_a_constant_hour_takes_few_bytes() -> None:
    assert _size([50.0] * HOUR) <= 6
    assert _size([1234.567] * HOUR) <= 8
    assert _size([nan] * HOUR) <= 8


def test_meter_noise_on_a_tenth_takes_less_than_a_byte_a_sample() -> None:
    rng = random.Random(4)
    volts = [round(230 + rng.gauss(0, 0.6), 1) for _ in range(HOUR)]
    assert _size(volts) < 0.75 * HOUR


def test_a_counter_in_the_billions_takes_half_a_byte_a_sample() -> None:
    rng = random.Random(4)
    reading, readings = 1_000_000_000, []
    for _ in range(HOUR):
        reading += rng.choice([0, 1, 2])
        readings.append(float(reading))
    assert _size(readings) < 0.5 * HOUR


def test_a_null_costs_a_few_bytes_and_spoils_nothing() -> None:
    rng = random.Random(4)
    volts = [round(230 + rng.gauss(0, 0.6), 1) for _ in range(HOUR)]
    whole = _size(volts)
    assert _size([*volts[:100], nan, *volts[101:]]) <= whole + 6
    assert _size([*volts[:100], *[nan] * 50, *volts[150:]]) <= whole + 6


def test_what_went_through_a_float32_takes_as_little_as_the_decimal_it_was() -> None:
    rng = random.Random(4)
    volts = [round(230 + rng.gauss(0, 0.6), 1) for _ in range(HOUR)]
    widened = [float(value) for value in array("f", volts)]
    assert widened != volts
    assert _size(widened) == _size(volts)


def test_what_is_no_decimal_takes_no_more_than_it_is() -> None:
    rng = random.Random(4)
    assert _size([rng.random() for _ in range(HOUR)]) <= 8 * HOUR + 2


# What stores of before hold. The first byte is the form, and 0x80 where nulls follow.
ON_DISK: list[tuple[list[float], str]] = [
    ([], "01"),
    ([230.1, 230.4, 229.8, 230.1], "01 01 fa23 01 060b06"),
    ([50.0] * 6, "01 00 64 00"),
    ([5.0, 7.0, 6.0], "01 00 0a 01 0401"),
    ([230.10000610351562, 230.39999389648438], "02 01 fa23 01 06"),
    ([1e22], "00 08 92d54d06cff08044"),
    ([nan] * 3, "81 03 000003"),
    ([nan, 1.5, nan, nan, 2.5, 3.5, nan], "81 07 00 000101020201 01 1e 01 1414"),
]


@pytest.mark.parametrize(("values", "body"), ON_DISK)
def test_what_is_on_the_disk_is_read_as_it_was_written(values: list[float], body: str) -> None:
    listed = array("d", values)
    assert codec.encode(listed).hex() == body.replace(" ", "")
    assert codec.decode(bytes.fromhex(body), len(values)).tobytes() == listed.tobytes()


def test_a_series_of_many_holes_comes_back() -> None:
    """A meter that answers every other poll, and then every third."""
    values = [1.5 if n % (2 if n < 2000 else 3) == 0 else nan for n in range(4000)]
    assert _size(values) < 100


def test_more_numbers_than_bytes_can_hold_are_damage() -> None:
    packed = codec.packed_numbers([1, 2] * 500)
    assert codec.unpacked_numbers(packed) == [1, 2] * 500
    with pytest.raises(varint.Damage, match="cannot hold"):
        codec.unpacked_numbers(varint.number(1 << 40) + packed[2:])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_packed_numbers_come_back(numbers: list[int]) -> None:
    assert list(byte_planes.unpack(byte_planes.pack(numbers), len(numbers))) == numbers


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_zigzag_of_all_words_at_once_equals_that_of_each(width: int) -> None:
    rng = random.Random(width)
    most = 1 << 8 * width - 1
    numbers = [-most, most - 1, 0, -1, 1, *[rng.randrange(-most, most) for _ in range(50)]]
    words = array(byte_planes.TYPES[width], numbers).tobytes()
    mixed = word_lanes.zigzag(words, width)
    unsigned = array(byte_planes.TYPES[width].upper(), mixed)
    assert list(unsigned) == [varint.zigzag(number) for number in numbers]
    assert word_lanes.zagzig(mixed, width) == words


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)), max_size=9))
def test_differences_of_all_words_at_once_equal_those_of_each(pairs: list[tuple[int, int]]) -> None:
    later, earlier = (array("q", [pair[n] for pair in pairs]).tobytes() for n in (0, 1))
    steps = array("Q", word_lanes.differences(later, earlier))
    wide = [one - other & (1 << 64) - 1 for one, other in pairs]
    signed = array("q", array("Q", wide).tobytes())
    assert list(steps) == [varint.zigzag(step) for step in signed]


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(OverflowError):
        byte_planes.pack([1 << 63])


@given(st.lists(st.integers(0, 2**64), max_size=20))
def test_varints_come_back(numbers: list[int]) -> None:
    body = varint.numbers(numbers)
    cursor = varint.Cursor(body)
    assert [cursor.number() for _ in numbers] == numbers
    assert varint.listed(body) == numbers
    cursor.end()


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xff" * 11])
def test_a_number_that_is_cut_off_or_endless_is_damage(body: bytes) -> None:
    with pytest.raises(varint.Damage):
        varint.Cursor(body).number()


@given(chunks.times())
def test_times_come_back(times: "array[int]") -> None:
    assert timestamps.decode(timestamps.encode(times), len(times)) == times


@given(st.sets(st.integers(-(2**40), 2**41), max_size=30))
def test_any_ascending_times_come_back(found: set[int]) -> None:
    times = array("q", sorted(found))
    assert timestamps.decode(timestamps.encode(times), len(times)) == times


def _tick_size(times: list[int]) -> int:
    return len(timestamps.encode(array("q", times)))


def test_regular_times_cost_a_start_and_a_step() -> None:
    assert _tick_size([chunks.T0 + 10_000 * n for n in range(8640)]) <= 10


def test_missed_polls_cost_a_few_bytes() -> None:
    polls = [n for n in range(360) if n not in {17, 100, 101, 102}]
    assert _tick_size([chunks.T0 + 10_000 * n for n in polls]) <= 20


@pytest.mark.parametrize(("step", "count"), [(1000, 3600), (10_000, 360), (60_000, 360)])
def test_latency_of_20_to_120_ms_costs_a_byte_a_poll(step: int, count: int) -> None:
    rng = random.Random(step)
    times = [chunks.T0 + step * n + rng.randint(20, 120) for n in range(count)]
    assert _tick_size(times) <= 1.01 * count


def test_doubles_as_they_are_keep_their_byte_order_on_any_machine() -> None:
    laid = byte_planes.doubles(array("d", [1.5]))
    assert laid == b"\x08" + struct.pack("<d", 1.5)
