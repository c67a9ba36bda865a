"""The bytes of each instant command, and what a unit's answers to them mean."""

import pytest
from pydantic import ValidationError

from meterd.drivers.megatec import MegatecUps
from meterd.drivers.megatec.commands import instant_commands
from meterd.errors import DeviceError, LinkCode, LinkError, ProtocolError, Unsupported
from meterd.testing import Reply, ScriptedLink
from meterd.wire.megatec import send_command
from tests.drivers.megatec.units import LINE, letters, named, options, scripted, transcript

BITS = "00001000"
QUICK = "test.battery.start.quick"
RETURN = "shutdown.return"


def line(*bits: int) -> str:
    """The status line with these bits flipped; b7 is the leftmost."""
    found = int(BITS, 2)
    for bit in bits:
        found ^= 1 << bit
    return LINE.replace(BITS, f"{found:08b}")


def unit(*status: str, **replies: Reply) -> ScriptedLink:
    """Its status lines, and what it says to orders: silence where nothing is given."""
    link = scripted(*status)
    for order, reply in replies.items():
        link.script(order.encode() + b"\r", reply)
    return link


def commands(**keys: object) -> dict[str, str]:
    return {name: order.command for name, order in instant_commands(options(**keys)).items()}


def test_each_command_has_the_bytes_of_the_document() -> None:
    assert commands() == {
        "beeper.toggle": "Q",
        "load.off": "S00R0000",
        "load.on": "C",
        "shutdown.return": "S.5R0003",
        "shutdown.stayoff": "S.5R0000",
        "shutdown.stop": "C",
        "test.battery.start": "T10",
        "test.battery.start.deep": "TL",
        "test.battery.start.quick": "T",
        "test.battery.stop": "CT",
    }
    ups = MegatecUps(scripted(LINE), options())
    assert list(ups.commands) == list(commands())


@pytest.mark.parametrize(
    ("off", "on", "sent"),
    [
        ("12s", "3m", "S.2R0003"),
        ("54s", "3m", "S.9R0003"),
        ("1m", "1m", "S01R0001"),
        ("10m", "9999m", "S10R9999"),
        ("60s", "2h", "S01R0120"),
        ("30s", 0, "S.5"),
        ("30s", "0s", "S.5"),
    ],
)
def test_the_delays_are_those_of_the_configuration(off: str, on: object, sent: str) -> None:
    found = commands(offdelay=off, ondelay=on)
    assert found[RETURN] == sent
    assert found["shutdown.stayoff"] == sent.partition("R")[0] + "R0000"
    assert found["load.off"] == "S00R0000"


@pytest.mark.parametrize(("text", "sent"), [("1m", "T01"), ("99m", "T99"), ("120s", "T02")])
def test_a_test_takes_whole_minutes(text: str, sent: str) -> None:
    assert commands(testtime=text)["test.battery.start"] == sent


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        *(({"offdelay": text}, "12s, 18s") for text in ("6s", "0s", "13s", "90s", "11m", "12.5s")),
        *(({"ondelay": text}, "1m to 9999m") for text in ("30s", "90s", "10000m")),
        *(({"testtime": text}, "1m to 99m") for text in ("0s", "30s", "100m", "90s")),
        ({"offdelay": 30}, "30s or 3m"),
        ({"ondelay": True}, "30s or 3m"),
        ({"ondelay": False}, "30s or 3m"),
        ({"testtime": "long"}, "30s or 3m"),
        ({"protocol": "mustek", "offdelay": "10m"}, "at most 9m"),
    ],
)
def test_delays_that_the_commands_cannot_say_are_refused(
    keys: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        options(**keys)


@pytest.mark.parametrize("name", sorted(commands()))
async def test_an_order_is_sent_once_and_silence_means_that_it_was_taken(name: str) -> None:
    link = unit(LINE)
    await MegatecUps(link, options()).act(name)
    assert link.sent == [b"Q1\r", commands()[name].encode() + b"\r"]
    assert link.counters["timeout"] == 0


async def test_a_mustek_unit_gets_the_same_orders() -> None:
    link = ScriptedLink({b"Q1\r": b"Q1\r", b"QS\r": LINE.encode() + b"\r"})
    ups = MegatecUps(link, options())
    await ups.act(QUICK)
    await ups.act("test.battery.stop")
    assert link.sent == [b"Q1\r", b"QS\r", b"T\r", b"QS\r", b"CT\r"]


@pytest.mark.parametrize("chop", [0, 1])
@pytest.mark.parametrize(
    "reply", [b"ACK\r", b"(ACK\r", b"OK\r", b"ACK", b"\x00ACK\r\n", b"T\rACK\r", b"\r"]
)
async def test_an_acknowledgement_is_as_good_as_silence(reply: bytes, chop: int) -> None:
    link = ScriptedLink({b"T\r": reply}, chop=chop)
    await send_command(link, "T")
    assert link.sent == [b"T\r"]


@pytest.mark.parametrize("chop", [0, 1])
@pytest.mark.parametrize("reply", [b"T\r", b"T", b"N\r", b"NAK\r", b"(NAK\r", b"T\r(NAK\r"])
async def test_an_echo_and_a_nak_are_refusals(reply: bytes, chop: int) -> None:
    with pytest.raises(Unsupported, match="does not know T"):
        await send_command(ScriptedLink({b"T\r": reply}, chop=chop), "T")


@pytest.mark.parametrize("reply", [b"UPS No Ack\r", b"(226.0 195\r", b"\xff\xfe", b"A", b"ACKT\r"])
async def test_what_says_neither_is_not_taken_for_a_yes(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match="whether T was taken") as caught:
        await send_command(ScriptedLink({b"T\r": reply}), "T")
    assert caught.value.code == "garbled"


async def test_a_line_that_is_gone_is_no_silence() -> None:
    link = unit(LINE, T=LinkError("gone", code=LinkCode.PORT_GONE))
    with pytest.raises(LinkError) as caught:
        await MegatecUps(link, options()).act(QUICK)
    assert caught.value.code == "port_gone"


async def test_a_unit_that_does_not_give_its_status_is_sent_no_order() -> None:
    link = ScriptedLink({})
    with pytest.raises(LinkError) as caught:
        await MegatecUps(link, options()).act("load.off")
    assert caught.value.code == "timeout"
    assert link.sent == [b"Q1\r", b"QS\r"]


@pytest.mark.parametrize("name", sorted(commands()))
async def test_a_refusal_is_told_and_the_order_not_repeated(name: str) -> None:
    sent = commands()[name]
    link = unit(LINE, **{sent: sent.encode() + b"\r"})
    with pytest.raises(Unsupported, match=f"does not know {sent}: it echoed"):
        await MegatecUps(link, options()).act(name)
    assert link.sent.count(sent.encode() + b"\r") == 1


@pytest.mark.parametrize("reply", [b"(NAK\r", b"hm\r"])
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (RETURN, (), (1,)),
        ("load.off", (), (1,)),
        ("shutdown.stop", (1,), ()),
        (QUICK, (), (2,)),
        ("test.battery.stop", (2,), ()),
        ("beeper.toggle", (), (0,)),
        ("beeper.toggle", (0,), ()),
    ],
)
async def test_a_unit_that_says_no_and_does_it_did_it(
    name: str, before: tuple[int, ...], after: tuple[int, ...], reply: bytes
) -> None:
    sent = commands()[name]
    link = unit(line(*before), line(*after), **{sent: reply})
    await MegatecUps(link, options()).act(name)
    assert link.sent == [b"Q1\r", sent.encode() + b"\r", b"Q1\r"]
    with pytest.raises((Unsupported, ProtocolError)):
        await MegatecUps(unit(line(*before), **{sent: reply}), options()).act(name)


async def test_a_bit_that_goes_the_other_way_proves_nothing() -> None:
    for name, before, after in ((RETURN, (1,), ()), (QUICK, (2,), ()), ("shutdown.stop", (), (1,))):
        link = unit(line(*before), line(*after), **{commands()[name]: b"N\r"})
        with pytest.raises(Unsupported):
            await MegatecUps(link, options()).act(name)


@pytest.mark.parametrize(("bit", "code"), [(7, "on_battery"), (6, "battery_low")])
async def test_a_test_that_could_drop_the_load_is_not_sent(bit: int, code: str) -> None:
    for name in (QUICK, "test.battery.start", "test.battery.start.deep"):
        link = unit(line(bit))
        with pytest.raises(DeviceError) as caught:
            await MegatecUps(link, options()).act(name)
        assert caught.value.code == code
        assert link.sent == [b"Q1\r"]
    link = unit(line(bit))
    ups = MegatecUps(link, options())
    for name in ("test.battery.stop", RETURN, "load.off"):
        await ups.act(name)
    assert link.sent[1::2] == [b"CT\r", b"S.5R0003\r", b"S00R0000\r"]


async def test_what_was_never_heard_of_is_not_sent() -> None:
    link = unit(LINE)
    with pytest.raises(LookupError):
        await MegatecUps(link, options()).act("load.cycle")
    assert not link.sent


async def test_a_shutdown_that_was_ordered_is_told_even_after_a_reopening() -> None:
    link = unit(LINE, line(1))
    ups = MegatecUps(link, options())
    await ups.act(RETURN)
    link.reopen()
    assert letters(named(await ups.read())) == "ol fsd"


async def test_a_bit_that_was_set_before_the_order_goes_on_saying_nothing() -> None:
    ups = MegatecUps(unit(line(1)), options())
    await ups.act(RETURN)
    assert letters(named(await ups.read())) == "ol fsd?"


async def test_an_order_changes_nothing_about_the_polls_around_it() -> None:
    link = unit(LINE)
    ups = MegatecUps(link, options())
    first = await ups.read()
    await ups.act(QUICK)
    assert await ups.read() == first
    assert link.sent == [b"Q1\r", b"F\r", b"I\r", b"Q1\r", b"T\r", b"Q1\r"]


async def test_polls_alone_never_send_an_order() -> None:
    link = transcript("megatec_outage")
    ups = MegatecUps(link, options())
    for _ in range(6):
        await ups.read()
    assert set(link.sent) == {b"Q1\r", b"F\r", b"I\r"}
