"""Modbus reads over a link: pymodbus' PDUs and frames, replies checked, busy devices waited for."""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeGuard

from pymodbus.framer import FramerBase
from pymodbus.pdu import ReadCoilsRequest, ReadHoldingRegistersRequest
from pymodbus.pdu.bit_message import ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from meterd.errors import DeviceError, LinkCode, LinkError, ProtocolError
from meterd.model.event import Notice
from meterd.model.quantity import FOREIGN_TRAFFIC
from meterd.model.sample import Reading
from meterd.wire.link import Link
from meterd.wire.replies import (
    ASCII,
    ILLEGAL_FUNCTION,
    MBAP,
    RTU,
    Answered,
    AsciiReply,
    ModbusException,
    Refused,
    RtuReply,
    SerialReply,
    TcpReply,
    cut,
    heard_frame,
    payload,
    split_ascii,
    split_rtu,
)
from meterd.wire.rtt_estimator import RttEstimator
from meterd.wire.streamlink import StreamLink
from meterd.wire.traffic import HeardFrame, Read, Rival, Traffic, traffic_on

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
_SPLIT: Final[dict[str, Callable[[bytes], Iterator[HeardFrame]]]] = {
    "rtu": split_rtu,
    "ascii": split_ascii,
}
# The transaction id begins a frame of Modbus TCP.
_TICKET_SIZE = 2
# Registers that one request may ask for.
_MOST = 125
# Different requests whose pace is known: far more than any plan has, even beside a proxy.
_KINDS = 2000
_BITS = (1, 2)
_WAIT = (5, 6)
# Pauses before a busy device is asked again, in seconds; then it is an error.
_BUSY_PAUSES = (0.1, 0.2, 0.4)
# How often a read is asked before no answer to it can be told from somebody else's.
_ASKS = 12
# After a frame more than was asked for, others are waited for so long (s), and so often.
_AFTER_S, _ROUNDS = 0.03, 4
# How long another answer may take to come, beyond what is usual: in parts of that, and seconds.
_WINDOW, _WINDOW_S = 1.5, 0.005
# The least quiet after a frame like one before, in seconds.
_QUIET_S = 0.01
# Before anything is known of a unit: this part of the timeout, and so many seconds at most.
_WINDOW_FIRST, _WINDOW_FIRST_S = 0.25, 0.25
# Answers to one question that take the same time within this, in parts and seconds.
_SAME_TIME, _SAME_TIME_S = 0.5, 0.02
# Where the line never rests by itself and all answers have one shape, it is listened to after so
# many seconds: that they all are one request late shows only then.
_REST_AFTER_S = 2.0

_NOBODY: Final[frozenset[int]] = frozenset()
_NOTHING: Final[Read] = (0, 0, 0)
_length = itemgetter(2)

Observer = Callable[[int, int, int, bytes], None]


@dataclass(frozen=True, slots=True)
class _HeardReply:
    """A frame that fits a request: when it came (loop time), how long after it, what it says.

    `contested`: somebody else was heard asking for the like of it meanwhile.
    """

    frame: bytes
    at: float
    took: float
    answer: Answered
    contested: bool = False

    @property
    def is_no(self) -> bool:
        """Whether it is an exception."""
        return isinstance(self.answer, DeviceError)

    def seen(self) -> HeardFrame:
        """The frame alone."""
        return heard_frame(self.frame, *cut(self.frame))

    def agrees(self, other: "_HeardReply") -> bool:
        """Whether both may well be answers of one meter to one question."""
        if self.frame == other.frame:
            return True
        longest, shortest = max(self.took, other.took), min(self.took, other.took)
        if longest - shortest > max(_SAME_TIME * shortest, _SAME_TIME_S):
            return False
        if not isinstance(self.answer, bytes) or not isinstance(other.answer, bytes):
            return False
        words = range(0, len(self.answer), 2)
        same = sum(self.answer[i : i + 2] == other.answer[i : i + 2] for i in words)
        return 2 * same >= len(words)


class ModbusClient:
    """Reads one unit on a link, in the frames that the link's option `framer` names.

    `observe` is told of each read that was answered: function, address, count and registers.
    `wide`: the unit's registers have 32 bits, and are read as two halves each: 2 a and 2 a + 1
    are register a. Bits are not concerned.
    """

    __slots__ = (
        "_framer",
        "_frames",
        "_link",
        "_station",
        "_traffic",
        "_unit",
        "_wide",
        "observe",
    )

    def __init__(self, link: Link, unit: int, *, wide: bool = False) -> None:
        self._wide = wide
        self._link = link
        self._unit = unit
        self._framer = link.options["framer"]
        self.observe: Observer | None = None
        self._frames: dict[tuple[int, int, int], tuple[bytes, int, RttEstimator]] = {}
        # Without ids: what is known of all that is heard on the link, and of this unit's answers.
        self._traffic: Traffic | None = None
        if self._framer in _SERIAL:
            self._traffic = traffic_on(link, _SPLIT[self._framer])
            self._station = self._traffic.station(unit)

    async def read(self, function: int, address: int, count: int, *, kept: bool = True) -> bytes:
        """The registers as they came, 2 bytes each (1 bit each for functions 1 and 2).

        `kept`: whether they are used, or only whether there is an answer at all. Raises Refused,
        ModbusException, or LinkError when no reply matched in time.
        """
        if not self._wide or function in _BITS:
            return await self._read(function, address, count, kept=kept)
        first, end = address // 2, (address + count + 1) // 2
        data = await self._read(function, first, end - first, kept=kept)
        skip = 2 * (address - 2 * first)
        return data[skip : skip + 2 * count]

    async def _read(self, function: int, address: int, count: int, *, kept: bool) -> bytes:
        once = self._ask_tcp
        if self._traffic is not None:
            once = functools.partial(self._read_serial, self._traffic, kept=kept)
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
            halves = 2 if self._wide and function not in _BITS else 1
            self.observe(function, address * halves, count * halves, data)
        return data

    def _payload(self, function: int, count: int) -> int:
        size = payload(function, count)
        return 2 * size if self._wide and function not in _BITS else size

    def _rival(self, read: Read) -> Rival:
        """What an answer to this read looks like."""
        size = self._payload(read[0], read[2])
        return self._unit, read[0], size if read[0] in _BITS else size // 2

    def sizes(self, function: int, count: int) -> tuple[int, int]:
        """Bytes of such a request and of its reply, frames included."""
        if self._wide and function not in _BITS:
            count = -(-count // 2)
        request, reply = 5, 2 + self._payload(function, count)
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
        fences = self._traffic is not None and self._station.fences.late
        return fences or any(pace.late for _, _, pace in self._frames.values())

    def _frame(self, function: int, address: int, count: int) -> tuple[bytes, int, RttEstimator]:
        """The request (with transaction id 0), what its values take, and its pace."""
        key = (function, address, count)
        if (known := self._frames.get(key)) is None:
            if len(self._frames) >= _KINDS:
                self._frames.clear()
            message = _REQUESTS[function](address=address, count=count)
            framer = _SERIAL[self._framer][0] if self._framer in _SERIAL else MBAP
            frame = framer.encode(bytes([function]) + message.encode(), self._unit, 0)
            known = self._frames[key] = frame, self._payload(function, count), RttEstimator()
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

    @property
    def shaken(self) -> int:
        """Grows when it turns out that answers before were perhaps not this unit's."""
        return 0 if self._traffic is None else self._station.shaken

    def notices(self) -> list[Notice]:
        """What was noticed on the link, each told to one client only."""
        if self._traffic is None:
            return []
        self._traffic.look(asyncio.get_running_loop().time())
        found, self._traffic.notices = self._traffic.notices, []
        return found

    def readings(self) -> list[Reading]:
        """What there is to say of the link: whether somebody else asks on it, once it was so."""
        foreign = None if self._traffic is None else self._traffic.foreign
        return [] if foreign is None else [Reading(FOREIGN_TRAFFIC, foreign, "1")]

    async def _read_serial(
        self, traffic: Traffic, function: int, address: int, count: int, *, kept: bool
    ) -> bytes:
        read = (function, address, count)
        station, size = self._station, self._payload(function, count)
        async with traffic.turn:
            if kept and size not in station.sizes:
                station.sizes |= {size}
            if station.owed:
                station.late = station.owed
                await self._fence(traffic, read)
                station.late = _NOBODY
            station.owed = frozenset((size,))
            try:
                registers = await self._ask_serial(traffic, read)
            except LinkError:
                station.proven = _NOTHING if read == station.proven else station.proven
                raise
            except DeviceError:
                station.owed = station.doubled
                raise
            station.owed = station.doubled
            station.proven = max(station.proven, read, key=_length)
            return registers

    async def _ask_serial(
        self, traffic: Traffic, read: Read, *, pace: RttEstimator | None = None
    ) -> bytes:
        """The registers, from a frame that answers this read and nothing else."""
        pace = pace or self._frame(*read)[2]
        usual, soonest = max(pace.usual, self._station.usual), pace.soonest
        self._station.doubled = _NOBODY
        rival = self._rival(read)
        await traffic.rest(rival, usual * _WINDOW + _WINDOW_S, _REST_AFTER_S)
        reply, heard = await self._exchange(traffic, read, pace)
        if _is_wait(heard.answer):
            raise heard.answer  # asked again anyway, so it need not be certain
        if heard.took < soonest or not traffic.trusts(heard.frame, read, self._unit, reply.at):
            unknown = min(self._link.timeout * _WINDOW_FIRST, _WINDOW_FIRST_S)
            usual = max(usual or unknown, heard.took)
            heard = await self._confirm(traffic, read, reply, heard, usual)
        self._station.answered(heard.took)
        traffic.keep(heard.frame, read, heard.at)
        traffic.answered_at = heard.at
        if isinstance(heard.answer, DeviceError):
            raise heard.answer
        return heard.answer

    async def _exchange(
        self, traffic: Traffic, read: Read, pace: RttEstimator
    ) -> tuple[SerialReply, _HeardReply]:
        """Ask once; what else was heard meanwhile is told to `traffic`."""
        request, size, _ = self._frame(*read)
        kind = _SERIAL[self._framer][1]
        reply = kind(self._link, self._unit, read[0], size, traffic=traffic, read=read)
        traffic.request = request
        answer: Answered
        try:
            answer = await self._link.exchange(
                request,
                reply.parse,
                timeout=self._link.timeout + self._on_the_wire(read[0], read[2]),
                pace=pace,
                station=self._unit,
            )
        except DeviceError as no:
            answer = no
        except LinkError as error:
            # Without an answer of its own, what came may be a strange answer to this very request.
            requests = [frame for frame in reply.others if frame.is_request]
            traffic.others(requests, asyncio.get_running_loop().time())
            raise reply.explained(error, late=pace.late) from error
        contested = bool(reply.others) and reply.rivals()
        traffic.others(reply.others, reply.at)
        reply.others.clear()
        took = self._station.usual if isinstance(answer, DeviceError) else self._link.took
        return reply, _HeardReply(reply.frame, reply.at, took, answer, contested)

    async def _confirm(
        self, traffic: Traffic, read: Read, reply: SerialReply, first: _HeardReply, usual: float
    ) -> _HeardReply:
        """The answer, after it has stood alone: until others would have come, nothing came.

        One like a frame before it counts when it comes again. Where somebody else asks this unit,
        every answer has to.
        """
        before: _HeardReply | None = None
        alone = False
        for ask in range(_ASKS):
            if ask:
                reply, first = await self._exchange(traffic, read, self._frame(*read)[2])
                usual = max(usual, self._station.usual)
                if alone and before is not None and before.frame == first.frame:
                    return first
            if before is None and ask < _ASKS - 1 and self._has_rivals(traffic, read, first.at):
                # Two answers to two questions, and then nothing: no need to wait in between.
                before = None if first.contested else first
                traffic.keep(first.frame, read, first.at)
                continue
            wait = usual * _WINDOW + _WINDOW_S
            calm = traffic.is_calm(self._unit, read[0], first.at)
            if calm and not first.is_no and traffic.repeats(first.frame, read, first.at):
                # Were it a copy, the answer would still come, in the usual time after the request.
                wait = max(wait - first.took, _QUIET_S)
            heard = [first, *await self._others(traffic, reply, first, wait)]
            alone = calm and len(heard) == 1
            now = asyncio.get_running_loop().time()
            only = _only(traffic, read, heard, now)
            if only is not None and self._counts(traffic, read, only, before, heard):
                if before is not None and before.frame != only.frame:
                    self._station.doubled = frozenset((self._payload(read[0], read[2]),))
                return only
            for one in heard:
                traffic.keep(one.frame, read, one.at)
            before = only
        raise ProtocolError(_confused(traffic, self._unit, read), code=LinkCode.FOREIGN_TRAFFIC)

    async def _others(
        self, traffic: Traffic, reply: SerialReply, first: _HeardReply, wait: float
    ) -> list[_HeardReply]:
        """What else comes within `wait` s that fits the request."""
        found: list[tuple[bytes, float, Answered]] = []
        link = self._link
        if isinstance(link, StreamLink):
            wait = min(wait, link.timeout)
            for _ in range(_ROUNDS):
                known = len(found)
                await link.listen(functools.partial(reply.collect, found=found), wait)
                if len(found) == known:
                    break
                wait = _AFTER_S
        contested = bool(reply.others) and reply.rivals()
        traffic.others(reply.others, asyncio.get_running_loop().time())
        reply.others.clear()
        return [
            _HeardReply(frame, at, first.took + at - first.at, answer, contested)
            for frame, at, answer in found
        ]

    def _counts(
        self,
        traffic: Traffic,
        read: Read,
        only: _HeardReply,
        before: _HeardReply | None,
        heard: Sequence[_HeardReply],
    ) -> bool:
        """Whether this answer, one of what was `heard`, needs no further one."""
        if traffic.repeats(only.frame, read, only.at):
            # A refusal is tried again anyway, by and by: that nothing followed it is enough.
            alone = only.is_no and len(heard) == 1
            return alone or (before is not None and before.frame == only.frame)
        if before is not None and only.agrees(before):
            return True
        if self._has_rivals(traffic, read, only.at):
            return False
        # A new frame and its own copies are as good as one that stands alone.
        return traffic.doubles or all(one.frame == only.frame for one in heard)

    def _has_rivals(self, traffic: Traffic, read: Read, now: float) -> bool:
        return traffic.rivals(self._rival(read), now)

    async def _fence(self, traffic: Traffic, read: Read) -> None:
        """Before the first read after a lost reply: ask for a size that no kept read ever has.

        A bus answers in order. So once this answer is there (a no is one, too), a late reply
        to a read came before it and was dropped by its size, or will never come; and the
        late answers to other fences fit no read that is kept.
        """
        station = self._station
        fences = itertools.chain(self._parts_of_proven(), _near(*read))
        sizes = station.sizes | station.owed
        fence = next((one for one in fences if self._payload(one[0], one[2]) not in sizes), None)
        if fence is not None:
            self._link.count("fences")
            proven, station.proven = station.proven, _NOTHING
            with contextlib.suppress(DeviceError):
                await self._ask_serial(traffic, fence, pace=station.fences)
            station.proven = proven
        station.owed = _NOBODY

    def _parts_of_proven(self) -> Iterator[Read]:
        """What the unit surely answers: there may be registers that it is silent on."""
        function, address, count = self._station.proven
        yield from ((function, address, n) for n in (count - 2, *range(count - 1, 0, -1)) if n > 0)


def _only(traffic: Traffic, read: Read, heard: list[_HeardReply], now: float) -> _HeardReply | None:
    """The one frame of these that is new, or all that came; None where there are several."""
    if any(one.contested for one in heard):
        return None
    fresh: dict[bytes, _HeardReply] = {}
    for one in heard:
        if one.frame not in fresh and not (
            traffic.repeats(one.frame, read, now) or traffic.stands(one.frame, read, now)
        ):
            fresh[one.frame] = one
    if len(fresh) > 1:
        traffic.crossed([one.seen() for one in fresh.values()], now)
        return None
    if not fresh and len({one.frame for one in heard}) > 1:
        return None
    only = next(iter(fresh.values()), heard[0])
    if only is not heard[0] or len(heard) > 1:
        if fresh:
            traffic.keep(only.frame, read, only.at)
        for one in heard:
            if one is not only:
                traffic.copied(one.frame, one.at)
    return only


def _is_wait(answer: Answered) -> TypeGuard[ModbusException]:
    return isinstance(answer, ModbusException) and answer.exception in _WAIT


def _confused(traffic: Traffic, unit: int, read: Read) -> str:
    function, address, count = read
    why = traffic.why()
    return (
        f"somebody else asks on this bus{f' (heard: {why})' if why else ''}: of {_ASKS} answers to "
        f"unit {unit}, function {function}, {count} registers from {address} none could be told "
        "from theirs; let only one program ask, or let the others ask meterd's proxy"
    )


def _near(function: int, address: int, count: int) -> Iterator[Read]:
    """Reads of other lengths, those that differ least first."""
    for n in (count - 2, count - 1, count + 2, count + 1, *range(1, _MOST)):
        if 0 < n <= _MOST:
            yield function, address, n
