"""A whole Megatec unit: what is asked when, and what its answers mean."""

import contextlib
import itertools

import pytest

from meterd.drivers.backoff import LONGEST_PAUSE_S
from meterd.drivers.megatec import MegatecUps
from meterd.drivers.megatec.ups import FIRST_PAUSE_SILENT_S, MISSED_POLLS_BEFORE_RESET
from meterd.errors import LinkCode, LinkError, ProtocolError, Unsupported
from meterd.model.quantity import CATALOGUE, INFO
from meterd.model.sample import Quality
from meterd.testing import FakeClock, Reply, ScriptedLink
from tests.drivers.megatec.units import (
    F12,
    LINE,
    letters,
    named,
    options,
    read,
    scripted,
    transcript,
    values,
)


@pytest.mark.parametrize("chop", [0, 1, 10])
async def test_the_reference_unit_gives_every_value(chop: int) -> None:
    readings = await read(transcript("megatec_reference", chop=chop))
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
    for reading in (await read(transcript(f"megatec_{name}"))).values():
        if isinstance(reading.value, str):
            assert reading.quantity in INFO
            continue
        quantity = CATALOGUE[reading.quantity]
        assert quantity.unit == (reading.unit or "1")
        assert reading.value is None or quantity.plausible(reading.value)
        assert reading.value is not None or reading.reason


async def test_a_mustek_unit_is_found_and_means_its_output() -> None:
    link = transcript("megatec_mustek")
    readings = await read(link)
    # Its ratings have another shape than the documents': they are asked twice.
    assert link.sent == [b"Q1\r", b"QS\r", b"F\r", b"F\r", b"I\r"]
    assert values(readings, "output.frequency", "output.voltage.nominal") == [50.1, 230.0]
    assert "input.frequency" not in readings
    assert "output.frequency.nominal" not in readings
    assert readings["ups.beeper"].value == 1.0
    assert not [name for name in readings if name.startswith("info.")]


async def test_an_outage_and_a_commanded_shutdown() -> None:
    ups = MegatecUps(transcript("megatec_outage"), options())
    polls = [named(await ups.read()) for _ in range(6)]
    assert [letters(poll) for poll in polls] == ["ol", "ob", "ob lb", "ol", "ol fsd", "ol off"]
    assert [poll["battery.charge"].value for poll in polls] == [100, 77, 19, 19, 19, 19]
    assert polls[1]["input.voltage"].value == 4.6
    assert polls[1]["input.frequency"].value is None
    assert polls[5]["input.frequency"].value is None


async def test_a_shutdown_bit_that_is_always_set_shuts_nothing_down() -> None:
    link = transcript("megatec_stuck_shutdown_bit")
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
    readings = await read(transcript("megatec_cells"), runtimecal="240,100,720,50")
    assert values(readings, "battery.voltage", "battery.packs") == [40.86, 18.0]
    assert values(readings, "battery.charge", "battery.runtime") == [100.0, 720.0]
    assert values(readings, "info.manufacturer", "info.model") == ["On-Line Power", "1000 OL"]


async def test_ratings_and_names_are_asked_once_and_again_after_a_reopening() -> None:
    link = transcript("megatec_reference")
    ups = MegatecUps(link, options())
    first = await ups.read()
    assert await ups.read() == first
    assert link.sent == [b"Q1\r", b"F\r", b"I\r", b"Q1\r"]
    link.reopen()
    assert await ups.read() == first
    assert link.sent[4:] == [b"Q1\r", b"F\r", b"I\r"]


async def asked_for_an_hour(link: ScriptedLink, command: bytes) -> tuple[list[float], MegatecUps]:
    """When a unit that is polled each 2 s was asked this, and the driver."""
    clock = FakeClock(0.0)
    ups = MegatecUps(link, options(), monotonic=clock.monotonic)
    asked = []
    for _ in range(1800):
        known = link.sent.count(command)
        assert "battery.voltage.nominal" not in named(await ups.read())
        if link.sent.count(command) > known:
            asked.append(clock.now)
        clock.pass_by(2)
    clock.pass_by(LONGEST_PAUSE_S)
    return asked, ups


@pytest.mark.parametrize(
    ("answer", "first"), [(None, FIRST_PAUSE_SILENT_S), (b"(NAK\r", 5.0), (b"F\r", 5.0)]
)
async def test_a_question_without_an_answer_is_asked_again_after_growing_pauses(
    answer: bytes | None, first: float
) -> None:
    link = ScriptedLink({b"Q1\r": LINE.encode() + b"\r"})
    if answer is not None:
        link.script(b"F\r", answer)
    asked, ups = await asked_for_an_hour(link, b"F\r")
    pauses = [b - a for a, b in itertools.pairwise(asked)]
    expected = [min(first * 2**n, LONGEST_PAUSE_S) for n in range(len(pauses))]
    assert pauses == pytest.approx(expected, abs=2)
    assert len(asked) > 6
    link.script(b"F\r", F12)
    assert named(await ups.read())["battery.voltage.nominal"].value == 12.0
    count = link.sent.count(b"F\r")
    await ups.read()
    assert link.sent.count(b"F\r") == count


async def test_after_an_outage_the_unit_may_be_another_one() -> None:
    """Another unit on the same port: other ratings, and another dialect."""
    link = ScriptedLink({b"Q1\r": LINE.encode() + b"\r", b"F\r": F12})
    ups = MegatecUps(link, options())
    assert named(await ups.read())["battery.voltage.nominal"].value == 12.0
    gone = LinkError("no answer", code=LinkCode.TIMEOUT)
    for command in (b"Q1\r", b"QS\r", b"F\r"):
        link.script(command, gone)
    for _ in range(2 * MISSED_POLLS_BEFORE_RESET):
        with pytest.raises(LinkError):
            await ups.read()
    # Both dialects are asked at some polls only.
    assert 1 <= link.sent.count(b"QS\r") <= 2
    link.script(b"QS\r", LINE.encode() + b"\r")
    link.script(b"F\r", b"#220.0 003 24.00 50.0\r")
    for _ in range(MISSED_POLLS_BEFORE_RESET):
        with contextlib.suppress(LinkError):
            said = named(await ups.read())
    assert said["battery.voltage.nominal"].value == 24.0


async def test_a_dialect_taken_for_want_of_an_answer_is_not_kept_for_ever() -> None:
    """The first answer to Q1 is lost, QS is answered, too: most units know both."""
    lost = LinkError("no answer", code=LinkCode.TIMEOUT)
    line = LINE.encode() + b"\r"
    link = ScriptedLink({b"QS\r": line, b"F\r": F12})
    replies: list[Reply] = [lost, line]
    link.script(b"Q1\r", replies)
    clock = FakeClock()
    ups = MegatecUps(link, options(), monotonic=clock.monotonic)
    await ups.read()
    await ups.read()
    assert link.sent.count(b"QS\r") == 2
    clock.pass_by(FIRST_PAUSE_SILENT_S)
    await ups.read()
    await ups.read()
    assert link.sent[-3] == b"Q1\r"
    assert link.sent.count(b"QS\r") == 3


async def test_a_garbled_answer_to_a_question_is_left_out() -> None:
    readings = await read(scripted(LINE, f=b"#2x0.0 003 12.00 50.0\r"))
    assert "input.voltage.nominal" not in readings
    assert readings["input.voltage"].value == 226.0


async def test_what_locks_units_up_is_not_sent_when_switched_off() -> None:
    link = transcript("megatec_reference")
    ups = MegatecUps(link, options(ratings=False, vendor=False))
    await ups.read()
    link.reopen()
    await ups.read()
    assert link.sent == [b"Q1\r", b"Q1\r"]


async def test_a_fixed_protocol_is_the_only_one_asked() -> None:
    link = transcript("megatec_mustek")
    with pytest.raises(Unsupported):
        await read(link, protocol="megatec")
    assert link.sent == [b"Q1\r"]
    link = transcript("megatec_mustek")
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
    link = ScriptedLink({b"Q1\r": LinkError("gone", code=LinkCode.PORT_GONE)})
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


async def test_the_traffic_told_is_that_of_a_poll() -> None:
    link = transcript("megatec_reference")
    ups = MegatecUps(link, options())
    for _ in range(2):
        await ups.read()
    assert ups.traffic() == [(len(link.sent[-1]), len(LINE) + 1)]


def test_the_serial_defaults_are_those_of_the_documents() -> None:
    defaults = MegatecUps.link_defaults(options())
    assert defaults == MegatecUps.LINK_DEFAULTS
    assert (defaults["baud"], defaults["dtr"], defaults["rts"]) == ("2400", "1", "0")


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
