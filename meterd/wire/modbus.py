"""Modbus client for reads: builds requests with pymodbus, checks replies, retries busy devices."""

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
    AsciiReply,
    ModbusException,
    Refused,
    ReplyContent,
    RtuReply,
    SerialReply,
    TcpReply,
    heard_frame,
    payload,
    split_ascii,
    split_rtu,
    unit_and_pdu,
)
from meterd.wire.rtt_estimator import RttEstimator
from meterd.wire.streamlink import StreamLink
from meterd.wire.traffic import HeardFrame, Read, ReplyShape, Traffic, traffic_on

__all__ = ["ILLEGAL_FUNCTION", "ModbusClient", "ModbusException", "Refused"]

_REQUESTS: Final = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
# Framings without transaction ids: encoder and reply parser.
_SERIAL: Final[dict[str, tuple[FramerBase, type[RtuReply | AsciiReply]]]] = {
    "rtu": (RTU, RtuReply),
    "ascii": (ASCII, AsciiReply),
}
_SPLIT: Final[dict[str, Callable[[bytes], Iterator[HeardFrame]]]] = {
    "rtu": split_rtu,
    "ascii": split_ascii,
}
# A Modbus TCP frame begins with the transaction id.
_TID_BYTES = 2
# Registers per read request (Modbus V1.1b3, 6.3).
_REGISTERS_MAX = 125
# Encoded requests and their RTTs kept per client: far more than any plan has, even with a proxy.
_REQUESTS_CACHED_MAX = 2000
_BIT_FUNCTIONS = (1, 2)
_BUSY_EXCEPTIONS = (5, 6)
# Seconds before each repetition of a request to a busy device; after the last it is an error.
_BUSY_PAUSES_S = (0.1, 0.2, 0.4)
# Requests sent to confirm a reply before it cannot be told from another master's.
_CONFIRM_ATTEMPTS = 12
# After an unrequested frame: seconds to listen for the next one, and how often at most.
_NEXT_FRAME_WAIT_S, _LISTEN_ROUNDS_MAX = 0.03, 4
# A second reply would come within the usual RTT times the factor plus the margin in seconds.
_WINDOW_RTT_FACTOR, _WINDOW_MARGIN_S = 1.5, 0.005
# Least silence after a frame equal to an earlier one, in seconds.
_COPY_QUIET_MIN_S = 0.01
# That window while the unit's RTT is unknown: this part of the timeout, at most so many seconds.
_FIRST_WINDOW_PART, _FIRST_WINDOW_MAX_S = 0.25, 0.25
# RTTs of two replies to the same request that count as equal: relative and absolute (s) tolerance.
_SAME_RTT_PART, _SAME_RTT_S = 0.5, 0.02
# On a line without pauses whose replies have one shape, listen at least every so many seconds:
# only then it shows if every reply belongs to the request before.
_PAUSE_INTERVAL_S = 2.0

_NO_SIZES: Final[frozenset[int]] = frozenset()
_NO_READ: Final[Read] = (0, 0, 0)
_register_count = itemgetter(2)

Observer = Callable[[int, int, int, bytes], None]


@dataclass(frozen=True, slots=True)
class _HeardReply:
    """A frame that fits a request: loop time of arrival, seconds since the request, content.

    `contested`: another master sent a request with the same shape of reply meanwhile.
    """

    frame: bytes
    at: float
    rtt: float
    content: ReplyContent
    contested: bool = False

    @property
    def is_exception(self) -> bool:
        """Whether the reply is a Modbus exception."""
        return isinstance(self.content, DeviceError)

    def as_heard(self) -> HeardFrame:
        """The frame for the link's history."""
        return heard_frame(self.frame, *unit_and_pdu(self.frame))

    def agrees(self, other: "_HeardReply") -> bool:
        """Whether both may be replies of one meter to the same request.

        They are equal, or took about the same time and have half of their registers in common.
        """
        if self.frame == other.frame:
            return True
        longest, shortest = max(self.rtt, other.rtt), min(self.rtt, other.rtt)
        if longest - shortest > max(_SAME_RTT_PART * shortest, _SAME_RTT_S):
            return False
        if not isinstance(self.content, bytes) or not isinstance(other.content, bytes):
            return False
        words = range(0, len(self.content), 2)
        equal = sum(self.content[i : i + 2] == other.content[i : i + 2] for i in words)
        return 2 * equal >= len(words)


class ModbusClient:
    """Reads from one unit on a link, framed as the link's option `framer` says.

    `observe` is called for each successful read with function, address, count and registers.
    `wide`: the unit's registers have 32 bits; they are addressed as two halves each, 2 a and
    2 a + 1 for register a. Functions 1 and 2 (bits) are not affected.
    """

    __slots__ = (
        "_framer",
        "_link",
        "_requests",
        "_traffic",
        "_unit",
        "_unit_traffic",
        "_wide",
        "observe",
    )

    def __init__(self, link: Link, unit: int, *, wide: bool = False) -> None:
        self._wide = wide
        self._link = link
        self._unit = unit
        self._framer = link.options["framer"]
        self.observe: Observer | None = None
        self._requests: dict[tuple[int, int, int], tuple[bytes, int, RttEstimator]] = {}
        # For framings without transaction ids: the link's history, and the unit's part of it.
        self._traffic: Traffic | None = None
        if self._framer in _SERIAL:
            self._traffic = traffic_on(link, _SPLIT[self._framer])
            self._unit_traffic = self._traffic.unit_traffic(unit)

    async def read(
        self, function: int, address: int, count: int, *, values_used: bool = True
    ) -> bytes:
        """The registers as received, big endian, 2 bytes each (1 bit each for functions 1 and 2).

        `values_used` is False for reads that only test whether the unit answers. Raises Refused,
        ModbusException, or LinkError when no reply matched in time.
        """
        if not self._wide or function in _BIT_FUNCTIONS:
            return await self._read(function, address, count, values_used=values_used)
        first, end = address // 2, (address + count + 1) // 2
        data = await self._read(function, first, end - first, values_used=values_used)
        skip = 2 * (address - 2 * first)
        return data[skip : skip + 2 * count]

    async def _read(self, function: int, address: int, count: int, *, values_used: bool) -> bytes:
        read_once = self._read_tcp
        if self._traffic is not None:
            read_once = functools.partial(self._read_serial, self._traffic, values_used=values_used)
        attempts = 0
        while True:
            try:
                data = await read_once(function, address, count)
                break
            except ModbusException as error:
                if error.exception not in _BUSY_EXCEPTIONS or attempts == len(_BUSY_PAUSES_S):
                    raise
            self._link.count("busy")
            await asyncio.sleep(_BUSY_PAUSES_S[attempts])
            attempts += 1
        if self.observe is not None:
            halves = 2 if self._wide and function not in _BIT_FUNCTIONS else 1
            self.observe(function, address * halves, count * halves, data)
        return data

    def _payload(self, function: int, count: int) -> int:
        size = payload(function, count)
        return 2 * size if self._wide and function not in _BIT_FUNCTIONS else size

    def _shape(self, read: Read) -> ReplyShape:
        """The shape of the reply to this read."""
        size = self._payload(read[0], read[2])
        return self._unit, read[0], size if read[0] in _BIT_FUNCTIONS else size // 2

    def sizes(self, function: int, count: int) -> tuple[int, int]:
        """Bytes of such a request and of its reply, framing included."""
        if self._wide and function not in _BIT_FUNCTIONS:
            count = -(-count // 2)
        request, reply = 5, 2 + self._payload(function, count)
        if self._framer == "ascii":
            return 2 * request + 7, 2 * reply + 7
        framing = 3 if self._framer == "rtu" else 7
        return framing + request, framing + reply

    def _line_time(self, function: int, count: int) -> float:
        """Transmission time of request and reply in seconds; it is added to the timeout."""
        options = self._link.options
        if "baud" not in options:
            return 0.0
        bits = 1 + int(options["bytes"]) + (options["parity"] != "N") + int(options["stop"])
        return sum(self.sizes(function, count)) * bits / int(options["baud"])

    @property
    def timeout(self) -> float:
        """The longest current time limit of this unit's exchanges, in seconds."""
        limits = [
            estimator.limit(self._link.timeout) for _, _, estimator in self._requests.values()
        ]
        return max(limits, default=self._link.timeout)

    @property
    def is_late(self) -> bool:
        """Whether replies of this unit came after their timeout, and none in time since."""
        resync_late = self._traffic is not None and self._unit_traffic.resync_rtt.late
        return resync_late or any(estimator.late for _, _, estimator in self._requests.values())

    def _request(self, function: int, address: int, count: int) -> tuple[bytes, int, RttEstimator]:
        """The encoded request (transaction id 0), the reply's data bytes, and its RTT."""
        key = (function, address, count)
        if (request := self._requests.get(key)) is None:
            if len(self._requests) >= _REQUESTS_CACHED_MAX:
                self._requests.clear()
            message = _REQUESTS[function](address=address, count=count)
            framer = _SERIAL[self._framer][0] if self._framer in _SERIAL else MBAP
            frame = framer.encode(bytes([function]) + message.encode(), self._unit, 0)
            request = self._requests[key] = frame, self._payload(function, count), RttEstimator()
        return request

    # -- with transaction ids ----------------------------------------------------------------

    async def _read_tcp(self, function: int, address: int, count: int) -> bytes:
        transaction = self._link.ticket()
        frame, size, estimator = self._request(function, address, count)
        request = transaction.to_bytes(_TID_BYTES, "big") + frame[_TID_BYTES:]
        reply = TcpReply(self._link, transaction, self._unit, function, size)
        try:
            return await self._link.exchange(
                request,
                reply.parse,
                quiet=False,
                ticket=transaction,
                pace=estimator,
                station=self._unit,
            )
        except LinkError as error:
            raise reply.describe(error, late=estimator.late) from error

    # -- without transaction ids -------------------------------------------------------------

    @property
    def suspect_count(self) -> int:
        """Count that grows when earlier replies turn out to be possibly another master's."""
        return 0 if self._traffic is None else self._unit_traffic.suspect_count

    def notices(self) -> list[Notice]:
        """Notices about the link since the last call of any client; they are handed out once."""
        if self._traffic is None:
            return []
        self._traffic.expire(asyncio.get_running_loop().time())
        notices, self._traffic.notices = self._traffic.notices, []
        return notices

    def readings(self) -> list[Reading]:
        """Readings of the link itself: foreign traffic 1 or 0, once there was some."""
        foreign = None if self._traffic is None else self._traffic.foreign
        return [] if foreign is None else [Reading(FOREIGN_TRAFFIC, foreign, "1")]

    async def _read_serial(
        self, traffic: Traffic, function: int, address: int, count: int, *, values_used: bool
    ) -> bytes:
        read = (function, address, count)
        unit, size = self._unit_traffic, self._payload(function, count)
        async with traffic.turn:
            if values_used and size not in unit.read_sizes:
                unit.read_sizes |= {size}
            if unit.outstanding:
                unit.outstanding_before = unit.outstanding
                await self._resynchronise(traffic, read)
                unit.outstanding_before = _NO_SIZES
            unit.outstanding = frozenset((size,))
            try:
                registers = await self._request_serial(traffic, read)
            except LinkError:
                unit.longest_read = _NO_READ if read == unit.longest_read else unit.longest_read
                raise
            except DeviceError:
                unit.outstanding = unit.repeated
                raise
            unit.outstanding = unit.repeated
            unit.longest_read = max(unit.longest_read, read, key=_register_count)
            return registers

    async def _request_serial(
        self, traffic: Traffic, read: Read, *, estimator: RttEstimator | None = None
    ) -> bytes:
        """The registers from a reply that is certain to belong to this request."""
        estimator = estimator or self._request(*read)[2]
        usual_rtt, soonest_rtt = (
            max(estimator.usual, self._unit_traffic.rtt_high),
            estimator.soonest,
        )
        self._unit_traffic.repeated = _NO_SIZES
        rival = self._shape(read)
        await traffic.ensure_pause(
            rival, usual_rtt * _WINDOW_RTT_FACTOR + _WINDOW_MARGIN_S, _PAUSE_INTERVAL_S
        )
        parser, reply = await self._exchange(traffic, read, estimator)
        if _is_wait(reply.content):
            raise reply.content  # the request is repeated anyway: no confirmation needed
        if reply.rtt < soonest_rtt or not traffic.accepts(reply.frame, read, self._unit, parser.at):
            first_window = min(self._link.timeout * _FIRST_WINDOW_PART, _FIRST_WINDOW_MAX_S)
            usual_rtt = max(usual_rtt or first_window, reply.rtt)
            reply = await self._confirm(traffic, read, parser, reply, usual_rtt)
        self._unit_traffic.answered(reply.rtt)
        traffic.keep(reply.frame, read, reply.at)
        traffic.answered_at = reply.at
        if isinstance(reply.content, DeviceError):
            raise reply.content
        return reply.content

    async def _exchange(
        self, traffic: Traffic, read: Read, estimator: RttEstimator
    ) -> tuple[SerialReply, _HeardReply]:
        """One request and its reply; other frames of the meantime go to `traffic`."""
        request, size, _ = self._request(*read)
        parser_class = _SERIAL[self._framer][1]
        parser = parser_class(self._link, self._unit, read[0], size, traffic=traffic, read=read)
        traffic.request = request
        content: ReplyContent
        try:
            content = await self._link.exchange(
                request,
                parser.parse,
                timeout=self._link.timeout + self._line_time(read[0], read[2]),
                pace=estimator,
                station=self._unit,
            )
        except DeviceError as exception:
            content = exception
        except LinkError as error:
            # Without a reply, other frames may be malformed replies to this request: not foreign.
            requests = [frame for frame in parser.unmatched if frame.is_request]
            traffic.unmatched(requests, asyncio.get_running_loop().time())
            raise parser.describe(error, late=estimator.late) from error
        contested = bool(parser.unmatched) and parser.has_rival_request()
        traffic.unmatched(parser.unmatched, parser.at)
        parser.unmatched.clear()
        rtt = self._unit_traffic.rtt_high if isinstance(content, DeviceError) else self._link.took
        return parser, _HeardReply(parser.frame, parser.at, rtt, content, contested)

    async def _confirm(
        self,
        traffic: Traffic,
        read: Read,
        parser: SerialReply,
        first: _HeardReply,
        usual_rtt: float,
    ) -> _HeardReply:
        """The confirmed reply: no other frame came in the time that a second one would take.

        A frame equal to an earlier one is confirmed by its repetition; where another master asks
        this unit, every reply is. Raises ProtocolError (foreign_traffic) after all attempts.
        """
        previous: _HeardReply | None = None
        is_alone = False
        for attempt in range(_CONFIRM_ATTEMPTS):
            if attempt:
                parser, first = await self._exchange(traffic, read, self._request(*read)[2])
                usual_rtt = max(usual_rtt, self._unit_traffic.rtt_high)
                if is_alone and previous is not None and previous.frame == first.frame:
                    return first
            if (
                previous is None
                and attempt < _CONFIRM_ATTEMPTS - 1
                and self._has_rivals(traffic, read, first.at)
            ):
                # Repeat at once: two equal replies and then silence confirm as well as a wait.
                previous = None if first.contested else first
                traffic.keep(first.frame, read, first.at)
                continue
            wait = usual_rtt * _WINDOW_RTT_FACTOR + _WINDOW_MARGIN_S
            undisturbed = traffic.is_undisturbed(self._unit, read[0], first.at)
            if (
                undisturbed
                and not first.is_exception
                and traffic.may_be_copy(first.frame, read, first.at)
            ):
                # If it were a copy, the reply would still come within the usual RTT of the request.
                wait = max(wait - first.rtt, _COPY_QUIET_MIN_S)
            replies = [first, *await self._further_replies(traffic, parser, first, wait)]
            is_alone = undisturbed and len(replies) == 1
            now = asyncio.get_running_loop().time()
            only = _single_reply(traffic, read, replies, now)
            if only is not None and self._is_confirmed(traffic, read, only, previous, replies):
                if previous is not None and previous.frame != only.frame:
                    self._unit_traffic.repeated = frozenset((self._payload(read[0], read[2]),))
                return only
            for reply in replies:
                traffic.keep(reply.frame, read, reply.at)
            previous = only
        raise ProtocolError(
            _foreign_traffic_text(traffic, self._unit, read), code=LinkCode.FOREIGN_TRAFFIC
        )

    async def _further_replies(
        self, traffic: Traffic, parser: SerialReply, first: _HeardReply, wait: float
    ) -> list[_HeardReply]:
        """Further frames that fit the request and come within `wait` s."""
        frames: list[tuple[bytes, float, ReplyContent]] = []
        link = self._link
        if isinstance(link, StreamLink):
            wait = min(wait, link.timeout)
            for _ in range(_LISTEN_ROUNDS_MAX):
                received = len(frames)
                await link.listen(functools.partial(parser.collect, replies=frames), wait)
                if len(frames) == received:
                    break
                wait = _NEXT_FRAME_WAIT_S
        contested = bool(parser.unmatched) and parser.has_rival_request()
        traffic.unmatched(parser.unmatched, asyncio.get_running_loop().time())
        parser.unmatched.clear()
        return [
            _HeardReply(frame, at, first.rtt + at - first.at, content, contested)
            for frame, at, content in frames
        ]

    def _is_confirmed(
        self,
        traffic: Traffic,
        read: Read,
        only: _HeardReply,
        previous: _HeardReply | None,
        replies: Sequence[_HeardReply],
    ) -> bool:
        """Whether the reply `only`, one of those `replies`, is confirmed."""
        if traffic.may_be_copy(only.frame, read, only.at):
            # A refused read is repeated later anyway: silence after the exception is enough.
            is_alone = only.is_exception and len(replies) == 1
            return is_alone or (previous is not None and previous.frame == only.frame)
        if previous is not None and only.agrees(previous):
            return True
        if self._has_rivals(traffic, read, only.at):
            return False
        # A new frame with its own copies counts as a single reply.
        return traffic.repeats_replies or all(reply.frame == only.frame for reply in replies)

    def _has_rivals(self, traffic: Traffic, read: Read, now: float) -> bool:
        return traffic.has_rivals(self._shape(read), now)

    async def _resynchronise(self, traffic: Traffic, read: Read) -> None:
        """Resynchronisation read before the first read after a lost reply.

        Its data size is one that no read with used values has. A bus replies in order: once this
        reply (or exception) is there, a late reply came before it and was dropped for its size, or
        will never come. Late replies to other resynchronisation reads fit no such read either.
        """
        unit = self._unit_traffic
        candidates = itertools.chain(self._parts_of_longest_read(), _similar_reads(*read))
        sizes = unit.read_sizes | unit.outstanding
        resync_read = next(
            (
                candidate
                for candidate in candidates
                if self._payload(candidate[0], candidate[2]) not in sizes
            ),
            None,
        )
        if resync_read is not None:
            self._link.count("fences")
            longest_read, unit.longest_read = unit.longest_read, _NO_READ
            with contextlib.suppress(DeviceError):
                await self._request_serial(traffic, resync_read, estimator=unit.resync_rtt)
            unit.longest_read = longest_read
        unit.outstanding = _NO_SIZES

    def _parts_of_longest_read(self) -> Iterator[Read]:
        """Reads that the unit is known to answer; it may be silent on other registers."""
        function, address, count = self._unit_traffic.longest_read
        yield from ((function, address, n) for n in (count - 2, *range(count - 1, 0, -1)) if n > 0)


def _single_reply(
    traffic: Traffic, read: Read, replies: list[_HeardReply], now: float
) -> _HeardReply | None:
    """The only new frame of these, or the only frame at all; None where there are several."""
    if any(reply.contested for reply in replies):
        return None
    fresh: dict[bytes, _HeardReply] = {}
    for reply in replies:
        if reply.frame not in fresh and not (
            traffic.may_be_copy(reply.frame, read, now)
            or traffic.is_same_reply(reply.frame, read, now)
        ):
            fresh[reply.frame] = reply
    if len(fresh) > 1:
        traffic.crossed([reply.as_heard() for reply in fresh.values()], now)
        return None
    if not fresh and len({reply.frame for reply in replies}) > 1:
        return None
    only = next(iter(fresh.values()), replies[0])
    if only is not replies[0] or len(replies) > 1:
        if fresh:
            traffic.keep(only.frame, read, only.at)
        for reply in replies:
            if reply is not only:
                traffic.copied(reply.frame, reply.at)
    return only


def _is_wait(content: ReplyContent) -> TypeGuard[ModbusException]:
    return isinstance(content, ModbusException) and content.exception in _BUSY_EXCEPTIONS


def _foreign_traffic_text(traffic: Traffic, unit: int, read: Read) -> str:
    function, address, count = read
    frames = traffic.foreign_frames()
    return (
        f"somebody else asks on this bus{f' (heard: {frames})' if frames else ''}: of "
        f"{_CONFIRM_ATTEMPTS} answers to unit {unit}, function {function}, {count} registers "
        f"from {address} none could be told "
        "from theirs; let only one program ask, or let the others ask meterd's proxy"
    )


def _similar_reads(function: int, address: int, count: int) -> Iterator[Read]:
    """Reads of other lengths at the same address, the most similar lengths first."""
    for n in (count - 2, count - 1, count + 2, count + 1, *range(1, _REGISTERS_MAX)):
        if 0 < n <= _REGISTERS_MAX:
            yield function, address, n
