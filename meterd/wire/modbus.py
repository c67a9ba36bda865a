"""Modbus reads over a link: pymodbus' PDUs and frames, replies checked, busy devices waited for."""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final

from pymodbus.framer import FramerBase
from pymodbus.pdu import ReadCoilsRequest, ReadHoldingRegistersRequest
from pymodbus.pdu.bit_message import ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from meterd.errors import DeviceError, LinkError
from meterd.wire.link import Link
from meterd.wire.pace import Pace
from meterd.wire.replies import (
    ASCII,
    ILLEGAL_FUNCTION,
    MBAP,
    RTU,
    AsciiReply,
    ModbusException,
    Refused,
    RtuReply,
    TcpReply,
    payload,
)

__all__ = ["ILLEGAL_FUNCTION", "ModbusClient", "ModbusException", "Refused"]

_REQUESTS: Final = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
# Frames without transaction ids: what makes them, and what picks the reply.
_SERIAL: Final[dict[str, tuple[FramerBase, type[RtuReply | AsciiReply]]]] = {
    "rtu": (RTU, RtuReply),
    "ascii": (ASCII, AsciiReply),
}
# The transaction id begins a frame of Modbus TCP.
_TICKET_SIZE = 2
# Registers that one request may ask for.
_MOST = 125
# Different requests whose pace is known: far more than any plan has, even beside a proxy.
_KINDS = 2000
_WAIT = (5, 6)
# Pauses before a busy device is asked again, in seconds; then it is an error.
_BUSY_PAUSES = (0.1, 0.2, 0.4)

Read = tuple[int, int, int]
"""Function, address and count."""
_NOBODY: Final[frozenset[int]] = frozenset()
_NOTHING: Final[Read] = (0, 0, 0)
_length = itemgetter(2)

Observer = Callable[[int, int, int, bytes], None]


class ModbusClient:
    """Reads one unit on a link, in the frames that the link's option `framer` names.

    `observe` is told of each read that was answered: function, address, count and registers.
    """

    __slots__ = (
        "_fences",
        "_framer",
        "_frames",
        "_link",
        "_owed",
        "_proven",
        "_sizes",
        "_unit",
        "observe",
    )

    def __init__(self, link: Link, unit: int) -> None:
        self._link = link
        self._unit = unit
        self._framer = link.options["framer"]
        self.observe: Observer | None = None
        self._frames: dict[tuple[int, int, int], tuple[bytes, int, Pace]] = {}
        # Without ids: the sizes of late replies that may still come, those of replies that are
        # kept, and the longest read that was answered.
        self._owed = self._sizes = _NOBODY
        self._proven = _NOTHING
        # One for all fences, which differ: that one came late is known when the next is asked.
        self._fences = Pace()

    async def read(self, function: int, address: int, count: int, *, kept: bool = True) -> bytes:
        """The registers as they came, 2 bytes each (1 bit each for functions 1 and 2).

        `kept`: whether they are used, or only whether there is an answer at all. Raises Refused,
        ModbusException, or LinkError when no reply matched in time.
        """
        once = self._ask_tcp
        if self._framer in _SERIAL:
            once = functools.partial(self._read_serial, kept=kept)
        busy = 0
        while True:
            try:
                data = await once(function, address, count)
                break
            except ModbusException as error:
                if error.exception not in _WAIT or busy == len(_BUSY_PAUSES):
                    raise
            self._link.count("busy")
            await asyncio.sleep(_BUSY_PAUSES[busy])
            busy += 1
        if self.observe is not None:
            self.observe(function, address, count, data)
        return data

    def sizes(self, function: int, count: int) -> tuple[int, int]:
        """Bytes of such a request and of its reply, frames included."""
        request, reply = 5, 2 + payload(function, count)
        if self._framer == "ascii":
            return 2 * request + 7, 2 * reply + 7
        around = 3 if self._framer == "rtu" else 7
        return around + request, around + reply

    def _on_the_wire(self, function: int, count: int) -> float:
        """Seconds that the bytes of an exchange take themselves; the timeout is for the meter."""
        said = self._link.options
        if "baud" not in said:
            return 0.0
        bits = 1 + int(said["bytes"]) + (said["parity"] != "N") + int(said["stop"])
        return sum(self.sizes(function, count)) * bits / int(said["baud"])

    @property
    def timeout(self) -> float:
        """The longest that any of this unit's exchanges may take now, in seconds."""
        limits = [pace.limit(self._link.timeout) for _, _, pace in self._frames.values()]
        return max(limits, default=self._link.timeout)

    @property
    def is_late(self) -> bool:
        """Whether answers of this unit came after they were given up, and none in time since."""
        return self._fences.late or any(pace.late for _, _, pace in self._frames.values())

    def _frame(self, function: int, address: int, count: int) -> tuple[bytes, int, Pace]:
        """The request (with transaction id 0), what its values take, and its pace."""
        key = (function, address, count)
        if (known := self._frames.get(key)) is None:
            if len(self._frames) >= _KINDS:
                self._frames.clear()
            message = _REQUESTS[function](address=address, count=count)
            framer = _SERIAL[self._framer][0] if self._framer in _SERIAL else MBAP
            frame = framer.encode(bytes([function]) + message.encode(), self._unit, 0)
            known = self._frames[key] = frame, payload(function, count), Pace()
        return known

    # -- with transaction ids ----------------------------------------------------------------

    async def _ask_tcp(self, function: int, address: int, count: int) -> bytes:
        ticket = self._link.ticket()
        frame, size, pace = self._frame(function, address, count)
        request = ticket.to_bytes(_TICKET_SIZE, "big") + frame[_TICKET_SIZE:]
        reply = TcpReply(self._link, ticket, self._unit, function, size)
        try:
            return await self._link.exchange(
                request, reply.parse, quiet=False, ticket=ticket, pace=pace, station=self._unit
            )
        except LinkError as error:
            raise reply.explained(error, late=pace.late) from error

    # -- without -----------------------------------------------------------------------------

    async def _read_serial(self, function: int, address: int, count: int, *, kept: bool) -> bytes:
        size = payload(function, count)
        if kept and size not in self._sizes:
            self._sizes |= {size}
        if self._owed:
            await self._fence(function, address, count)
        read = (function, address, count)
        self._owed = frozenset((size,))
        try:
            registers = await self._ask_serial(*read)
        except LinkError:
            self._proven = _NOTHING if read == self._proven else self._proven
            raise
        except DeviceError:
            self._owed = _NOBODY
            raise
        self._owed = _NOBODY
        self._proven = max(self._proven, read, key=_length)
        return registers

    async def _ask_serial(
        self, function: int, address: int, count: int, *, pace: Pace | None = None
    ) -> bytes:
        request, size, usual = self._frame(function, address, count)
        pace = pace or usual
        reply = _SERIAL[self._framer][1](self._link, self._unit, function, size)
        try:
            return await self._link.exchange(
                request,
                reply.parse,
                timeout=self._link.timeout + self._on_the_wire(function, count),
                pace=pace,
                station=self._unit,
            )
        except LinkError as error:
            raise reply.explained(error, late=pace.late) from error

    async def _fence(self, function: int, address: int, count: int) -> None:
        """Before the first read after a lost reply: ask for a size that no kept read ever has.

        A bus answers in order. So once this answer is there (a no is one, too), a late reply
        to a read came before it and was dropped by its size, or will never come; and the
        late answers to other fences fit no read that is kept.
        """
        fences = itertools.chain(self._parts_of_proven(), _near(function, address, count))
        sizes = self._sizes | self._owed
        fence = next((one for one in fences if payload(one[0], one[2]) not in sizes), None)
        if fence is not None:
            self._link.count("fences")
            proven, self._proven = self._proven, _NOTHING
            with contextlib.suppress(DeviceError):
                await self._ask_serial(*fence, pace=self._fences)
            self._proven = proven
        self._owed = _NOBODY

    def _parts_of_proven(self) -> Iterator[Read]:
        """What the unit surely answers: there may be registers that it is silent on."""
        function, address, count = self._proven
        yield from ((function, address, n) for n in (count - 2, *range(count - 1, 0, -1)) if n > 0)


def _near(function: int, address: int, count: int) -> Iterator[Read]:
    """Reads of other lengths, those that differ least first."""
    for n in (count - 2, count - 1, count + 2, count + 1, *range(1, _MOST)):
        if 0 < n <= _MOST:
            yield function, address, n
