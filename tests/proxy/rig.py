"""A meter, a link to it that is polled, the proxy on top, and other programs that ask it."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meterd.model.clock import SystemClock
from meterd.proxy.proxied_meter import ProxyRoute
from meterd.proxy.server import Proxy
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import Bank
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient

# Seconds; only ever reached where something hangs.
PATIENCE = 20.0
TIMEOUT = 0.1


@dataclass
class Rig:
    server: ModbusServer
    proxy: Proxy
    link: Link
    client: ModbusClient
    turn: asyncio.Lock
    alive: bool = True
    asked: list["Caller"] = field(default_factory=list)

    @property
    def watched(self) -> bool:
        """Whether somebody looks on while the meter is read."""
        return self.client.observe is not None

    async def poll(self, function: int = 4, address: int = 0, count: int = 80) -> bytes:
        """As the daemon does it."""
        async with self.turn:
            return await self.client.read(function, address, count)

    async def caller(self) -> "Caller":
        """Another program; it is hung up at the end."""
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.proxy.port))
        self.asked.append(caller)
        return caller


class Caller:
    """Another program's connection, in bare bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._number = 0

    def send(self, pdu: bytes, unit: int = 1) -> int:
        """Ask; the transaction's number."""
        self._number = self._number % 0xFFFF + 1
        self.writer.write(struct.pack(">HHHB", self._number, 0, len(pdu) + 1, unit) + pdu)
        return self._number

    async def answer(self, number: int, unit: int = 1) -> bytes:
        """The PDU of the next answer, which has to be the one to this request."""
        async with asyncio.timeout(PATIENCE):
            header = await self.reader.readexactly(7)
            transaction, protocol, length, from_unit = struct.unpack(">HHHB", header)
            assert (transaction, protocol, from_unit) == (number, 0, unit)
            return await self.reader.readexactly(length - 1)

    async def ask(self, pdu: bytes, unit: int = 1) -> bytes:
        return await self.answer(self.send(pdu, unit), unit)

    async def read(self, address: int, count: int, function: int = 4, unit: int = 1) -> bytes:
        """The registers; anything else fails."""
        pdu = await self.ask(struct.pack(">BHH", function, address, count), unit)
        assert pdu[:2] == bytes([function, 2 * count]), pdu
        return pdu[2:]

    async def refused(self, address: int, count: int, function: int = 4, unit: int = 1) -> int:
        """The exception; anything else fails."""
        pdu = await self.ask(struct.pack(">BHH", function, address, count), unit)
        assert (len(pdu), pdu[0]) == (2, function | 0x80), pdu
        return pdu[1]

    async def hung_up(self) -> bool:
        """Whether the other side ended it; waits for that."""
        async with asyncio.timeout(PATIENCE):
            try:
                return not await self.reader.read(1)
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


async def until(true: Callable[[], bool], what: str) -> None:
    """As soon as that is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)
    assert true(), what


@asynccontextmanager
async def rig(bank: Bank, *, unit: int = 1, max_age: float = 60.0) -> AsyncIterator[Rig]:
    """The meter's unit `unit` is unit 1 at the proxy."""
    server = ModbusServer({unit: bank})
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
    client, turn = ModbusClient(link, unit), asyncio.Lock()

    def ways(device: str) -> ProxyRoute | None:
        alive = lambda: running.alive  # noqa: E731 (it is asked later)
        return ProxyRoute(link.url, client, turn, alive) if device == "main" else None

    proxy = Proxy({1: "main", 9: "gone"}, ways, clock=SystemClock(), max_age=max_age)
    running = Rig(server, proxy, link, client, turn)
    await proxy.start("127.0.0.1", 0)
    try:
        yield running
    finally:
        for caller in running.asked:
            await caller.close()
        await proxy.close()
        await link.close()
        await server.stop()
