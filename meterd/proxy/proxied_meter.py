"""One meter as other programs reach it: from what was just read, else in turn with the polls."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from meterd.errors import DeviceError, LinkError
from meterd.model.clock import Clock
from meterd.proxy import frames
from meterd.proxy.frames import ProxyRefusal, RegisterSpan
from meterd.proxy.recent import Recent
from meterd.wire.replies import ModbusException

if TYPE_CHECKING:
    from meterd.wire.modbus import ModbusClient

T = TypeVar("T")

# Requests that may wait for one link, and for how many seconds before the client hears "busy".
MOST_WAITING = 8
LONGEST_WAIT = 3.0
# Of the link's time this share at most may be lost to guests' requests that nobody answers.
LOST_SHARE = 0.05
# Different requests that guests may make of one meter: its client keeps the pace of each.
MOST_REQUESTS = 1000
# Different reply sizes that guests may make on a link whose replies carry no id: a late reply
# is told by its size there, so some sizes have to stay free.
MOST_SIZES = 32


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """How to one meter. `turn` is held for one poll of a device, or one guest's exchange.

    `client` is the daemon's own: what it knows of replies that may still come late has to hold
    for guests, too. `link` names the link, `told_apart` says whether its replies carry an id;
    `most` registers in one request, and none within the `unreadable` [first, last] ranges, as the
    map says.
    """

    link: str
    client: "ModbusClient"
    turn: asyncio.Lock
    up: Callable[[], bool]
    told_apart: bool = True
    most: int = frames.MOST_REGISTERS
    unreadable: tuple[tuple[int, int], ...] = ()


class Lane:
    """The guests of one link: one at a time, so that a poll never waits for two of them."""

    def __init__(self) -> None:
        self.waiting = 0
        self._first = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, turn: asyncio.Lock) -> AsyncIterator[None]:
        """Wait for the link. Raises ProxyRefusal where that takes too long."""
        if self.waiting >= MOST_WAITING:
            raise ProxyRefusal(frames.BUSY, "busy")
        self.waiting += 1
        try:
            # Only the waiting may be cut short: an exchange given up leaves a reply owed.
            async with asyncio.timeout(LONGEST_WAIT) as limit, self._first, turn:
                limit.reschedule(None)
                yield
        except TimeoutError as error:
            raise ProxyRefusal(frames.BUSY, "busy") from error
        finally:
            self.waiting -= 1


class ProxiedMeter:
    """Answers reads of one meter."""

    def __init__(
        self, way: ProxyRoute, lane: Lane, clock: Clock, max_age: float, counters: Counter[str]
    ) -> None:
        self.way = way
        self._lane = lane
        self._clock = clock
        self._counters = counters
        self._recent = Recent(clock, max_age)
        self._asked: set[RegisterSpan] = set()
        self._sizes: set[int] = set()
        self._rests_until = 0.0
        way.client.observe = self._recent.take

    def leave(self) -> None:
        """Watch the meter no more."""
        if self.way.client.observe == self._recent.take:
            self.way.client.observe = None

    async def read(self, span: RegisterSpan) -> bytes:
        """The data, at most `max_age` old. Raises ProxyRefusal."""
        if (data := self._remembered(span)) is not None:
            return data
        self._check(span)
        self._check_alive()
        async with self._lane.turn(self.way.turn):
            # A poll, or another guest, may have asked meanwhile; or found the meter gone.
            if (data := self._remembered(span)) is not None:
                return data
            self._check_alive()
            return await self._ask(span)

    def _remembered(self, span: RegisterSpan) -> bytes | None:
        data = self._recent.find(span)
        if data is not None:
            self._counters["remembered"] += 1
        return data

    def _check(self, span: RegisterSpan) -> None:
        """What the register map forbids is not asked of the meter for guests either."""
        if span.function > 2:
            if span.count > self.way.most:
                raise ProxyRefusal(frames.ILLEGAL_VALUE, "forbidden")
            ranges = self.way.unreadable
            if any(low < span.end and span.address <= high for low, high in ranges):
                raise ProxyRefusal(frames.ILLEGAL_ADDRESS, "forbidden")
        _join(self._asked, span, MOST_REQUESTS)
        if not self.way.told_apart:
            _join(self._sizes, frames.payload(span), MOST_SIZES)

    def _check_alive(self) -> None:
        if not self.way.up():
            raise ProxyRefusal(frames.NO_RESPONSE, "down")
        if self._clock.monotonic() < self._rests_until:
            raise ProxyRefusal(frames.NO_RESPONSE, "resting")

    async def _ask(self, span: RegisterSpan) -> bytes:
        started = self._clock.monotonic()
        self._counters["asked"] += 1
        try:
            return await self.way.client.read(span.function, span.address, span.count)
        except ModbusException as error:
            raise ProxyRefusal(error.exception, "refused_by_meter") from error
        except DeviceError as error:
            raise ProxyRefusal(frames.FAILURE, "refused_by_meter") from error
        except LinkError as error:
            now = self._clock.monotonic()
            self._rests_until = now + (now - started) / LOST_SHARE
            raise ProxyRefusal(frames.NO_RESPONSE, "lost") from error


def _join(kinds: set[T], kind: T, most: int) -> None:
    """One more of a kind, while there is room for it. Raises ProxyRefusal."""
    if kind not in kinds and len(kinds) >= most:
        raise ProxyRefusal(frames.ILLEGAL_VALUE, "too_many_kinds")
    kinds.add(kind)
