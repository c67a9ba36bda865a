"""What a recording holds: every byte with its time, also those that the link throws away."""

import asyncio

import pytest

from meterd.errors import ConfigError, LinkError
from meterd.model.clock import SystemClock
from meterd.sim.faults import SimulatedFault
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.testing import FakeClock, ScriptedLink
from meterd.wire import open_link
from meterd.wire.address import parse as parse_url
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient
from meterd.wire.recording import WireEvent, head, parse, record
from meterd.wire.streamlink import StreamLink

pytestmark = pytest.mark.virtual

TEXT = """\
# meterd recording 1
# link: tcp://192.0.2.5:502
# framer: rtu
# device: main map=a unit=1
# device: other map=b unit=2

+0.0100 > 01 04 0000 0001 31ca
+0.0400 < 51310d  # Q1
+1.0400 ! timeout
"""


def test_a_recording_is_read_as_it_is_written() -> None:
    found = parse(TEXT, "x.rec")
    assert found.head == {"link": "tcp://192.0.2.5:502", "framer": "rtu"}
    assert found.devices == ("main map=a unit=1", "other map=b unit=2")
    assert found.events == (
        WireEvent(0.01, ">", bytes.fromhex("01040000000131ca")),
        WireEvent(0.04, "<", b"Q1\r"),
        WireEvent(1.04, "!", note="timeout"),
    )
    again = parse(head([]) + "\n".join(map(str, found.events)), "again")
    assert again.events == found.events


def test_lines_of_text_are_shown_beside_their_bytes() -> None:
    assert str(WireEvent(0.5, ">", b"Q1\r")) == "+0.5000 > 51310d  # Q1"
    assert str(WireEvent(0.5, "<", b"#230.0\r")) == "+0.5000 < 233233302e300d  # #230.0"
    assert parse(head([]) + str(WireEvent(0.5, "<", b"#2\r")), "x").events[0].data == b"#2\r"
    assert str(WireEvent(0.5, "<", b"\x01\x04")) == "+0.5000 < 0104"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first line"),
        ("+0.1 > 01\n", "first line"),
        (head([]) + "+0.1 > 0z\n", "x.rec:2: '0z' is no hex"),
        (head([]) + "0.1 > 01\n", "x.rec:2: not written like"),
        (head([]) + "+0.1 = 01\n", "x.rec:2: not written like"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(text, "x.rec")


def test_a_link_without_a_stream_cannot_be_recorded() -> None:
    with pytest.raises(ConfigError, match="no stream"):
        record(ScriptedLink({}), print, FakeClock())


async def recorded(framer: str, *faults: SimulatedFault, wait: float = 0.0) -> list[WireEvent]:
    """The events of one good read and one that meets a fault."""
    server = ModbusServer({1: FixedBank({4: {0: 7, 1: 8}})}, framer=framer)  # type: ignore[arg-type]
    await server.start_tcp()
    events: list[WireEvent] = []
    times = Times(timeout=0.1)
    link: Link = open_link(parse_url(server.url), defaults={}, times=times)
    client = ModbusClient(record(link, events.append, SystemClock()), 1)
    assert await client.read(4, 0, 2) == bytes.fromhex("00070008")
    server.faults = faults
    with pytest.raises(LinkError):
        await client.read(4, 0, 1)
    await asyncio.sleep(wait)
    await link.close()
    await server.stop()
    return events


async def test_every_byte_both_ways_and_the_failure_are_told() -> None:
    events = await recorded("rtu", SimulatedFault("timeout"))
    assert [(event.kind, event.data.hex() or event.note) for event in events] == [
        (">", "01040000000271cb"),
        ("<", "010404000700084b83"),
        (">", "01040000000131ca"),
        ("!", "timeout"),
    ]
    times = [event.time for event in events]
    assert times == sorted(times)
    assert 0.09 < times[-1] - times[-2] < 0.5


async def test_a_reply_that_comes_after_its_timeout_is_told_too() -> None:
    events = await recorded("rtu", SimulatedFault("late", seconds=0.15), wait=0.15)
    assert [event.kind for event in events] == [">", "<", ">", "!", "<"]
    assert events[-1].data.hex() == "0104020007f8f2"


async def test_it_is_told_when_the_peer_hangs_up_and_not_when_we_do() -> None:
    events = await recorded("socket", SimulatedFault("close"))
    notes = [event.note for event in events if event.kind == "!"]
    # The link tries once more on a new connection, which is closed as well.
    assert notes == ["closed", "closed"]
    assert [event.kind for event in events] == [">", "<", ">", "!", ">", "!"]


async def test_a_link_that_cannot_be_opened_is_told_each_time_it_is_asked() -> None:
    server = ModbusServer({1: FixedBank({4: {0: 7}})})
    await server.start_tcp()
    await server.stop()
    events: list[WireEvent] = []
    link: Link = open_link(parse_url(server.url), defaults={}, times=Times(timeout=0.1))
    client = ModbusClient(record(link, events.append, SystemClock()), 1)
    for _ in range(2):
        with pytest.raises(LinkError):
            await client.read(4, 0, 1)
    assert [(event.kind, event.note) for event in events] == [("!", "refused")] * 2


async def test_an_exchange_cut_short_is_told_and_one_that_only_waited_is_not() -> None:
    """In a replay `cancelled` is about the request before it."""
    server = ModbusServer({1: FixedBank({4: {0: 7}})}, framer="rtu")
    await server.start_tcp()
    server.faults = (SimulatedFault("timeout"),)
    events: list[WireEvent] = []
    link: Link = open_link(parse_url(server.url), defaults={}, times=Times(timeout=5.0))
    client = ModbusClient(record(link, events.append, SystemClock()), 1)
    asked, waiting = (asyncio.create_task(client.read(4, 0, 1)) for _ in range(2))
    await asyncio.sleep(0.1)
    for task in (waiting, asked):
        task.cancel()
    await asyncio.gather(asked, waiting, return_exceptions=True)
    assert [event.kind + event.note for event in events] == [">", "!cancelled"]
    await link.close()
    await server.stop()


async def test_a_link_tells_nothing_once_nobody_watches() -> None:
    server = ModbusServer({1: FixedBank({4: {0: 7}})}, framer="rtu")
    await server.start_tcp()
    events: list[WireEvent] = []
    link = open_link(parse_url(server.url), defaults={}, times=Times(timeout=5.0))
    assert isinstance(link, StreamLink)
    client = ModbusClient(link, 1)
    await client.read(4, 0, 1)
    # The connection that is open already is recorded, too.
    record(link, events.append, SystemClock())
    await client.read(4, 0, 1)
    link.watch(None)
    await client.read(4, 0, 1)
    assert [event.kind for event in events] == [">", "<"]
    await link.close()
    await server.stop()
