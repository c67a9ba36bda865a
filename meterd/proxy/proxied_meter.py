"""Serves reads of one meter: from the cache of recent reads, else from the meter between polls."""

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
from meterd.proxy.read_cache import ReadCache
from meterd.wire.replies import ModbusException

if TYPE_CHECKING:
    from meterd.wire.modbus import ModbusClient

T = TypeVar("T")

# Requests that may wait for one link, and how long before the client gets exception 6, "busy".
WAITING_MAX = 8
WAIT_MAX_S = 3.0
# The part of the link's time that clients' requests without a reply may take.
TIMEOUT_SHARE_MAX = 0.05
# Different requests to one meter: its Modbus client keeps an RTT estimate for each.
DISTINCT_REQUESTS_MAX = 1000
# Different reply sizes on a link whose replies carry no transaction id: late replies are detected
# by their size there, so some sizes must remain unused.
REPLY_SIZES_MAX = 32


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """The way to one meter. The lock `turn` is held for one poll, or one exchange of the proxy.

    `client` is the one that polls use: what it knows of pending late replies must hold for the
    proxy's reads, too. `link`: its URL; `told_apart`: whether its replies carry a transaction id.
    By the map: `most` registers in one request, and none within the `unreadable` [first, last]
    ranges.
    """

    link: str
    client: "ModbusClient"
    turn: asyncio.Lock
    up: Callable[[], bool]
    told_apart: bool = True
    most: int = frames.REGISTERS_MAX
    unreadable: tuple[tuple[int, int], ...] = ()


class LinkQueue:
    """The proxy's requests on one link: one at a time, so that a poll waits for one at most."""

    def __init__(self) -> None:
        self.waiting = 0
        self._order = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, turn: asyncio.Lock) -> AsyncIterator[None]:
        """Hold the link for one exchange. Raises ProxyRefusal where it is busy for too long."""
        if self.waiting >= WAITING_MAX:
            raise ProxyRefusal(frames.BUSY, "busy")
        self.waiting += 1
        try:
            # The timeout applies to the waiting only: a cancelled exchange leaves a late reply.
            async with asyncio.timeout(WAIT_MAX_S) as deadline, self._order, turn:
                deadline.reschedule(None)
                yield
        except TimeoutError as error:
            raise ProxyRefusal(frames.BUSY, "busy") from error
        finally:
            self.waiting -= 1


class ProxiedMeter:
    """Serves reads of one meter. `max_age` is in seconds."""

    def __init__(
        self,
        route: ProxyRoute,
        queue: LinkQueue,
        clock: Clock,
        max_age: float,
        counters: Counter[str],
    ) -> None:
        self.route = route
        self._queue = queue
        self._clock = clock
        self._counters = counters
        self._cache = ReadCache(clock, max_age)
        self._requests: set[RegisterSpan] = set()
        self._sizes: set[int] = set()
        self._resume_at = 0.0
        route.client.observe = self._cache.take

    def stop_observing(self) -> None:
        """Stop caching the reads of the meter's client."""
        if self.route.client.observe == self._cache.take:
            self.route.client.observe = None

    async def read(self, span: RegisterSpan) -> bytes:
        """The data, not older than `max_age`. Raises ProxyRefusal."""
        if (data := self._from_cache(span)) is not None:
            return data
        self._check(span)
        self._check_up()
        async with self._queue.turn(self.route.turn):
            # Meanwhile a poll or another client may have read this, or the meter may be down.
            if (data := self._from_cache(span)) is not None:
                return data
            self._check_up()
            return await self._read_meter(span)

    def _from_cache(self, span: RegisterSpan) -> bytes | None:
        data = self._cache.find(span)
        if data is not None:
            self._counters["remembered"] += 1
        return data

    def _check(self, span: RegisterSpan) -> None:
        """Refuse what the map forbids, and too many different requests. Raises ProxyRefusal."""
        if span.function > 2:
            if span.count > self.route.most:
                raise ProxyRefusal(frames.ILLEGAL_VALUE, "forbidden")
            ranges = self.route.unreadable
            if any(low < span.end and span.address <= high for low, high in ranges):
                raise ProxyRefusal(frames.ILLEGAL_ADDRESS, "forbidden")
        _add_kind(self._requests, span, DISTINCT_REQUESTS_MAX)
        if not self.route.told_apart:
            _add_kind(self._sizes, frames.payload_bytes(span), REPLY_SIZES_MAX)

    def _check_up(self) -> None:
        if not self.route.up():
            raise ProxyRefusal(frames.NO_RESPONSE, "down")
        if self._clock.monotonic() < self._resume_at:
            raise ProxyRefusal(frames.NO_RESPONSE, "resting")

    async def _read_meter(self, span: RegisterSpan) -> bytes:
        started = self._clock.monotonic()
        self._counters["asked"] += 1
        try:
            return await self.route.client.read(span.function, span.address, span.count)
        except ModbusException as error:
            raise ProxyRefusal(error.exception, "refused_by_meter") from error
        except DeviceError as error:
            raise ProxyRefusal(frames.FAILURE, "refused_by_meter") from error
        except LinkError as error:
            now = self._clock.monotonic()
            self._resume_at = now + (now - started) / TIMEOUT_SHARE_MAX
            raise ProxyRefusal(frames.NO_RESPONSE, "lost") from error


def _add_kind(kinds: set[T], kind: T, most: int) -> None:
    """Add to the kinds, at most `most` of them. Raises ProxyRefusal."""
    if kind not in kinds and len(kinds) >= most:
        raise ProxyRefusal(frames.ILLEGAL_VALUE, "too_many_kinds")
    kinds.add(kind)
