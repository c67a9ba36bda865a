"""A Modbus server of our own: units on TCP (MBAP or RTU frames) or on a pty, able to misbehave."""

import asyncio
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from meterd.errors import ConfigError
from meterd.sim.fault_injection import MISCHIEF, NEEDS_REGISTERS, SOCKET_ONLY, Exchange
from meterd.sim.faults import Injector, SimulatedFault
from meterd.sim.frames import Adu
from meterd.sim.pty import PtyPort
from meterd.sim.register_bank import Bank, RefusalRule, RefusedRequest
from meterd.sim.transports import Framer, PtyLine, ServerLine, TcpLine

FRAMERS = ("socket", "rtu")

_READ = struct.Struct(">BHH")
_BIT_FUNCTIONS = (1, 2)


class ModbusServer:
    """Serves `banks` (unit: registers). Faults are set by `server.faults = …` at any time.

    `unknown_unit` is what a TCP gateway does about a unit that is not there: nothing, or
    exception 11; RTU is always silent. With `shared_wire` every connection hears every reply,
    as behind a transparent serial gateway, and in the order of the questions: a late reply then
    meets the client that reconnected.
    """

    def __init__(
        self,
        banks: Mapping[int, Bank],
        *,
        framer: Framer = "socket",
        faults: Iterable[SimulatedFault] = (),
        seed: int = 0,
        unknown_unit: Literal["silent", "refuse"] = "silent",
        latency: float = 0.0,
        shared_wire: bool = False,
    ) -> None:
        if framer not in FRAMERS:
            raise ConfigError(f"framer {framer!r}: a simulated meter speaks {', '.join(FRAMERS)}")
        self.banks = dict(banks)
        self.framer: Framer = framer
        self.requests = 0
        self.latency = latency
        self.shared_wire = shared_wire
        self.free_at = 0.0
        known = MISCHIEF.keys() - (SOCKET_ONLY if framer == "rtu" else frozenset())
        self._injector = Injector(known, faults, seed)
        self._refuse = unknown_unit == "refuse" and framer == "socket"
        self._host, self._port = "", 0
        self._listener: asyncio.Server | None = None
        self._serial: PtyPort | None = None
        self._away: asyncio.Task[None] | None = None
        self.lines: set[ServerLine] = set()

    @property
    def faults(self) -> tuple[SimulatedFault, ...]:
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Iterable[SimulatedFault]) -> None:
        self._injector.set(faults)

    @property
    def injected(self) -> Counter[str]:
        """How often each kind of fault has struck."""
        return self._injector.injected

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """The link as meterd.yaml writes it."""
        if self._serial is not None:
            return f"serial://{self._serial.name}?framer=rtu"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"tcp://{host}:{self._port}" + ("?framer=rtu" if self.framer == "rtu" else "")

    async def start_tcp(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 lets the system choose. Raises ConfigError where that cannot be."""
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(lambda: TcpLine(self), host, port)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error}") from error
        self._host, self._port = host, self._listener.sockets[0].getsockname()[1]

    def start_pty(self, link_path: Path | None = None) -> None:
        """Serve RTU on a new pty."""
        line = PtyLine(self, link_path)
        self._serial = line.port
        self._serial.open()
        self.lines.add(line)

    async def stop(self) -> None:
        if self._away is not None:
            self._away.cancel()
            await asyncio.gather(self._away, return_exceptions=True)
        if self._serial is not None:
            self._serial.close()
        self._leave()
        await asyncio.sleep(0)

    def unplug(self, seconds: float) -> None:
        """Gone, and back on the same address after `seconds`."""
        if self._serial is not None:
            self._serial.unplug(seconds)
        elif self._away is None or self._away.done():
            self._away = asyncio.create_task(self._stay_away(seconds))

    async def _stay_away(self, seconds: float) -> None:
        self._leave()
        await asyncio.sleep(seconds)
        await self.start_tcp(self._host, self._port)

    def _leave(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for line in tuple(self.lines):
            line.hang_up()

    def others(self, unit: int) -> list[int]:
        return sorted(self.banks.keys() - {unit})

    def received(self, line: ServerLine, request: Adu) -> None:
        """Answer one request, rightly or not."""
        self.requests += 1
        reply = self.answer(request)
        if reply is None:
            return
        fault = self._injector.strike(NEEDS_REGISTERS if reply.pdu[0] & 0x80 else ())
        if fault is None:
            line.send(line.wrap(reply))
            return
        spoilt = Exchange(self, line, request, reply, fault, self._injector.random)
        MISCHIEF[fault.kind](spoilt)

    def answer(self, request: Adu) -> Adu | None:
        """The right answer; None for silence."""
        bank = self.banks.get(request.unit)
        function = request.pdu[0]
        if bank is None and not self._refuse:
            return None
        try:
            pdu = _read(bank, request.pdu)
        except RefusalRule as refusal:
            pdu = bytes([function | 0x80, refusal.code])
        return Adu(request.tid, request.unit, pdu)


def _read(bank: Bank | None, pdu: bytes) -> bytes:
    """The PDU that answers a read. Raises RefusedRequest."""
    if bank is None:
        raise RefusalRule(RefusedRequest.NO_UNIT)
    if not 1 <= pdu[0] <= 4:
        raise RefusalRule(RefusedRequest.FUNCTION)
    if len(pdu) != _READ.size:
        raise RefusalRule(RefusedRequest.COUNT)
    function, address, count = _READ.unpack(pdu)
    held = bank.read(function, address, count)
    if function in _BIT_FUNCTIONS:
        bits = sum(bool(bit) << place for place, bit in enumerate(held))
        data = bits.to_bytes(-(-count // 8), "little")
    else:
        data = struct.pack(f">{count}H", *held)
    return bytes([function, len(data)]) + data
