"""Registers in every decoding; the expected numbers are computed here by hand."""

from meterd.drivers.probing import Decoding, decodings


def by_key(data: str) -> dict[tuple[str, str], Decoding]:
    return {(one.type, one.order): one for one in decodings(bytes.fromhex(data))}


def test_a_float_shows_in_the_order_it_was_sent_in_and_in_no_other() -> None:
    # 0x43666666 is 230.4 as an IEEE 754 single.
    for order, data in {
        "ABCD": "43666666",
        "CDAB": "66664366",
        "BADC": "66436666",
        "DCBA": "66666643",
    }.items():
        found = by_key(data)
        assert found["f32", order].value == 230.4
        voltages = [key for key, one in found.items() if "voltage" in one.looks_like]
        assert voltages == [("f32", order)]


def test_integers_have_a_sign_or_none_and_four_orders() -> None:
    found = by_key("fffe0001")
    assert found["hex", ""].value == "fffe"
    assert found["u16", ""].value == 65534
    assert found["s16", ""].value == -2
    assert found["u32", "ABCD"].value == 0xFFFE0001
    assert found["s32", "ABCD"].value == -131071
    assert found["u32", "CDAB"].value == 0x0001FFFE
    assert found["u32", "BADC"].value == 0xFEFF0100
    assert found["u32", "DCBA"].value == 0x0100FEFF


def test_one_register_shows_what_one_register_can_hold() -> None:
    found = by_key("1388")
    assert {kind for kind, _ in found} == {"hex", "u16", "s16", "bcd", "str"}
    assert found["u16", ""].looks_like == "frequency, scale 0.01"
    assert found["bcd", ""].value == "1388"


def test_four_registers_show_64_bits_too() -> None:
    found = by_key("0000000000000007")
    assert found["u64", "ABCD"].value == 7
    assert found["u64", "CDAB"].value == 7 << 48
    assert found["f64", "ABCD"].value == 3.5e-323
    assert by_key("406ccccccccccccd")["f64", "ABCD"].looks_like == "voltage"


def test_texts_end_at_their_padding() -> None:
    found = by_key(b"SDM630\0\0".hex())
    assert (found["str", ""].value, found["str", ""].looks_like) == ("SDM630", "text")
    assert by_key("01020304")["str", ""].value is None


def test_what_is_not_available_or_no_digits_is_no_value() -> None:
    found = by_key("7fc00000")
    assert (found["f32", "ABCD"].value, found["f32", "ABCD"].looks_like) == (None, "not available")
    assert found["bcd", ""].value is None


def test_a_scaled_voltage_is_marked_with_its_scale() -> None:
    assert by_key("08fe")["u16", ""].looks_like == "voltage, scale 0.1"  # 2302
    assert by_key("00e6")["u16", ""].looks_like == "voltage"  # 230
    assert by_key("0000")["u16", ""].looks_like == ""


def test_three_registers_show_48_bits_too() -> None:
    found = by_key("000000010002")
    assert found["u48", "ABCD"].value == 65538
    assert found["s48", "CDAB"].value == 2 << 32 | 1 << 16
    assert by_key("ffffffffffff")["s48", "ABCD"].value == -1


def test_a_sign_apart_shows_where_it_can_be_one() -> None:
    found = by_key("88fd")
    assert (found["m16", ""].value, found["m16", ""].looks_like) == (-2301, "voltage, scale 0.1")
    assert by_key("00058000")["m32", "CDAB"].value == -5
    assert ("m16", "") not in by_key("08fd")
    assert ("m16", "") not in by_key("8000")


def test_groups_of_decimals_show_where_they_can_be_some() -> None:
    found = by_key("0001270f")
    assert found["m10k 2", "ABCD"].value == 19999
    assert found["m10k 2", "CDAB"].value == 99990001
    assert by_key("0000000000012710").keys().isdisjoint({("m10k 4", "ABCD"), ("m10k 4", "CDAB")})
    assert by_key("0001000200030004")["m10k 4", "ABCD"].value == 1000200030004
