"""Virtual time itself: it jumps, it refuses what is real, and whole links run in it."""

import asyncio
import random
import time
from pathlib import Path
from typing import Literal

import pytest

from meterd.errors import LinkError
from meterd.model.clock import SystemClock
from meterd.sim.pty import PtyPort
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient, Refused
from tests.virtual import NothingLeftError, Way, network, now, running, virtual, wire_of
from tests.virtual.modbus import Scripted, bytewise, in_turn, late, mute, telling, twice, where

Framer = Literal["socket", "rtu", "ascii"]


def link_to(server: Scripted, timeout: float = 0.3, **times: float) -> Link:
    return open_link(parse(server.url), defaults={}, times=Times(timeout=timeout, **times))


@virtual
async def test_a_day_takes_no_time() -> None:
    began, clock = time.monotonic(), SystemClock()
    before = clock.monotonic(), clock.now_ms(), now()
    await asyncio.sleep(86400)
    await clock.sleep(1)
    time.sleep(0.5)  # noqa: ASYNC251 (it moves the clock)
    assert now() - before[2] == pytest.approx(86401.5, abs=0.002)
    assert clock.monotonic() - before[0] == pytest.approx(86401.5, abs=0.002)
    assert clock.now_ms() - before[1] == pytest.approx(86_401_500, abs=2)
    assert time.monotonic() - began < 60


@virtual
async def test_timers_fire_in_their_order_each_at_its_time() -> None:
    fired: list[tuple[str, float]] = []
    start, loop = now(), asyncio.get_running_loop()

    def fire(name: str) -> None:
        fired.append((name, now() - start))

    for name, after in (("c", 3.0), ("a", 0.001), ("b", 2.5)):
        loop.call_later(after, fire, name)
    await asyncio.sleep(4)
    assert [name for name, _ in fired] == ["a", "b", "c"]
    assert [at for _, at in fired] == pytest.approx([0.001, 2.5, 3.0])


@virtual
async def test_time_stands_still_while_a_thread_works() -> None:
    before = now()
    timer = asyncio.create_task(asyncio.sleep(0.01))
    await asyncio.to_thread(time.sleep, 0.05)
    assert now() == before
    assert not timer.done()
    await timer


def test_a_wait_for_nothing_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual.loop._SURPRISE", 0.01)

    @virtual
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(NothingLeftError):
        waits()


@virtual
async def test_what_is_real_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        await asyncio.create_subprocess_exec("true")
    with pytest.raises(NotImplementedError):
        running().add_reader(0, print)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", network().free_port())
    with pytest.raises(OSError, match="not known"):
        await asyncio.open_connection("no-such-host.invalid", 1)


def test_chance_is_seeded_and_left_as_it_was() -> None:
    drawn: list[float] = []

    @virtual
    async def draw() -> None:
        drawn.append(random.random())

    state = random.getstate()
    draw()
    draw()
    virtual(seed=8)(draw.__wrapped__)()  # type: ignore[attr-defined]
    assert random.getstate() == state
    assert drawn[0] == drawn[1] != drawn[2]
    assert SystemClock().now_ms() != 1_800_000_000_000


@virtual
async def test_streams_carry_bytes_wait_for_slow_readers_and_end() -> None:
    heard: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(5))
        await asyncio.sleep(10)
        heard.append(await reader.read())
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    writer.write(bytes(1_000_000))
    start = now()
    await writer.drain()
    assert 9 < now() - start < 11
    writer.write_eof()
    assert await reader.read() == b""
    await done.wait()
    assert [len(part) for part in heard] == [5, 1_000_000]
    writer.close()
    await writer.wait_closed()
    server.close()


@virtual
async def test_bytes_are_mangled_on_their_way() -> None:
    server = Scripted(telling())
    await server.start_tcp()
    link = link_to(server)
    ways: set[Way] = set()

    def cut(way: Way, data: bytes) -> list[tuple[float, bytes]]:
        ways.add(way)
        return [(0.0, data[:3]), (0.05, data[3:])]

    network().mangle = cut
    assert await ModbusClient(link, 1).read(3, 0, 2) == b"\0\1\0\1"
    assert {(way.connection, way.to_server) for way in ways} == {(1, True), (1, False)}
    assert link.took == pytest.approx(0.05 + 0.05 + 0.01, abs=0.002)
    await link.close()
    await server.stop()


@pytest.mark.parametrize("wire", ["socket", "rtu", "ascii", "serial"])
@virtual
async def test_a_client_asks_a_scripted_server(wire: str, tmp_path: Path) -> None:
    framer: Framer = "rtu" if wire == "serial" else wire  # type: ignore[assignment]
    server = Scripted(telling(), framer=framer, units={1, 2})
    if wire == "serial":
        server.start_serial(tmp_path / "port")
    else:
        await server.start_tcp()
    link = link_to(server)
    client = ModbusClient(link, 1)
    assert await client.read(3, 10, 3) == b"\0\1\0\x0b\0\x0c"
    server.refuses = 2
    with pytest.raises(Refused):
        await client.read(3, 10, 3)
    server.refuses = 0
    server.behave = in_turn(mute, late(0.5))
    for _ in range(2):
        with pytest.raises(LinkError):
            await client.read(4, 0, 1)
    server.behave = bytewise(0.001)
    assert len(await client.read(4, 0, 2)) == 4
    with pytest.raises(LinkError):
        await ModbusClient(link, 3).read(3, 0, 1)
    assert server.log[0].read == (3, 10, 3)
    assert {asked.unit for asked in server.log} == {1, 3}
    await link.close()
    await server.stop()


@virtual
async def test_two_clients_share_a_bus_and_hear_each_others_replies() -> None:
    server = Scripted(telling(), framer="rtu", shared=True)
    await server.start_tcp()
    links = [link_to(server) for _ in range(2)]
    one, two = (ModbusClient(link, 1) for link in links)
    await one.read(3, 0, 1)
    await two.read(3, 0, 2)
    await one.read(3, 0, 1)
    assert [asked.client for asked in server.log] == [1, 2, 1]
    assert links[0].counters["stray"] == 1, "the answer to the other"
    for link in links:
        await link.close()
    await server.stop()


@virtual
async def test_a_reply_that_comes_twice_is_there_twice() -> None:
    server = Scripted(
        telling(), framer="rtu", behave=where(lambda asked: asked.unit == 1, twice(0.02))
    )
    await server.start_tcp()
    link = link_to(server)
    await ModbusClient(link, 1).read(3, 0, 1)
    assert (len(server.log), link.counters["copies"]) == (1, 1)
    await ModbusClient(link, 2).read(3, 0, 1)
    assert (len(server.log), link.counters["copies"]) == (2, 1)
    await link.close()
    await server.stop()


@virtual
async def test_a_serial_line_takes_its_time_and_can_be_pulled(tmp_path: Path) -> None:
    path = tmp_path / "port"
    server = Scripted(telling(), framer="rtu")
    server.start_serial(path)
    link, other = link_to(server), link_to(server)
    client = ModbusClient(link, 1)
    await client.read(3, 0, 10)
    assert link.took == pytest.approx(0.01, abs=0.002)
    wire_of(path).baud = 9600
    await client.read(3, 0, 10)
    assert link.took == pytest.approx(0.01 + (8 + 25) * 11 / 9600, abs=0.002)
    with pytest.raises(LinkError, match="in use by another program"):
        await ModbusClient(other, 1).read(3, 0, 1)
    assert isinstance(server._port, PtyPort)
    server._port.unplug(0.5)
    with pytest.raises(LinkError, match="is gone"):
        await client.read(3, 0, 1)
    with pytest.raises(LinkError, match="not there"):
        await client.read(3, 0, 1)
    await asyncio.sleep(1.1)
    assert len(await client.read(3, 0, 1)) == 2
    await link.close()
    await server.stop()
