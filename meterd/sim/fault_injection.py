"""What each fault of a meter does with the reply that was due."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import Adu
from meterd.sim.register_bank import RefusedRequest
from meterd.sim.transports import ServerLine

_READ = struct.Struct(">BHH")
_GARBAGE = (5, 40)
_TIDS = 0x10000


class Server(Protocol):
    """What an injected fault needs of the server, which imports this module."""

    def answer(self, request: Adu) -> Adu | None:
        """The right answer; None for a unit that is not there."""

    def unplug(self, seconds: float) -> None:
        """Be gone for a while."""

    def others(self, unit: int) -> list[int]:
        """The units beside this one."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request with the reply that is right, and everything needed to spoil it."""

    server: Server
    line: ServerLine
    request: Adu
    reply: Adu
    fault: SimulatedFault
    random: Random

    def send(self, **changes: int | bytes) -> None:
        """The reply, with these fields of it changed."""
        self.line.send(self.line.wrap(replace(self.reply, **changes)))  # type: ignore[arg-type]

    @property
    def frame(self) -> bytes:
        return self.line.wrap(self.reply)


def _timeout(_: Exchange) -> None:
    """Say nothing."""


def _late(x: Exchange) -> None:
    x.line.send(x.frame, x.fault.seconds)


def _wrong_unit(x: Exchange) -> None:
    x.send(unit=x.reply.unit % 247 + 1)


def _wrong_tid(x: Exchange) -> None:
    wrong = [tid for tid in x.random.sample(range(1, _TIDS), 2) if tid != x.reply.tid]
    x.send(tid=wrong[0])


def _zero_tid(x: Exchange) -> None:
    x.send(tid=0)


def _wrong_function(x: Exchange) -> None:
    function = x.reply.pdu[0] % 4 + 1
    x.send(pdu=bytes([function]) + x.reply.pdu[1:])


def _wrong_count(x: Exchange) -> None:
    """A frame in good order, with a register less than asked."""
    data = x.reply.pdu[2:-2]
    x.send(pdu=bytes([x.reply.pdu[0], len(data)]) + data)


def _lying_count(x: Exchange) -> None:
    """All registers are there, but the byte count says otherwise."""
    lie = (x.reply.pdu[1] + x.random.choice((-2, -1, 1, 2))) % 256
    x.send(pdu=bytes([x.reply.pdu[0], lie]) + x.reply.pdu[2:])


def _truncate(x: Exchange) -> None:
    frame = x.frame
    end = x.fault.number or x.random.randrange(1, len(frame))
    x.line.send(frame[: min(end, len(frame) - 1)])


def _garbage(x: Exchange) -> None:
    x.line.send(x.random.randbytes(x.random.randint(*_GARBAGE)))


def _extra(x: Exchange) -> None:
    """Somebody else's reply first, then the right one."""
    if (foreign := _foreign(x)) is not None:
        x.line.send(x.line.wrap(foreign))
    x.line.send(x.frame)


def _foreign(x: Exchange) -> Adu | None:
    """A valid reply that was not asked for: of another unit, or of another block of this one.

    On RTU the other block has another length: one of the same length could not be told apart.
    """
    others = x.server.others(x.request.unit)
    if others and x.random.random() < 1 / 2:
        asked = replace(x.request, unit=x.random.choice(others))
        return _good(x.server.answer(asked))
    function, address, count = _READ.unpack(x.request.pdu)
    if x.line.framer == "rtu":
        block = (address + 1, count - 1) if count > 1 else (address, 2)
        pdu = _READ.pack(function, *block)
        return _good(x.server.answer(replace(x.request, pdu=pdu)))
    earlier = replace(x.request, tid=(x.request.tid - 1) % _TIDS)
    for shift in (count, -count, 1, -1):
        pdu = _READ.pack(function, (address + shift) % 0x10000, count)
        if (found := _good(x.server.answer(replace(earlier, pdu=pdu)))) is not None:
            return found
    return None


def _good(adu: Adu | None) -> Adu | None:
    return adu if adu is not None and adu.pdu[0] < 0x80 else None


def _duplicate(x: Exchange) -> None:
    x.line.send(x.frame + x.frame)


def _dribble(x: Exchange) -> None:
    x.line.dribble(x.frame, x.fault.seconds)


def _exception(x: Exchange) -> None:
    x.send(pdu=bytes([x.request.pdu[0] | 0x80, x.fault.number]))


def _busy(x: Exchange) -> None:
    x.send(pdu=bytes([x.request.pdu[0] | 0x80, RefusedRequest.BUSY]))


def _close(x: Exchange) -> None:
    x.line.hang_up()


def _reset(x: Exchange) -> None:
    frame = x.frame
    x.line.send(frame[: len(frame) // 2])
    x.line.reset()


def _unplug(x: Exchange) -> None:
    x.server.unplug(x.fault.seconds)


MISCHIEF: dict[str, Callable[[Exchange], None]] = {
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
# RTU has no transaction ids to get wrong.
SOCKET_ONLY = frozenset({"wrong_tid", "zero_tid"})
# A refusal has no registers that could be spoilt.
NEEDS_REGISTERS = frozenset({"wrong_count", "lying_count", "extra"})
