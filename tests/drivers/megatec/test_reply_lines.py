"""The lines of a Megatec unit: what is cut out of them, and what is not believed."""

import random
import re

import pytest

from meterd.drivers.megatec.reply_lines import (
    MEGATEC,
    MUSTEK,
    parse_info,
    parse_ratings,
    parse_status,
)
from meterd.errors import ProtocolError
from meterd.model.sample import Quality
from tests.drivers.megatec.units import LINE


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("(226.0  195.0   226.0 014 49.0 27.5 30.0 00001000 ", "output.voltage", 226.0),
        ("( 226.0 195.0 226.0 014 49.0 27.5 30.0 00001000", "input.voltage", 226.0),
        ("(226.0 195.0 226.0 014 49.0 0109 30.0 00001000", "battery.voltage", 109.0),
        ("(226.0 195.0 226.0 104 49.0 2.27 30.0 00001000", "battery.voltage", 2.27),
        ("(226. 195.0 226.0 104 49.0 27.5 30.0 00001000", "input.voltage", 226.0),
        ("(226.0 195.0 226.0 123 49.0 27.5 30.0 00001000", "ups.load", 123.0),
        ("(226.0 195.0 226.0 014 49.0 27.5 --.- 00001000", "ups.temperature", None),
        ("(226.0 195.0 226.0 014 49.0 27.5 @@.@ 00001000", "ups.temperature", None),
        ("(226.0 @@@.@ 226.0 @@@ 49.0 27.5 30.0 00001000", "ups.load", None),
        ("(226.0 ---.- 226.0 014 49.0 27.5 30.0 00001000", "input.voltage.fault", None),
        ("(226.0 195.0 226.0 014 --.- -.-- 30.0 00001000", "battery.voltage", None),
        ("(726.0 195.0 226.0 014 49.0 27.5 30.0 00001000", "input.voltage", None),
        ("(226.0 195.0 226.0 014 79.0 27.5 30.0 00001000", "input.frequency", None),
        ("(226.0 195.0 226.0 014 19.0 27.5 30.0 00001000", "input.frequency", None),
        ("(226.0 195.0 226.0 014 00.0 27.5 30.0 00001000", "input.frequency", 0.0),
        ("(226.0 195.0 226.0 014 49.0 27.5 100.1 00001000", "ups.temperature", None),
        ("(226.0 195.0 226.0 014 49.0 27.5 -5.0 00001000", "ups.temperature", -5.0),
        ("(226.0 195.0 226.0 014 49.0 27.5 -99. 00001000", "ups.temperature", None),
        ("(226.0 195.0 226.0 014 49.0 27.5 ##.# 00001000", "ups.temperature", None),
    ],
)
def test_one_field_of_a_status_line(line: str, name: str, value: float | None) -> None:
    reading = parse_status(line, MEGATEC).fields[name]
    assert reading.value == value
    assert bool(reading.reason) == (value is None)
    assert (reading.quality is Quality.INVALID) == (value is None)


@pytest.mark.parametrize(
    "line",
    [
        "(",
        "(226.0 195.0 226.0 014 49.0 27.5 00001000",
        "(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000 1",
        "(226.0 195.0 226.0 014 49.0 27.5 30.0 0000100",
        "(226.0 195.0 226.0 014 49.0 27.5 30.0 000010000",
        "(226.0 195.0 226.0 014 49.0 27.5 30.0 0000100x",
        "(226.0 195.0 226.0 014 49.0 27.5 30.0 @@@@@@@@",
        "(226.0 195.0 226.0 -14 49.0 27.5 30.0 00001000",
        "(226.0 195.0 226.0 +14 49.0 27.5 30.0 00001000",
        "(2e2.0 195.0 226.0 014 49.0 27.5 30.0 00001000",
        "(22@.0 195.0 226.0 014 49.0 27.5 30.0 00001000",
        "(#26.0 195.0 226.0 014 49.0 27.5 30.0 00001000",
        "(226.0.195.0 226.0 014 49.0 27.5 30.0 00001000",
        "(226.0 195.0 226.0 nan 49.0 27.5 30.0 00001000",
        "(226.0 195.0 226.0 1_4 49.0 27.5 30.0 00001000",
        "(226.0 195.0 226.0 . 49.0 27.5 30.0 00001000",
        "(226.0 195.0 226.0 .5 49.0 27.5 30.0 00001000",
        "(226.0 195.0 226.0 014 49.0 27.5 30.0\u00a000001000",
        "(ACK",
    ],
)
def test_another_shape_is_refused_as_a_whole(line: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_status(line, MEGATEC)
    assert caught.value.code == "garbled"


def oracle(line: str) -> list[float | None] | None:
    """The seven numbers by another way: character by character, no regular expression."""
    words = [word for word in line[1:].split(" ") if word]
    if len(words) != 8 or len(words[7]) != 8 or set(words[7]) - {"0", "1"}:
        return None
    found: list[float | None] = []
    bounds = [(0, 600)] * 3 + [(0, 999), (40, 70), (0, 600), (-40, 100)]
    for word, (low, high) in zip(words[:7], bounds, strict=True):
        if not set(word) - set("@-.#") and word.lstrip(".")[:1] in set("@-#"):
            found.append(None)
            continue
        sign = -1 if low < 0 and word.startswith("-") else 1
        whole, _, rest = word.removeprefix("-" if sign < 0 else "").partition(".")
        if not whole or set(whole + rest) - set("0123456789"):
            return None
        value = sign * (int(whole) + (int(rest) / 10 ** len(rest) if rest else 0))
        found.append(value if value == 0 or low <= value <= high else None)
    return found


def noisy(rng: random.Random, line: bytearray) -> None:
    """One mishap of a serial line."""
    at = rng.randrange(len(line))
    match rng.randrange(5):
        case 0 | 1:
            line[at] ^= 1 << rng.randrange(8)
        case 2:
            del line[at]
        case 3:
            line.insert(at, rng.randrange(256))
        case _:
            line[at] = rng.choice(b"0123456789 .@-(#")


def test_noise_never_gives_what_the_line_does_not_say() -> None:
    rng = random.Random(2400)  # fixed: a failure has to come again
    accepted = 0
    for _ in range(100_000):
        raw = bytearray(LINE.encode())
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            noisy(rng, raw)
        line = raw.decode("latin-1")
        if re.search(r"[^ -~]", line) or not line.startswith("("):
            continue  # the wire drops these
        try:
            status = parse_status(line, MEGATEC)
        except ProtocolError:
            assert oracle(line) is None, line
            continue
        accepted += 1
        got = [reading.value for reading in status.fields.values()]
        assert got == pytest.approx(oracle(line)), line
        assert status.bits == line.split()[-1]
    assert 1000 < accepted < 90_000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#220.0 003 12.00 50.0", [220, 3, 12, 50]),
        ("#220.0 2.8 096.0 60.0", [220, 2.8, 96, 60]),
        ("#230.0 000 23.50 50.0", [230, None, 23.5, 50]),
        ("#000.0 000 00.00 00.0", [None, None, None, None]),
        ("#230.0 002 12.00", [230, 2, 12]),
        ("#@@@.@ --- 12.00 50.0", [None, None, 12, 50]),
        ("#230.0 002 271.1 50.0", [230, 2, 271.1, 50]),
    ],
)
def test_ratings(line: str, expected: list[float | None]) -> None:
    readings = parse_ratings(line, MEGATEC)
    assert [reading.value for reading in readings] == expected
    assert all(reading.reason for reading in readings if reading.value is None)


@pytest.mark.parametrize("line", ["#", "#220.0 003", "#220.0 003 12.00 50.0 1", "#220.O 003 12.00"])
def test_ratings_of_another_shape_are_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        parse_ratings(line, MUSTEK)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"#{'MUSTEK':15} {'PowerMust':10} {'B10.10':10}", ["MUSTEK", "PowerMust", "B10.10"]),
        (f"#{'Two Words Ltd':15} {'UPS 1000':10} {'V 1':10}", ["Two Words Ltd", "UPS 1000", "V 1"]),
        (f"#{'':15} {'':10} {'VT12046Q':10}", ["VT12046Q"]),
        (f"#{'':15} {'######':10} {'':10}", []),
        (f"#{'@@@':15} {'-----':10} {'V1':10}", ["V1"]),
        (f"#{'ACME':7}{'SN123456'} {'M1000':5}{'00120'} {'FW1.23':9}", None),
        (f"#{'MUSTEK':15} {'PowerMust':10} {'B10.10':9}", ["MUSTEK", "PowerMust", "B10.10"]),
    ],
)
def test_names_are_cut_by_position(line: str, expected: list[str] | None) -> None:
    readings = parse_info(line)
    if expected is None:
        assert {reading.quantity: reading.value for reading in readings} == {
            "info.manufacturer": "ACME",
            "info.serial_number": "SN123456",
            "info.model": "M1000",
            "info.firmware": "FW1.23",
        }
        return
    assert [reading.value for reading in readings] == expected


@pytest.mark.parametrize("line", ["#220.0 003 12.00 50.0", "#", "#" + "x" * 60])
def test_names_of_another_size_are_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        parse_info(line)
