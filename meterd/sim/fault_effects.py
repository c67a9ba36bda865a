"""The injected faults of a meter: what each does to a reply."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import Adu
from meterd.sim.register_bank import ExceptionCode
from meterd.sim.transports import ServerLine

_READ = struct.Struct(">BHH")
_GARBAGE_BYTES = (5, 40)
_TRANSACTION_IDS = 0x10000


class Server(Protocol):
    """What an injected fault needs of the server, which imports this module."""

    def answer(self, request: Adu) -> Adu | None:
        """The correct reply; None for a unit that does not exist."""

    def unplug(self, seconds: float) -> None:
        """Close all connections and listen again after `seconds`."""

    def others(self, unit: int) -> list[int]:
        """The other units of the server."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request with its correct reply, and what a fault needs to alter it."""

    server: Server
    line: ServerLine
    request: Adu
    reply: Adu
    fault: SimulatedFault
    random: Random

    def send(self, **changes: int | bytes) -> None:
        """Send the reply with these fields changed."""
        self.line.send(self.line.wrap(replace(self.reply, **changes)))  # type: ignore[arg-type]

    @property
    def frame(self) -> bytes:
        return self.line.wrap(self.reply)


def _timeout(_: Exchange) -> None:
    """Send no reply."""


def _late(exchange: Exchange) -> None:
    exchange.line.send(exchange.frame, exchange.fault.seconds)


def _wrong_unit(exchange: Exchange) -> None:
    exchange.send(unit=exchange.reply.unit % 247 + 1)


def _wrong_tid(exchange: Exchange) -> None:
    tids = [
        tid
        for tid in exchange.random.sample(range(1, _TRANSACTION_IDS), 2)
        if tid != exchange.reply.tid
    ]
    exchange.send(tid=tids[0])


def _zero_tid(exchange: Exchange) -> None:
    exchange.send(tid=0)


def _wrong_function(exchange: Exchange) -> None:
    function = exchange.reply.pdu[0] % 4 + 1
    exchange.send(pdu=bytes([function]) + exchange.reply.pdu[1:])


def _wrong_count(exchange: Exchange) -> None:
    """A valid frame with one register less than requested."""
    data = exchange.reply.pdu[2:-2]
    exchange.send(pdu=bytes([exchange.reply.pdu[0], len(data)]) + data)


def _lying_count(exchange: Exchange) -> None:
    """All registers, with a wrong byte count."""
    count = (exchange.reply.pdu[1] + exchange.random.choice((-2, -1, 1, 2))) % 256
    exchange.send(pdu=bytes([exchange.reply.pdu[0], count]) + exchange.reply.pdu[2:])


def _truncate(exchange: Exchange) -> None:
    frame = exchange.frame
    end = exchange.fault.number or exchange.random.randrange(1, len(frame))
    exchange.line.send(frame[: min(end, len(frame) - 1)])


def _garbage(exchange: Exchange) -> None:
    exchange.line.send(exchange.random.randbytes(exchange.random.randint(*_GARBAGE_BYTES)))


def _extra(exchange: Exchange) -> None:
    """A reply to another request, then the correct one."""
    if (foreign := _foreign_reply(exchange)) is not None:
        exchange.line.send(exchange.line.wrap(foreign))
    exchange.line.send(exchange.frame)


def _foreign_reply(exchange: Exchange) -> Adu | None:
    """A valid reply to another request: of another unit, or of another block of this one.

    On RTU the other block has another length, since a client cannot detect one of the same.
    """
    others = exchange.server.others(exchange.request.unit)
    if others and exchange.random.random() < 1 / 2:
        request = replace(exchange.request, unit=exchange.random.choice(others))
        return _without_exception(exchange.server.answer(request))
    function, address, count = _READ.unpack(exchange.request.pdu)
    if exchange.line.framer == "rtu":
        block = (address + 1, count - 1) if count > 1 else (address, 2)
        pdu = _READ.pack(function, *block)
        return _without_exception(exchange.server.answer(replace(exchange.request, pdu=pdu)))
    earlier = replace(exchange.request, tid=(exchange.request.tid - 1) % _TRANSACTION_IDS)
    for shift in (count, -count, 1, -1):
        pdu = _READ.pack(function, (address + shift) % 0x10000, count)
        if (
            reply := _without_exception(exchange.server.answer(replace(earlier, pdu=pdu)))
        ) is not None:
            return reply
    return None


def _without_exception(adu: Adu | None) -> Adu | None:
    return adu if adu is not None and adu.pdu[0] < 0x80 else None


def _duplicate(exchange: Exchange) -> None:
    exchange.line.send(exchange.frame + exchange.frame)


def _dribble(exchange: Exchange) -> None:
    exchange.line.dribble(exchange.frame, exchange.fault.seconds)


def _exception(exchange: Exchange) -> None:
    exchange.send(pdu=bytes([exchange.request.pdu[0] | 0x80, exchange.fault.number]))


def _busy(exchange: Exchange) -> None:
    exchange.send(pdu=bytes([exchange.request.pdu[0] | 0x80, ExceptionCode.BUSY]))


def _close(exchange: Exchange) -> None:
    exchange.line.hang_up()


def _reset(exchange: Exchange) -> None:
    frame = exchange.frame
    exchange.line.send(frame[: len(frame) // 2])
    exchange.line.reset()


def _unplug(exchange: Exchange) -> None:
    exchange.server.unplug(exchange.fault.seconds)


FAULT_ACTIONS: dict[str, Callable[[Exchange], None]] = {
    "timeout": _timeout,
    "late": _late,
    "wrong_unit": _wrong_unit,
    "wrong_tid": _wrong_tid,
    "zero_tid": _zero_tid,
    "wrong_function": _wrong_function,
    "wrong_count": _wrong_count,
    "lying_count": _lying_count,
    "truncate": _truncate,
    "garbage": _garbage,
    "extra": _extra,
    "duplicate": _duplicate,
    "dribble": _dribble,
    "exception": _exception,
    "busy": _busy,
    "close": _close,
    "reset": _reset,
    "unplug": _unplug,
}
# RTU frames have no transaction id.
SOCKET_ONLY = frozenset({"wrong_tid", "zero_tid"})
# An exception reply has no registers, so these faults do not apply to it.
NEEDS_REGISTERS = frozenset({"wrong_count", "lying_count", "extra"})
