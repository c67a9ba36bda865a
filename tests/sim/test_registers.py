"""The encoder against words that were worked out by hand."""

import pytest

from meterd.drivers.registers import RegisterMap, Row
from meterd.sim.registers import Value, encode, encode_row


def row(quantity: str, kind: str, words: int, unit: str, **more: object) -> Row:
    fields = {"function": 4, "address": 0, **more}
    return Row(quantity=quantity, type=kind, words=words, unit=unit, **fields)  # type: ignore[arg-type]


def table(*rows: Row) -> RegisterMap:
    return RegisterMap("test", "Maker", "Model", "by hand", "high", rows)


@pytest.mark.parametrize(
    ("kind", "words", "unit", "value", "expected"),
    [
        # 230.5 = 0 10000110 11001101000... : 0x43668000
        ("f32", 2, "V", 230.5, (0x4366, 0x8000)),
        # 1.0 as half, and -2.0 as double
        ("f16", 1, "V", 1.0, (0x3C00,)),
        ("f64", 4, "V", -2.0, (0xC000, 0, 0, 0)),
        ("u16", 1, "V", 230.4, (230,)),
        ("s16", 1, "V", -2.0, (0xFFFE,)),
        ("u32", 2, "V", 65_537.0, (1, 1)),
        ("s32", 2, "V", -1.0, (0xFFFF, 0xFFFF)),
        ("u64", 4, "V", 2.0**48 + 5, (1, 0, 0, 5)),
        ("s64", 4, "V", -2.0, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE)),
        ("bcd", 2, "V", 1_234_567.0, (0x0123, 0x4567)),
        ("bits", 1, "1", 5.0, (5,)),
        # 1500 W are 1.5 kW, and 1500 Wh are 1500 thousandths of a kWh.
        ("f32", 2, "kV", 1500.0, (0x3FC0, 0)),
        ("u16", 1, "mV", 1.5, (1500,)),
    ],
)
def test_a_number_becomes_these_words(
    kind: str, words: int, unit: str, value: float, expected: tuple[int, ...]
) -> None:
    assert encode_row(row("voltage.l1", kind, words, unit), value) == expected


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ({}, (0x1122, 0x3344)),
        ({"word_order": "little"}, (0x3344, 0x1122)),
        ({"byte_order": "little"}, (0x2211, 0x4433)),
        ({"word_order": "little", "byte_order": "little"}, (0x4433, 0x2211)),
    ],
)
def test_words_and_bytes_follow_their_orders(
    orders: dict[str, str], expected: tuple[int, ...]
) -> None:
    assert encode_row(row("voltage.l1", "u32", 2, "V", **orders), float(0x11223344)) == expected


def test_a_scale_divides() -> None:
    assert encode_row(row("voltage.l1", "u16", 1, "V", scale=0.1), 230.4) == (2304,)
    assert encode_row(row("active_energy.import", "u32", 2, "kWh", scale=0.01), 1234.0) == (0, 123)


def test_a_scale_register_tells_the_power_of_ten_for_all_its_rows() -> None:
    rows = (
        row("current.l1", "u16", 1, "A", address=10, scale_register=13),
        row("current.l2", "u16", 1, "A", address=11, scale_register=13),
        row("voltage.l1", "s16", 1, "V", address=20, scale_register=21, scale_factor=5.0),
    )
    values: dict[str, Value] = {"current.l1": 5.25, "current.l2": 99.5, "voltage.l1": 230.0}
    words = encode(table(*rows), values).words[4]
    # 99.5 A in thousandths would be above half of 65535, so hundredths; 230 V: 230/5 * 100.
    assert (words[10], words[11], words[13]) == (525, 9950, 0xFFFE)
    assert (words[20], words[21]) == (4600, 0xFFFE)


def test_a_counter_rolls_over_and_a_gauge_stops() -> None:
    counter = row("active_energy.import", "u16", 1, "Wh")
    assert encode_row(counter, 65_536.0 + 7) == (7,)
    assert encode_row(row("active_energy.import", "u32", 2, "Wh", wrap=1000), 2345.0) == (0, 345)
    assert encode_row(row("active_power", "s16", 1, "W"), 40_000.0) == (0x7FFF,)
    assert encode_row(row("active_power", "u16", 1, "W"), -5.0) == (0,)


def test_what_the_meter_does_not_have_is_its_own_word_for_that() -> None:
    sentinel = row("voltage.l2", "u16", 1, "V", na=(0xFFFF,))
    assert encode_row(sentinel, None) == (0xFFFF,)
    assert encode_row(sentinel, 70_000.0) == (0xFFFE,)
    assert encode_row(row("voltage.l2", "f32", 2, "V"), None) == (0x7FC0, 0)


def test_texts_have_two_characters_a_word() -> None:
    name = row("info.model", "str", 4, "1")
    assert encode_row(name, "SDM12") == (0x5344, 0x4D31, 0x3200, 0)
    swapped = row("info.model", "str", 1, "1", byte_order="little")
    assert encode_row(swapped, "AB") == (0x4241,)


def test_a_register_inside_another_value_shows_only_alone() -> None:
    rows = (
        row("voltage.l1", "u32", 2, "V", address=10),
        row("x.identity", "u16", 1, "1", address=11, alone=True),
    )
    image = encode(table(*rows), {"voltage.l1": 65_537.0, "x.identity": 104.0})
    assert image.words[4] == {10: 1, 11: 1}
    assert image.alone == {(4, 11, 1): (104,)}


def test_coils_are_bits() -> None:
    image = encode(table(row("alarm", "bits", 1, "1", function=2, address=3)), {"alarm": 1.0})
    assert image.words == {2: {3: 1}}


def test_what_nobody_knows_reads_one() -> None:
    words = encode(table(row("x.speed", "u16", 1, "rpm", scale=0.1)), {}).words[4]
    assert words == {0: 10}
