"""A recording played back: the same bytes at the same times, and so the same readings."""

import asyncio
from pathlib import Path

import pytest

from meterd.cli.configuration import target_settings
from meterd.config.settings import Settings
from meterd.daemon.link_plan import devices, link_plans, polled
from meterd.errors import ConfigError
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll
from meterd.poll.cycle import poll_once
from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import Adu, SocketFraming, with_crc
from meterd.sim.replay import Replay, serve_replay
from meterd.sim.serve import serve_meter, serve_ups
from meterd.sim.transports import Framer
from meterd.wire.recording import Recording, WireEvent, head, parse, record
from tests.sim.raw import SILENCE

pytestmark = pytest.mark.virtual

METER = "eastron_sdm120"
ASK, OTHER = with_crc(bytes.fromhex("010400000001")), with_crc(bytes.fromhex("010400010001"))
FIRST, SECOND = with_crc(bytes.fromhex("0104020007")), with_crc(bytes.fromhex("0104020008"))


def recording(framer: str, *events: WireEvent) -> Recording:
    return Recording({"framer": framer}, (), events)


async def polls(target: str, times: int, sink: list[WireEvent] | None = None) -> list[Poll]:
    """Polls a target by the ordinary path; a sink gets all bytes."""
    name, device = target_settings(target)
    plan = next(iter(link_plans(Settings(devices={name: device})).values()))
    link = plan.open() if sink is None else record(plan.open(), sink.append, SystemClock())
    try:
        [(_, driver, _)] = devices(plan, link)
        asked = polled(name, driver, device)
        return [await poll_once(asked, (), SystemClock()) for _ in range(times)]
    finally:
        await link.close()


def said(poll: Poll) -> tuple[object, ...]:
    """What a poll says, apart from when."""
    code = poll.fault.code if poll.fault else ""
    text = poll.fault.text if poll.fault else ""
    return code, text, poll.layout, poll.values, dict(poll.info)


def written(url: str, framer: str, events: list[WireEvent]) -> Recording:
    """By way of the text that people send."""
    lines = "".join(f"{event}\n" for event in events)
    return parse(head([("link", url), ("framer", framer)]) + lines, "report.rec")


@pytest.mark.parametrize("framer", ["socket", "rtu"])
@pytest.mark.parametrize(
    "kind", ["timeout", "truncate", "garbage", "wrong_unit", "exception", "late"]
)
async def test_a_field_recording_gives_the_same_readings_and_the_same_error(
    framer: Framer, kind: str
) -> None:
    query = "?timeout=500ms" + ("&framer=rtu" if framer == "rtu" else "")
    events: list[WireEvent] = []
    async with serve_meter(METER, framer=framer, seed=3) as server:
        url = f"tcp://127.0.0.1:{server.port}/1{query}"
        seen = await polls(f"{METER}@{url}", 1, events)
        server.faults = [SimulatedFault(kind, seconds=0.6 if kind == "late" else 0.0)]
        await asyncio.sleep(0.25)
        seen += await polls(f"{METER}@{url}", 1, events)
    assert [poll.up for poll in seen] == [True, False]
    async with serve_replay(written(url, framer, events)) as replay:
        port = replay.url.split(":")[2].split("?")[0]
        target = f"{METER}@tcp://127.0.0.1:{port}/1{query}"
        again = await polls(target, 1) + await polls(target, 1)
    assert [said(poll) for poll in again] == [said(poll) for poll in seen]


async def test_a_ups_is_replayed_on_a_serial_line(tmp_path: Path) -> None:
    events: list[WireEvent] = []
    async with serve_ups(link_path=tmp_path / "ups") as server:
        seen = await polls(f"megatec@{server.url}", 2, events)
    port = tmp_path / "replayed"
    async with serve_replay(written("serial:", "rtu", events), pty=True, link_path=port) as again:
        assert again.url == f"serial://{port}"
        replayed = await polls(f"megatec@{again.url}?baud=2400", 2)
    assert seen[0].value("input.voltage")
    assert [said(poll) for poll in replayed] == [said(poll) for poll in seen]


async def ask(port: int, data: bytes, silence: float = SILENCE) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    heard = b""
    try:
        while True:
            piece = await asyncio.wait_for(reader.read(4096), silence)
            heard += piece
            if not piece:
                return heard + b"EOF"
    except TimeoutError:
        return heard
    finally:
        writer.close()
        await writer.wait_closed()


async def served(found: Recording, *requests: bytes) -> list[bytes]:
    """What each request gets, on a connection of its own."""
    async with serve_replay(found) as server:
        port = int(server.url.split(":")[2].split("?")[0])
        return [await ask(port, request) for request in requests]


async def test_a_request_that_is_repeated_gets_its_replies_in_a_circle() -> None:
    events = (
        WireEvent(0, ">", ASK),
        WireEvent(0.01, "<", FIRST),
        WireEvent(1, ">", ASK),
        WireEvent(1.01, "<", SECOND),
        WireEvent(2, ">", ASK),
        WireEvent(3, "!", note="timeout"),
    )
    heard = await served(recording("rtu", *events), ASK, ASK, ASK, ASK)
    assert heard == [FIRST, SECOND, b"", FIRST]


async def test_without_ids_a_request_never_recorded_meets_silence() -> None:
    found = recording("rtu", WireEvent(0, ">", ASK), WireEvent(0.01, "<", FIRST))
    assert await served(found, OTHER, OTHER + ASK) == [b"", FIRST]


async def test_transaction_ids_are_the_clients_own_and_foreign_ones_stay_foreign() -> None:
    wrap = SocketFraming().wrap
    question, answer = bytes.fromhex("0400000001"), bytes.fromhex("04020007")
    events = (
        WireEvent(0, ">", wrap(Adu(100, 1, question))),
        WireEvent(0.01, "<", wrap(Adu(55, 1, answer)) + wrap(Adu(100, 1, answer))[:5]),
        WireEvent(0.02, "<", wrap(Adu(100, 1, answer))[5:]),
    )
    heard = await served(
        recording("socket", *events),
        wrap(Adu(9, 1, question)),
        wrap(Adu(55, 1, question)),
        wrap(Adu(8, 2, question)),
    )
    assert heard[0] == wrap(Adu(55, 1, answer)) + wrap(Adu(9, 1, answer))
    assert heard[1] == wrap(Adu(55 ^ 0x8000, 1, answer)) + wrap(Adu(55, 1, answer))
    assert heard[2] == wrap(Adu(8, 2, bytes([0x84, 2])))


async def test_it_hangs_up_where_the_device_did() -> None:
    found = recording("rtu", WireEvent(0, ">", ASK), WireEvent(0.01, "!", note="closed"))
    assert await served(found, ASK) == [b"EOF"]


async def test_the_timing_is_the_recordings() -> None:
    found = recording("rtu", WireEvent(5, ">", ASK), WireEvent(5.2, "<", FIRST))
    async with serve_replay(found) as server:
        port = int(server.url.split(":")[2].split("?")[0])
        start = asyncio.get_running_loop().time()
        assert await ask(port, ASK, 0.3) == FIRST
        took = asyncio.get_running_loop().time() - start
    assert 0.2 + 0.3 <= took < 0.9


def test_a_last_request_that_the_end_cut_off_is_no_silence() -> None:
    events = (WireEvent(0, ">", ASK), WireEvent(0.01, "<", FIRST), WireEvent(1, ">", ASK))
    replay = Replay(recording("rtu", *events))
    assert [replay.next(ASK), replay.next(ASK)] == [replay.next(ASK)] * 2
    cancelled = (WireEvent(0, ">", ASK), WireEvent(0.01, "!", note="cancelled"))
    with pytest.raises(ConfigError, match="nothing to replay"):
        Replay(recording("rtu", *cancelled))
