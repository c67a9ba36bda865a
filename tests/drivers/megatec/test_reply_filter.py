"""Lost and doubled bytes: what is believed of lines that are not as the documents draw them."""

import random

import pytest

from meterd.drivers.megatec import MegatecUps
from meterd.errors import ProtocolError, Unsupported
from meterd.testing import ScriptedLink
from tests.drivers.megatec.units import F12, LINE, named, options, read, scripted, values

LOST = LINE.replace("(226.0", "(22.0")
ODD = LINE.replace("014", "14")


async def test_a_byte_lost_on_the_way_is_no_voltage() -> None:
    link = scripted(LINE, LOST, LINE)
    ups = MegatecUps(link, options())
    polls = [named(await ups.read()) for _ in range(2)]
    assert [poll["input.voltage"].value for poll in polls] == [226.0, 226.0]
    assert link.sent.count(b"Q1\r") == 3


async def test_lines_that_lose_bytes_here_and_there_give_nothing() -> None:
    link = scripted(LINE, LOST, LINE.replace("014", "0144"))
    ups = MegatecUps(link, options())
    await ups.read()
    with pytest.raises(ProtocolError, match="loses bytes"):
        await ups.read()
    assert link.counters["garbled"] == 1


async def test_a_unit_with_widths_of_its_own_is_asked_twice_only_once() -> None:
    link = scripted(ODD)
    ups = MegatecUps(link, options())
    for _ in range(3):
        assert named(await ups.read())["ups.load"].value == 14.0
    assert link.sent.count(b"Q1\r") == 4


async def test_a_shape_that_stays_is_the_units_own_after_all() -> None:
    ups = MegatecUps(scripted(LINE, ODD), options())
    seen: list[object] = []
    for _ in range(4):
        try:
            seen.append(named(await ups.read())["ups.load"].value)
        except ProtocolError:
            seen.append(None)
    assert seen == [14.0, None, 14.0, 14.0]


async def test_bytes_lost_and_doubled_at_random_never_give_a_value() -> None:
    rng = random.Random(47)  # fixed: a failure has to come again
    truth = named(await MegatecUps(scripted(LINE), options()).read())

    lines = [LINE]
    for _ in range(3000):
        kind = rng.random()
        at = rng.randrange(1, len(LINE))
        if kind < 0.2:
            lines.append(LINE[:at] + LINE[at + 1 :])
        elif kind < 0.3:
            lines.append(LINE[: at + 1] + LINE[at:])
        else:
            lines.append(LINE)
    link = scripted(*lines)
    ups = MegatecUps(link, options())
    good = lost = 0
    while link.sent.count(b"Q1\r") < len(lines):
        try:
            readings = named(await ups.read())
        except ProtocolError:
            lost += 1
            continue
        good += 1
        assert {n: r.value for n, r in readings.items()} == {n: r.value for n, r in truth.items()}
    assert good > 1500
    assert lost > 300


@pytest.mark.parametrize("wrong", [b"#220.0 003 2.00 50.0\r", b"#220.0 003 1200 50.0\r"])
async def test_ratings_with_a_lost_byte_do_not_stay(wrong: bytes) -> None:
    link = scripted(LINE)
    link.script(b"F\r", [wrong, F12])
    assert named(await MegatecUps(link, options()).read())["battery.voltage.nominal"].value == 12.0


async def test_names_with_a_lost_byte_do_not_stay() -> None:
    link = scripted(LINE)
    good = f"#{'MUSTEK':15} {'PowerMust':10} {'B10.10':10}\r".encode()
    link.script(b"I\r", [good.replace(b"MUSTEK", b"MUTEK"), good])
    readings = named(await MegatecUps(link, options()).read())
    assert values(readings, "info.manufacturer", "info.model") == ["MUSTEK", "PowerMust"]


async def test_a_line_that_says_something_else_is_counted() -> None:
    link = scripted(LINE, LINE.replace(".", ","))
    ups = MegatecUps(link, options())
    await ups.read()
    with pytest.raises(ProtocolError):
        await ups.read()
    assert link.counters["garbled"] == 1


async def test_a_unit_that_refuses_both_questions_speaks_something_else() -> None:
    link = ScriptedLink({b"Q1\r": b"(NAK\r", b"QS\r": b"QS\r"})
    with pytest.raises(Unsupported, match="neither Q1 nor QS"):
        await read(link)
