"""A Megatec UPS: what each answer means, and what is not believed."""

import random
import re
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from meterd.drivers.megatec import MegatecOptions, MegatecUps
from meterd.drivers.megatec.battery import guess_packs
from meterd.drivers.megatec.lines import MEGATEC, MUSTEK, cut_info, cut_ratings, cut_status
from meterd.drivers.megatec.ups import RETRY_READS
from meterd.errors import LinkError, ProtocolError, Unsupported
from meterd.model.quantity import CATALOGUE, INFO
from meterd.model.sample import Quality, Reading
from tests.scripted import ScriptedLink

F12 = b"#220.0 003 12.00 50.0\r"
LINE = "(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"


def options(**keys: object) -> MegatecOptions:
    return MegatecOptions.model_validate(keys)


def scripted(*status: str, command: bytes = b"Q1\r", f: bytes = F12) -> ScriptedLink:
    """A link whose unit gives these status lines one after the other."""
    return ScriptedLink({command: [line.encode() + b"\r" for line in status], b"F\r": f})


async def read(link: ScriptedLink, **keys: object) -> dict[str, Reading]:
    return named(await MegatecUps(link, options(**keys)).read())


def named(readings: Sequence[Reading]) -> dict[str, Reading]:
    found = {reading.quantity: reading for reading in readings}
    assert len(found) == len(readings), "a quantity twice"
    return found


def values(readings: dict[str, Reading], *names: str) -> list[float | str | None]:
    return [readings[name].value for name in names]


def letters(readings: dict[str, Reading]) -> str:
    """The letters that are 1, blank between; those not known with a question mark."""
    words = []
    for name, reading in readings.items():
        if name.startswith("ups.status."):
            word = name.removeprefix("ups.status.")
            words += [word] if reading.value == 1 else [f"{word}?"] * (reading.value is None)
    return " ".join(words)


# -- whole units, from transcripts -----------------------------------------------------------


@pytest.mark.parametrize("chop", [0, 1, 10])
async def test_the_reference_unit_gives_every_value(chop: int) -> None:
    readings = await read(ScriptedLink.from_transcript("megatec_reference", chop=chop))
    assert {name: r.value for name, r in readings.items() if "status" not in name} == {
        "input.voltage": 226.0,
        "input.voltage.fault": 195.0,
        "output.voltage": 226.0,
        "ups.load": 14.0,
        "input.frequency": 49.0,
        "ups.temperature": 30.0,
        "battery.voltage": 27.5,
        "battery.packs": 1.0,
        "battery.voltage.low": 20.8,
        "battery.voltage.high": 26.0,
        "battery.charge": 100.0,
        "ups.beeper": 0.0,
        "input.voltage.nominal": 220.0,
        "input.current.nominal": 3.0,
        "battery.voltage.nominal": 24.0,
        "input.frequency.nominal": 50.0,
        "info.manufacturer": "Megatec",
        "info.model": "PowerOne",
        "info.firmware": "V2.70",
    }
    assert letters(readings) == "ol"


@pytest.mark.parametrize("name", ["reference", "mustek", "outage", "stuck_shutdown_bit", "cells"])
async def test_every_reading_is_in_the_catalogue_with_its_unit(name: str) -> None:
    for reading in (await read(ScriptedLink.from_transcript(f"megatec_{name}"))).values():
        if isinstance(reading.value, str):
            assert reading.quantity in INFO
            continue
        quantity = CATALOGUE[reading.quantity]
        assert quantity.unit == reading.unit
        assert reading.value is None or quantity.plausible(reading.value)
        assert reading.value is not None or reading.reason


async def test_a_mustek_unit_is_found_and_means_its_output() -> None:
    link = ScriptedLink.from_transcript("megatec_mustek")
    readings = await read(link)
    assert link.sent == [b"Q1\r", b"QS\r", b"F\r", b"I\r"]
    assert values(readings, "output.frequency", "output.voltage.nominal") == [50.1, 230.0]
    assert "input.frequency" not in readings
    assert "output.frequency.nominal" not in readings
    assert readings["ups.beeper"].value == 1.0
    assert not [name for name in readings if name.startswith("info.")]


async def test_an_outage_and_a_commanded_shutdown() -> None:
    ups = MegatecUps(ScriptedLink.from_transcript("megatec_outage"), options())
    polls = [named(await ups.read()) for _ in range(6)]
    assert [letters(poll) for poll in polls] == ["ol", "ob", "ob lb", "ol", "ol fsd", "ol off"]
    assert [poll["battery.charge"].value for poll in polls] == [100, 77, 19, 96, 100, 100]
    assert polls[1]["input.voltage"].value == 4.6
    assert polls[1]["input.frequency"].value is None
    assert polls[5]["input.frequency"].value is None


async def test_a_shutdown_bit_that_is_always_set_shuts_nothing_down() -> None:
    link = ScriptedLink.from_transcript("megatec_stuck_shutdown_bit")
    ups = MegatecUps(link, options())
    for _ in range(3):
        readings = named(await ups.read())
        assert letters(readings) == "ol fsd?"
        assert "ignore_shutdown_bit" in readings["ups.status.fsd"].reason
        assert readings["ups.temperature"].value is None
    assert readings["battery.voltage.nominal"].value == 11.5
    assert readings["input.current.nominal"].value is None
    ignoring = await read(link, ignore_shutdown_bit=True)
    assert "ups.status.fsd" not in ignoring


async def test_one_cell_is_counted_up_to_the_whole_battery() -> None:
    readings = await read(
        ScriptedLink.from_transcript("megatec_cells"), runtimecal="240,100,720,50"
    )
    assert values(readings, "battery.voltage", "battery.packs") == [40.86, 18.0]
    assert values(readings, "battery.charge", "battery.runtime") == [100.0, 720.0]
    assert values(readings, "info.manufacturer", "info.model") == ["On-Line Power", "1000 OL"]


# -- asking ----------------------------------------------------------------------------------


async def test_ratings_and_names_are_asked_once_and_again_after_a_reopening() -> None:
    link = ScriptedLink.from_transcript("megatec_reference")
    ups = MegatecUps(link, options())
    first = await ups.read()
    assert await ups.read() == first
    assert link.sent == [b"Q1\r", b"F\r", b"I\r", b"Q1\r"]
    link.reopen()
    assert await ups.read() == first
    assert link.sent[4:] == [b"Q1\r", b"F\r", b"I\r"]


async def test_silent_questions_are_asked_again_only_much_later() -> None:
    link = ScriptedLink({b"Q1\r": LINE.encode() + b"\r"})
    ups = MegatecUps(link, options())
    for _ in range(RETRY_READS):
        assert "battery.voltage.nominal" not in named(await ups.read())
    assert link.sent.count(b"F\r") == link.sent.count(b"I\r") == 1
    link.script(b"F\r", F12)
    assert named(await ups.read())["battery.voltage.nominal"].value == 12.0
    assert link.sent.count(b"F\r") == 2


async def test_a_garbled_answer_to_a_question_is_left_out() -> None:
    readings = await read(scripted(LINE, f=b"#2x0.0 003 12.00 50.0\r"))
    assert "input.voltage.nominal" not in readings
    assert readings["input.voltage"].value == 226.0


async def test_what_locks_units_up_is_not_sent_when_switched_off() -> None:
    link = ScriptedLink.from_transcript("megatec_reference")
    ups = MegatecUps(link, options(ratings=False, vendor=False))
    await ups.read()
    link.reopen()
    await ups.read()
    assert link.sent == [b"Q1\r", b"Q1\r"]


async def test_a_fixed_protocol_is_the_only_one_asked() -> None:
    link = ScriptedLink.from_transcript("megatec_mustek")
    with pytest.raises(Unsupported):
        await read(link, protocol="megatec")
    assert link.sent == [b"Q1\r"]
    link = ScriptedLink.from_transcript("megatec_mustek")
    await read(link, protocol="mustek", ratings=False, vendor=False)
    assert link.sent == [b"QS\r"]


async def test_a_silent_unit_is_a_timeout_after_both_questions() -> None:
    link = ScriptedLink({})
    with pytest.raises(LinkError) as caught:
        await read(link)
    assert caught.value.code == "timeout"
    assert link.sent == [b"Q1\r", b"QS\r"]


async def test_a_unit_that_only_echoes_is_unsupported() -> None:
    with pytest.raises(Unsupported):
        await read(ScriptedLink({b"Q1\r": b"Q1\r", b"QS\r": b"QS\r"}))


async def test_a_port_that_is_gone_is_not_probed_further() -> None:
    link = ScriptedLink({b"Q1\r": LinkError("gone", code="port_gone")})
    with pytest.raises(LinkError) as caught:
        await read(link)
    assert caught.value.code == "port_gone"
    assert link.sent == [b"Q1\r"]


async def test_garbage_in_the_first_answer_does_not_bind_the_wrong_protocol() -> None:
    good = LINE.encode() + b"\r"
    link = ScriptedLink({b"Q1\r": [b"\x81\x12garbage\r", good], b"QS\r": good})
    assert "input.frequency" in await read(link)
    assert b"QS\r" not in link.sent


async def test_a_garbled_line_later_on_is_an_error_and_no_value() -> None:
    link = scripted(LINE, LINE[:-1], LINE)
    ups = MegatecUps(link, options())
    await ups.read()
    with pytest.raises(ProtocolError):
        await ups.read()
    assert named(await ups.read())["input.voltage"].value == 226.0


async def test_after_a_reopening_the_other_protocol_is_found() -> None:
    link = scripted(LINE)
    ups = MegatecUps(link, options())
    await ups.read()
    link.reopen()
    link.script(b"Q1\r", b"N\r")
    link.script(b"QS\r", LINE.encode() + b"\r")
    assert "output.frequency" in named(await ups.read())


def test_the_serial_defaults_are_those_of_the_documents() -> None:
    defaults = MegatecUps.link_defaults(options())
    assert defaults == MegatecUps.LINK_DEFAULTS
    assert (defaults["baud"], defaults["dtr"], defaults["rts"]) == ("2400", "1", "0")


# -- the status line -------------------------------------------------------------------------


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
    ],
)
def test_one_field_of_a_status_line(line: str, name: str, value: float | None) -> None:
    reading = cut_status(line, MEGATEC).fields[name]
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
        cut_status(line, MEGATEC)
    assert caught.value.code == "garbled"


def oracle(line: str) -> list[float | None] | None:
    """The seven numbers by another way: character by character, no regular expression."""
    words = [word for word in line[1:].split(" ") if word]
    if len(words) != 8 or len(words[7]) != 8 or set(words[7]) - {"0", "1"}:
        return None
    found: list[float | None] = []
    bounds = [(0, 600)] * 3 + [(0, 999), (40, 70), (0, 600), (0, 100)]
    for word, (low, high) in zip(words[:7], bounds, strict=True):
        if not set(word) - set("@-.") and set(word) & set("@-"):
            found.append(None)
            continue
        whole, _, rest = word.partition(".")
        if not whole or set(whole + rest) - set("0123456789"):
            return None
        value = int(whole) + (int(rest) / 10 ** len(rest) if rest else 0)
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
            status = cut_status(line, MEGATEC)
        except ProtocolError:
            assert oracle(line) is None, line
            continue
        accepted += 1
        got = [reading.value for reading in status.fields.values()]
        assert got == pytest.approx(oracle(line)), line
        assert status.bits == line.split()[-1]
    assert 1000 < accepted < 90_000


# -- status letters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "source", "output", "load", "expected"),
    [
        ("00001000", "230.0", "230.0", "014", "ol"),
        ("10001001", "004.0", "230.0", "014", "ob"),
        ("10001001", "230.0", "230.0", "014", "ob"),
        ("11001000", "004.0", "230.0", "014", "ob lb"),
        ("01001000", "230.0", "230.0", "014", "ol lb"),
        ("00101000", "250.0", "230.0", "014", "ol trim"),
        ("00101000", "230.0", "230.0", "014", "ol bypass"),
        ("00101000", "200.0", "230.0", "014", "ol boost"),
        ("00101000", "230.0", "100.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "100.0", "230.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "000.0", "230.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "---.-", "230.0", "014", "ol trim? bypass? boost?"),
        ("10101000", "000.0", "230.0", "014", "ob"),
        ("00011000", "230.0", "230.0", "014", "ol alarm"),
        ("00001100", "230.0", "230.0", "014", "ol cal test"),
        ("10001100", "230.0", "230.0", "014", "ob cal test"),
        ("00001000", "230.0", "000.0", "000", "ol off"),
        ("00001000", "230.0", "009.9", "000", "ol off"),
        ("00001000", "230.0", "010.0", "000", "ol"),
        ("00001000", "230.0", "@@@.@", "000", "ol off?"),
        ("10001000", "000.0", "000.0", "000", "ob off?"),
        ("00001000", "230.0", "230.0", "101", "ol over"),
        ("00001000", "230.0", "230.0", "100", "ol"),
        ("00001000", "230.0", "230.0", "---", "ol over?"),
        ("00000000", "230.0", "230.0", "014", "ol"),
    ],
)
async def test_letters(bits: str, source: str, output: str, load: str, expected: str) -> None:
    line = f"({source} 195.0 {output} {load} 50.0 13.5 30.0 {bits}"
    assert letters(await read(scripted(line))) == expected


async def fsd(link: ScriptedLink, ups: MegatecUps) -> float | str | None:
    return named(await ups.read())["ups.status.fsd"].value


CLEAR = LINE
SET = LINE.replace("00001000", "00001010")


async def test_a_shutdown_bit_that_falls_first_counts_when_it_rises() -> None:
    link = scripted(SET, CLEAR, SET, SET, CLEAR)
    ups = MegatecUps(link, options())
    assert [await fsd(link, ups) for _ in range(5)] == [None, 0.0, 1.0, 1.0, 0.0]


async def test_a_shutdown_goes_on_across_a_reopening() -> None:
    link = scripted(CLEAR, SET, SET)
    ups = MegatecUps(link, options())
    assert [await fsd(link, ups) for _ in range(2)] == [0.0, 1.0]
    link.reopen()
    assert await fsd(link, ups) == 1.0


async def test_another_unit_with_a_stuck_bit_shuts_nothing_down() -> None:
    link = scripted(CLEAR, SET)
    ups = MegatecUps(link, options())
    assert await fsd(link, ups) == 0.0
    link.reopen()
    assert await fsd(link, ups) is None


async def test_after_the_shutdown_mains_with_no_output_is_off_not_fsd() -> None:
    off = "(228.3 228.3 000.0 000 00.0 13.2 30.0 00001010"
    assert letters(await read(scripted(off))) == "ol off"


# -- fields that mean something else than they say ---------------------------------------------


async def test_frequency_on_battery_is_not_that_of_the_input() -> None:
    on_battery = LINE.replace("00001000", "10001000")
    readings = await read(scripted(on_battery))
    assert readings["input.frequency"].value is None
    assert "on battery" in readings["input.frequency"].reason
    mustek = await read(scripted(on_battery, command=b"QS\r"))
    assert mustek["output.frequency"].value == 49.0


@pytest.mark.parametrize(
    ("filler", "value", "quality"),
    [("25.0", 25.0, Quality.SUSPECT), ("00.0", None, Quality.INVALID)],
)
async def test_a_temperature_filler_counts_once_a_thermometer_is_proven(
    filler: str, value: float | None, quality: Quality
) -> None:
    link = scripted(*(LINE.replace("30.0", word) for word in (filler, "24.9", filler)))
    ups = MegatecUps(link, options())
    first, second, third = [named(await ups.read())["ups.temperature"] for _ in range(3)]
    assert (first.value, first.quality) == (value, quality)
    assert "thermometer" in first.reason
    assert (second.value, second.quality) == (24.9, Quality.GOOD)
    assert (third.value, third.quality) == (float(filler), Quality.GOOD)


# -- ratings and names -----------------------------------------------------------------------


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
    readings = cut_ratings(line, MEGATEC)
    assert [reading.value for reading in readings] == expected
    assert all(reading.reason for reading in readings if reading.value is None)


@pytest.mark.parametrize("line", ["#", "#220.0 003", "#220.0 003 12.00 50.0 1", "#220.O 003 12.00"])
def test_ratings_of_another_shape_are_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        cut_ratings(line, MUSTEK)


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
    readings = cut_info(line)
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
        cut_info(line)


# -- the battery -----------------------------------------------------------------------------


def at(volts: str, load: str = "050", bits: str = "00001000") -> str:
    return f"(230.0 230.0 230.0 {load} 50.0 {volts} 30.0 {bits}"


async def test_the_check_value_of_charge_and_runtime() -> None:
    readings = await read(scripted(at("12.2")), runtimecal="240,100,720,50")
    assert values(readings, "battery.voltage.low", "battery.voltage.high") == [10.4, 13.0]
    assert values(readings, "battery.charge", "battery.runtime") == [69.0, 497.0]
    for name in ("battery.charge", "battery.runtime"):
        assert readings[name].quality is Quality.ESTIMATED
        assert readings[name].reason


async def test_an_idle_ups_still_uses_a_tenth() -> None:
    readings = await read(scripted(at("13.5", "000")), runtimecal=[240, 100, 720, 50])
    assert readings["battery.runtime"].value == 2400.0


@pytest.mark.parametrize(("volts", "load"), [("12.2", "---"), ("--.-", "050")])
async def test_a_runtime_without_load_or_charge_is_not_known(volts: str, load: str) -> None:
    readings = await read(scripted(at(volts, load)), runtimecal="240,100,720,50")
    assert readings["battery.runtime"].value is None
    assert "not known" in readings["battery.runtime"].reason


async def test_without_a_calibration_there_is_no_runtime() -> None:
    assert "battery.runtime" not in await read(scripted(at("12.2")))


async def test_a_nominal_voltage_of_zero_gives_no_thresholds_and_no_charge() -> None:
    readings = await read(scripted(at("13.5"), f=b"#230.0 003 00.00 50.0\r"))
    assert readings["battery.voltage"].value == 13.5
    assert readings["battery.voltage.nominal"].value is None
    assert not {"battery.charge", "battery.voltage.low", "battery.packs"} & set(readings)


async def test_settings_override_what_the_unit_says() -> None:
    battery = {"nominal": "24V", "packs": 2, "low": "20V", "high": 28}
    readings = await read(scripted(at("12.0")), battery=battery)
    names = ("battery.voltage", "battery.voltage.nominal", "battery.packs", "battery.charge")
    assert values(readings, *names) == [24.0, 24.0, 2.0, 50.0]
    assert values(readings, "battery.voltage.low", "battery.voltage.high") == [20.0, 28.0]


async def test_packs_that_cannot_be_give_no_charge_instead_of_0() -> None:
    readings = await read(scripted(at("2.27")), battery={"nominal": "12V", "packs": 1})
    assert readings["battery.voltage"].value == 2.27
    assert readings["battery.charge"].value is None
    assert "battery.packs" in readings["battery.charge"].reason


async def test_one_threshold_on_the_wrong_side_of_the_other_gives_no_charge() -> None:
    readings = await read(scripted(at("12.2")), battery={"low": 14})
    assert readings["battery.charge"].value is None
    assert "battery.high" in readings["battery.charge"].reason


async def test_the_factor_is_found_once_and_kept() -> None:
    # 9.9 V of a 24 V battery alone would be taken for one of three.
    link = scripted(at("13.6"), at("09.9"), f=b"#230.0 003 24.00 50.0\r")
    ups = MegatecUps(link, options())
    polls = [named(await ups.read()) for _ in range(2)]
    assert [poll["battery.voltage"].value for poll in polls] == [27.2, 19.8]
    link.reopen()
    assert named(await ups.read())["battery.voltage"].value == 19.8


async def test_a_voltage_that_fits_nothing_is_given_as_it_came() -> None:
    link = scripted(at("0000"), at("09.0"), at("13.0"))
    ups = MegatecUps(link, options())
    polls = [named(await ups.read()) for _ in range(3)]
    assert [poll["battery.voltage"].value for poll in polls] == [0.0, 9.0, 13.0]
    assert ["battery.packs" in poll for poll in polls] == [False, False, True]
    assert [poll["battery.charge"].value for poll in polls] == [None, 0.0, 100.0]


@pytest.mark.parametrize(
    ("volts", "nominal", "packs"),
    [
        (13.5, 12, 1),
        (27.2, 24, 1),
        (13.6, 24, 2),
        (27.0, 23.5, 1),
        (2.27, 12, 6),
        (1.64, 36, 18),
        (2.31, 36, 18),
        (1.74, 72, 36),
        (2.29, 96, 48),
        (54.6, 48, 1),
        (109, 96, 1),
        (15.0, 12, 1),
        (15.1, 12, None),
        (26.8, 12, 0.5),
        (8.0, 12, None),
        (0.9, 2, 2),
    ],
)
def test_packs_by_cells_or_the_table(volts: float, nominal: float, packs: float | None) -> None:
    assert guess_packs(volts, nominal) == packs


# -- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "volts"), [("12V", 12.0), ("12 V", 12.0), (48, 48.0), ("13.5", 13.5)]
)
def test_volts_are_written_with_or_without_their_unit(text: object, volts: float) -> None:
    assert options(battery={"nominal": text}).battery.nominal == volts


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"battery": {"nominal": "12A"}}, "12V or 12"),
        ({"battery": {"nominal": "nan"}}, "12V or 12"),
        ({"battery": {"nominal": float("nan")}}, "greater than 0|finite"),
        ({"battery": {"nominal": 0}}, "greater than 0"),
        ({"battery": {"nominal": "-12V"}}, "12V or 12"),
        ({"battery": {"packs": 0}}, "greater than 0"),
        ({"battery": {"low": 13, "high": "10V"}}, "less than battery.high"),
        ({"battery": {"volts": 12}}, "Extra inputs"),
        ({"protocol": "q1"}, "'auto', 'megatec' or 'mustek'"),
        ({"runtimecal": "240,100"}, "runtimecal|required"),
        ({"runtimecal": "a,b,c,d"}, "four numbers"),
        ({"runtimecal": "720,50,240,100"}, "smaller load comes second"),
        ({"runtimecal": [240, 100, 720, 0]}, "greater than 0"),
        ({"baud": 2400}, "Extra inputs"),
    ],
)
def test_wrong_options_say_what_is_right(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        options(**keys)
