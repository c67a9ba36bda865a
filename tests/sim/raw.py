"""A client of bare bytes, which shows what really was on the wire."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from meterd.sim.faults import SimulatedFault
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.transports import Framer

Ending = Literal["silence", "eof", "reset"]

# Unit 1 and 2 have other numbers in every register.
WORDS = {unit: {address: 1000 * unit + address for address in range(40)} for unit in (1, 2)}
SILENCE = 0.12


@dataclass(frozen=True, slots=True)
class Heard:
    """What came until the line fell silent or ended."""

    data: bytes
    ending: Ending = "silence"


class RawClient:
    def __init__(self, server: ModbusServer) -> None:
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        await self.close()
        self._streams = await asyncio.open_connection("127.0.0.1", self._server.port)

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            await asyncio.gather(self._streams[1].wait_closed(), return_exceptions=True)
            self._streams = None

    async def ask(self, request: bytes, silence: float = SILENCE) -> Heard:
        """Send, then listen until nothing has come for `silence` seconds."""
        assert self._streams is not None
        self._streams[1].write(request)
        return await self.listen(silence)

    async def listen(self, silence: float = SILENCE) -> Heard:
        assert self._streams is not None
        heard = b""
        while True:
            try:
                data = await asyncio.wait_for(self._streams[0].read(4096), silence)
            except TimeoutError:
                return Heard(heard)
            except ConnectionResetError:
                return Heard(heard, "reset")
            if not data:
                return Heard(heard, "eof")
            heard += data


@asynccontextmanager
async def raw(
    framer: Framer, *faults: SimulatedFault, seed: int = 1, **options: object
) -> AsyncIterator[tuple[ModbusServer, RawClient]]:
    """A server with units 1 and 2, and a client that is connected."""
    banks = {unit: FixedBank({4: words}) for unit, words in WORDS.items()}
    server = ModbusServer(banks, framer=framer, faults=faults, seed=seed, **options)  # type: ignore[arg-type]
    await server.start_tcp()
    client = RawClient(server)
    await client.open()
    try:
        yield server, client
    finally:
        await client.close()
        await server.stop()


def registers(address: int, count: int, unit: int = 1) -> bytes:
    """What a right reply carries."""
    return struct.pack(f">{count}H", *(WORDS[unit][address + i] for i in range(count)))
