"""Other programs at the proxy's door: the rude, the slow and the many."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import pytest

from meterd.errors import ConfigError
from meterd.model.clock import SystemClock
from meterd.proxy.server import BURST, MOST_CLIENTS, RATE, ClientPace, Proxy
from meterd.sim.faults import parse_faults
from meterd.sim.register_bank import FixedBank
from meterd.testing import FakeClock
from tests.proxy.rig import PATIENCE, Caller, Rig, rig, until

pytestmark = pytest.mark.virtual

WORDS = {address: 3 * address for address in range(200)}


def words(address: int, count: int) -> bytes:
    return struct.pack(f">{count}H", *(WORDS[address + i] for i in range(count)))


@pytest.fixture
async def site() -> AsyncIterator[Rig]:
    async with rig(FixedBank({3: WORDS, 4: WORDS, 1: {n: n % 3 == 0 for n in range(40)}})) as site:
        yield site


async def test_registers_are_answered_from_a_poll_without_a_request_to_the_meter(
    site: Rig,
) -> None:
    await site.poll(4, 0, 80)
    caller = await site.caller()
    for address, count in ((0, 80), (10, 2), (79, 1)):
        assert await caller.read(address, count) == words(address, count)
    assert site.server.requests == 1


async def test_registers_that_no_poll_reads_are_fetched(site: Rig) -> None:
    caller = await site.caller()
    assert await caller.read(100, 50) == words(100, 50)
    assert await caller.read(100, 50, function=3) == words(100, 50)
    assert site.server.requests == 2


async def test_coils_are_bits(site: Rig) -> None:
    caller = await site.caller()
    assert await caller.ask(bytes.fromhex("01 0000 0009")) == bytes.fromhex("01 02 49 00")
    assert await caller.ask(bytes.fromhex("01 0003 0004")) == bytes.fromhex("01 01 09")
    assert site.server.requests == 1


async def test_writes_are_refused_counted_and_never_reach_the_meter(site: Rig) -> None:
    caller = await site.caller()
    for pdu in ("05 0000 FF00", "06 0000 0001", "0F 0000 0001 01 01", "10 0000 0001 02 0001"):
        answer = await caller.ask(bytes.fromhex(pdu))
        assert answer == bytes([bytes.fromhex(pdu)[0] | 0x80, 1])
    assert await caller.ask(bytes.fromhex("17 0000 0001 0000 0001 02 0001")) == b"\x97\x01"
    assert await caller.ask(b"\x2b\x0e\x01\x00") == b"\xab\x01"
    assert site.proxy.counters["writes"] == 5
    assert site.proxy.counters["other_functions"] == 1
    assert site.server.requests == 0


async def test_a_unit_that_is_not_configured_or_not_there_is_exception_10(site: Rig) -> None:
    caller = await site.caller()
    assert await caller.refused(0, 1, unit=2) == 10
    assert await caller.refused(0, 1, unit=9) == 10
    assert site.proxy.counters["unknown_unit"] == 2


async def test_the_meters_own_exceptions_come_through(site: Rig) -> None:
    caller = await site.caller()
    assert await caller.refused(190, 20) == 2
    site.server.faults = parse_faults("exception:4")
    assert await caller.refused(0, 2) == 4


async def test_a_meter_that_falls_silent_is_exception_11(site: Rig) -> None:
    caller = await site.caller()
    site.server.faults = parse_faults("timeout")
    assert await caller.refused(0, 2) == 11
    site.alive = False
    started = asyncio.get_running_loop().time()
    for _ in range(20):
        assert await caller.refused(0, 2) == 11
    assert asyncio.get_running_loop().time() - started < 1
    assert site.server.requests <= 2


async def test_half_a_frame_ends_at_its_limit_and_hinders_nobody(
    site: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterd.proxy.server.FRAME_LIMIT", 0.1)
    whole = struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, 2)
    halves = [await site.caller() for _ in range(1, len(whole))]
    for size, half in enumerate(halves, 1):
        half.writer.write(whole[:size])
    assert await (await site.caller()).read(0, 2) == words(0, 2)
    for half in halves:
        assert await half.hung_up()
    assert site.proxy.counters["half_frames"] == len(whole) - 1


async def test_a_frame_in_pieces_is_answered(site: Rig) -> None:
    caller = await site.caller()
    for byte in struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 5, 2):
        caller.writer.write(bytes([byte]))
        await asyncio.sleep(0.002)
    assert await caller.answer(1) == b"\x04\x04" + words(5, 2)


async def test_bytes_that_are_no_modbus_end_the_connection(site: Rig) -> None:
    caller = await site.caller()
    caller.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await caller.hung_up()
    await until(lambda: not site.proxy.clients, "all gone")
    assert site.proxy.counters["bad_frames"] == 1


async def test_a_client_that_says_nothing_is_let_go(
    site: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterd.proxy.server.IDLE_LIMIT", 0.05)
    caller = await site.caller()
    assert await caller.hung_up()
    assert site.proxy.counters["idle"] == 1


async def test_a_client_that_takes_no_answers_is_let_go(
    site: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterd.proxy.server.TAKE_LIMIT", 0.1)
    monkeypatch.setattr("meterd.proxy.server.RATE", 1e6)
    await site.poll(4, 0, 125)
    rude = await site.caller()
    rude.writer.transport.pause_reading()  # type: ignore[attr-defined]
    flood = asyncio.create_task(_flood(rude))
    polite = await site.caller()
    async with asyncio.timeout(PATIENCE):
        while not site.proxy.counters["not_taken"]:
            assert await polite.read(0, 2) == words(0, 2)
    await flood


async def _flood(rude: Caller) -> None:
    """Ask for as much as there is, for ever, and never look at an answer."""
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, 125)
    with contextlib.suppress(ConnectionError):
        while True:
            rude.writer.write(request * 100)
            await rude.writer.drain()
            await asyncio.sleep(0.001)


async def test_a_flood_is_slowed_down_and_others_are_served_meanwhile(site: Rig) -> None:
    await site.poll(4, 0, 80)
    flood, polite = await site.caller(), await site.caller()
    for _ in range(2000):
        flood.send(bytes.fromhex("04 0000 0002"))
    await until(lambda: site.proxy.counters["throttled"] > 5, "slowed down")
    before = site.proxy.counters["requests"]
    started = asyncio.get_running_loop().time()
    for _ in range(20):
        assert await polite.read(0, 2) == words(0, 2)
        await site.poll(4, 0, 80)
    # The flood gets its share, no more.
    took = asyncio.get_running_loop().time() - started
    assert site.proxy.counters["requests"] - before - 20 <= took * RATE + 2
    assert site.server.requests == 21


async def test_a_flood_of_misses_delays_a_poll_by_one_exchange(site: Rig) -> None:
    site.server.latency = 0.005
    floods = [await site.caller() for _ in range(MOST_CLIENTS)]
    for number, flood in enumerate(floods):
        for address in range(40):
            flood.send(struct.pack(">BHH", 3, address, 1 + number))
    await until(lambda: site.server.requests > 3, "the flood is there")
    for _ in range(10):
        before = site.server.requests
        await site.poll(4, 0, 80)
        # The exchange that was under way, the poll itself, and nothing between them.
        assert site.server.requests - before <= 2


async def test_clients_beyond_the_limit_are_turned_away_and_the_others_stay(site: Rig) -> None:
    first = [await site.caller() for _ in range(MOST_CLIENTS)]
    for caller in first:
        assert await caller.read(0, 2) == words(0, 2)
    assert await (await site.caller()).hung_up()
    assert site.proxy.counters["turned_away"] == 1
    await first[0].close()
    await until(lambda: site.proxy.clients < MOST_CLIENTS, "one has left")
    assert await (await site.caller()).read(0, 2) == words(0, 2)
    assert await first[1].read(0, 2) == words(0, 2)


async def test_idle_connections_of_a_host_give_way_the_longest_unused_first(site: Rig) -> None:
    idle = [await site.caller() for _ in range(MOST_CLIENTS)]
    await until(lambda: site.proxy.clients == MOST_CLIENTS, "all are in")
    honest = await site.caller()
    assert await honest.read(0, 2) == words(0, 2)
    assert await idle[0].hung_up()
    # Who asks stays: the next ones take the place of others that never did.
    for one in idle[1:4]:
        assert await (await site.caller()).read(0, 2) == words(0, 2)
        assert await one.hung_up()
    assert await honest.read(0, 2) == words(0, 2)
    assert site.proxy.counters["gave_way"] == 4
    assert site.proxy.counters["turned_away"] == 0
    assert site.proxy.clients == MOST_CLIENTS


async def test_a_host_with_many_connections_gives_way_to_one_with_none(
    site: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = iter(["a"] * MOST_CLIENTS + ["b", "a"])
    monkeypatch.setattr("meterd.proxy.server.share_of", lambda _: next(hosts))
    many = [await site.caller() for _ in range(MOST_CLIENTS)]
    for caller in many:
        assert await caller.read(0, 2) == words(0, 2)
    other = await site.caller()
    assert await other.read(0, 2) == words(0, 2)
    assert await many[0].hung_up()
    # The host that has most comes back, and does not push the other out.
    assert await (await site.caller()).hung_up()
    assert await other.read(0, 2) == words(0, 2)


async def test_requests_sent_ahead_are_answered_in_order(site: Rig) -> None:
    caller = await site.caller()
    numbers = [caller.send(struct.pack(">BHH", 4, address, 1)) for address in range(30)]
    for address, number in enumerate(numbers):
        assert await caller.answer(number) == b"\x04\x02" + words(address, 1)


async def test_closing_hangs_up_and_stops_watching(site: Rig) -> None:
    caller = await site.caller()
    await caller.read(0, 2)
    before = site.watched
    await site.proxy.close()
    assert await caller.hung_up()
    assert (before, site.watched) == (True, False)
    assert site.proxy.port == 0
    await site.poll()


async def test_a_port_that_is_taken_is_an_error_that_names_it(site: Rig) -> None:
    other = Proxy({}, lambda _: None, clock=SystemClock(), max_age=1)
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{site.proxy.port}: "):
        await other.start("127.0.0.1", site.proxy.port)


async def test_the_pace_allows_bursts_and_holds_the_rate() -> None:
    clock = FakeClock()
    pace = ClientPace(clock)
    slept = [await pace.keep() for _ in range(int(BURST))]
    assert not any(slept)
    started = clock.now
    assert all([await pace.keep() for _ in range(100)])
    assert clock.now - started == pytest.approx(100 / RATE)
    clock.pass_by(1000)
    again = [await pace.keep() for _ in range(int(BURST) + 10)]
    assert sum(again) == 10
