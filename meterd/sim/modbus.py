"""The simulated Modbus server: units on TCP (MBAP or RTU frames) or on a pty, with faults."""

import asyncio
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from meterd.errors import ConfigError
from meterd.sim.fault_effects import FAULT_ACTIONS, NEEDS_REGISTERS, SOCKET_ONLY, Exchange
from meterd.sim.faults import Injector, SimulatedFault
from meterd.sim.frames import Adu
from meterd.sim.pty import PtyPort
from meterd.sim.register_bank import Bank, ExceptionCode, SimulatedRefusal
from meterd.sim.transports import Framer, PtyLine, ServerLine, TcpLine

FRAMERS = ("socket", "rtu")

_READ = struct.Struct(">BHH")
_BIT_FUNCTIONS = (1, 2)


class ModbusServer:
    """Serves `banks` (unit: registers). `server.faults = …` replaces the faults at any time.

    `unknown_unit`: how a TCP gateway replies for a unit that does not exist, not at all or with
    exception 11; RTU never replies. With `shared_wire` every connection receives every reply, in
    the order of the requests, as behind a transparent serial gateway: a late reply then reaches
    a client that has reconnected. `latency` is in seconds.
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
        kinds = FAULT_ACTIONS.keys() - (SOCKET_ONLY if framer == "rtu" else frozenset())
        self._injector = Injector(kinds, faults, seed)
        self._refuse = unknown_unit == "refuse" and framer == "socket"
        self._host, self._port = "", 0
        self._listener: asyncio.Server | None = None
        self._serial: PtyPort | None = None
        self._return_task: asyncio.Task[None] | None = None
        self.lines: set[ServerLine] = set()

    @property
    def faults(self) -> tuple[SimulatedFault, ...]:
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Iterable[SimulatedFault]) -> None:
        self._injector.set(faults)

    @property
    def injected(self) -> Counter[str]:
        """The number of injected faults by kind."""
        return self._injector.injected

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """The link URL for meterd.yaml."""
        if self._serial is not None:
            return f"serial://{self._serial.name}?framer=rtu"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"tcp://{host}:{self._port}" + ("?framer=rtu" if self.framer == "rtu" else "")

    async def start_tcp(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0: any free one. Raises ConfigError where the address cannot be bound."""
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
        if self._return_task is not None:
            self._return_task.cancel()
            await asyncio.gather(self._return_task, return_exceptions=True)
        if self._serial is not None:
            self._serial.close()
        self._disconnect()
        await asyncio.sleep(0)

    def unplug(self, seconds: float) -> None:
        """Close everything, and listen on the same address again after `seconds`."""
        if self._serial is not None:
            self._serial.unplug(seconds)
        elif self._return_task is None or self._return_task.done():
            self._return_task = asyncio.create_task(self._return_after(seconds))

    async def _return_after(self, seconds: float) -> None:
        self._disconnect()
        await asyncio.sleep(seconds)
        await self.start_tcp(self._host, self._port)

    def _disconnect(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for line in tuple(self.lines):
            line.hang_up()

    def others(self, unit: int) -> list[int]:
        return sorted(self.banks.keys() - {unit})

    def received(self, line: ServerLine, request: Adu) -> None:
        """Reply to one request, or inject a fault."""
        self.requests += 1
        reply = self.answer(request)
        if reply is None:
            return
        fault = self._injector.next_fault(NEEDS_REGISTERS if reply.pdu[0] & 0x80 else ())
        if fault is None:
            line.send(line.wrap(reply))
            return
        exchange = Exchange(self, line, request, reply, fault, self._injector.random)
        FAULT_ACTIONS[fault.kind](exchange)

    def answer(self, request: Adu) -> Adu | None:
        """The correct reply; None for no reply."""
        bank = self.banks.get(request.unit)
        function = request.pdu[0]
        if bank is None and not self._refuse:
            return None
        try:
            pdu = _read(bank, request.pdu)
        except SimulatedRefusal as refusal:
            pdu = bytes([function | 0x80, refusal.code])
        return Adu(request.tid, request.unit, pdu)


def _read(bank: Bank | None, pdu: bytes) -> bytes:
    """The reply PDU of a read. Raises SimulatedRefusal."""
    if bank is None:
        raise SimulatedRefusal(ExceptionCode.NO_UNIT)
    if not 1 <= pdu[0] <= 4:
        raise SimulatedRefusal(ExceptionCode.FUNCTION)
    if len(pdu) != _READ.size:
        raise SimulatedRefusal(ExceptionCode.COUNT)
    function, address, count = _READ.unpack(pdu)
    words = bank.read(function, address, count)
    if function in _BIT_FUNCTIONS:
        bits = sum(bool(bit) << place for place, bit in enumerate(words))
        data = bits.to_bytes(-(-count // 8), "little")
    else:
        data = struct.pack(f">{count}H", *words)
    return bytes([function, len(data)]) + data
