"""The proxy's Modbus TCP server: connections, their limits and rate limit."""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meterd.errors import ConfigError
from meterd.model.clock import Clock
from meterd.model.shares import ClientSlot, clients_to_close, share_of
from meterd.proxy import frames
from meterd.proxy.frames import HEADER_SIZE, NoModbusFrame, ProxyRefusal, ProxyRequest
from meterd.proxy.proxied_meter import LinkQueue, ProxiedMeter, ProxyRoute

CLIENTS_MAX = 16
# A client that sent a request within these seconds is not evicted for a host with as many ones.
IDLE_BEFORE_EVICTION_S = 10.0
# The rate limit of one client, a token bucket.
REQUESTS_PER_S = 50.0
BURST_REQUESTS = 50.0
# Limits of a connection: without a request; from a frame's first byte to its last; to send a reply.
IDLE_MAX_S = 300.0
FRAME_MAX_S = 10.0
SEND_MAX_S = 5.0
# Link queues kept. Units, and so the links in use, are 255 at most.
_LINK_QUEUES_MAX = 255
# Bytes buffered of one client's requests; beyond them TCP flow control stops it.
_BUFFER_BYTES = 512


@dataclass(slots=True, eq=False)
class _Client:
    """One connection; `used`: monotonic time of its last reply, None before the first."""

    task: "asyncio.Task[None]"
    writer: StreamWriter
    share: str
    since: float
    used: float | None = None
    is_busy: bool = False


class Proxy:
    """A read-only Modbus TCP server. `units` maps unit ids to devices.

    `ways` returns the present route to a device, None where there is none. It is called for each
    request, so that a reload of the links needs no call to the proxy. `max_age` is in seconds.
    `counters` counts requests and their outcomes by cause, since the start.
    """

    def __init__(
        self,
        units: Mapping[int, str],
        ways: Callable[[str], ProxyRoute | None],
        *,
        clock: Clock,
        max_age: float,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._units = dict(units)
        self._routes = ways
        self._clock = clock
        self._max_age = max_age
        self._meters: dict[str, ProxiedMeter] = {}
        self._queues: dict[str, LinkQueue] = {}
        self._clients: set[_Client] = set()
        self._listeners: Sequence[asyncio.Server] = ()

    @property
    def clients(self) -> int:
        """The number of connections."""
        return len(self._clients)

    @property
    def port(self) -> int:
        """The port it listens on; 0 while it does not."""
        sockets = [bound for listener in self._listeners for bound in listener.sockets]
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0: any free one. Raises ConfigError where the address cannot be bound."""
        try:
            listener = await asyncio.start_server(
                self._handle_connection, host, port, limit=_BUFFER_BYTES
            )
        except OSError as error:
            text = f"the proxy cannot listen on {host}:{port}: {error.strerror or error}"
            raise ConfigError(text) from error
        self._observe_meters([listener])

    async def prepare(self, sockets: Sequence[socket.socket]) -> None:
        """Prepare `open()` on listening sockets, which the caller keeps owning. Raises OSError."""
        for bound in sockets:
            listener = await asyncio.start_server(
                self._handle_connection, sock=bound.dup(), limit=_BUFFER_BYTES, start_serving=False
            )
            self._listeners = (*self._listeners, listener)

    async def open(self) -> None:
        """Accept connections on the prepared sockets."""
        self._observe_meters(self._listeners)
        for listener in self._listeners:
            await listener.start_serving()

    def _observe_meters(self, listeners: Sequence[asyncio.Server]) -> None:
        self._listeners = listeners
        for device in self._units.values():
            self._meter(device)

    def tune(self, units: Mapping[int, str], max_age: float) -> None:
        """Change devices and cache age, also for open connections."""
        self._units, self._max_age = dict(units), max_age
        # Meters are made anew at their next request; those of removed devices stop observing.
        for device in tuple(self._meters):
            self._meters.pop(device).stop_observing()
        self._queues = {link: queue for link, queue in self._queues.items() if queue.waiting}
        for device in self._units.values():
            self._meter(device)

    async def close(self) -> None:
        """Stop listening, close the connections, and stop observing the links' reads."""
        for listener in self._listeners:
            listener.close()
        self._listeners = ()
        tasks = [client.task for client in self._clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for meter in self._meters.values():
            meter.stop_observing()
        self._meters.clear()

    async def _handle_connection(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        share = share_of(str((writer.get_extra_info("peername") or ("",))[0]))
        if task is None or not self._listeners or not self._make_room(share):
            self.counters["turned_away"] += 1
            writer.transport.abort()
            return
        client = _Client(task, writer, share, self._clock.monotonic())
        self._clients.add(client)
        try:
            self.counters[await self._serve(client, reader, writer)] += 1
        finally:
            self._clients.discard(client)
            # Unsent replies are dropped: their values would be old.
            writer.transport.abort()

    def _make_room(self, share: str) -> bool:
        """Whether one more connection of this host is accepted, if need be by evicting another."""
        if len(self._clients) < CLIENTS_MAX:
            return True
        slots = [
            ClientSlot(member, member.share, member.used, member.since)
            for member in self._clients
            if not member.is_busy
        ]
        counts = Counter(client.share for client in self._clients)
        for client in clients_to_close(
            share, slots, counts, self._clock.monotonic(), IDLE_BEFORE_EVICTION_S
        ):
            self.counters["gave_way"] += 1
            self._clients.discard(client)
            # Not cancelled: Python 3.11 logs a cancelled connection task as an error.
            client.writer.transport.abort()
            return True
        return False

    async def _serve(self, client: _Client, reader: StreamReader, writer: StreamWriter) -> str:
        """Serve requests in turn; returns the counter of how the connection ended."""
        # No buffering: a reply that waits would have old values.
        writer.transport.set_write_buffer_limits(0)
        pace = ClientPace(self._clock)
        while True:
            try:
                request = await _next_request(reader)
            except _ConnectionEnd as end:
                return end.cause
            client.is_busy = True
            self.counters["throttled"] += await pace.keep()
            if not await _send(writer, await self._answer(request)):
                return "not_taken"
            client.is_busy, client.used = False, self._clock.monotonic()

    async def _answer(self, request: ProxyRequest) -> bytes:
        self.counters["requests"] += 1
        try:
            span = frames.span_of(request.pdu)
            meter = self._meter(self._units.get(request.unit, ""))
            if meter is None:
                raise ProxyRefusal(frames.NO_PATH, "unknown_unit")
            return request.answer(await meter.read(span))
        except ProxyRefusal as refusal:
            self.counters[refusal.cause] += 1
            return request.refusal(refusal.code)

    def _meter(self, device: str) -> ProxiedMeter | None:
        """The meter of a device, made anew where a reload gave it another link or client."""
        route = self._routes(device) if device else None
        if route is None:
            self._meters.pop(device, None)
            return None
        meter = self._meters.get(device)
        if meter is None or not _is_same_route(meter.route, route):
            queue = self._queue_of(route.link)
            meter = ProxiedMeter(route, queue, self._clock, self._max_age, self.counters)
            self._meters[device] = meter
        return meter

    def _queue_of(self, link: str) -> LinkQueue:
        if link not in self._queues and len(self._queues) >= _LINK_QUEUES_MAX:
            # After many reloads: drop the queues of links that no request waits for.
            self._queues = {name: queue for name, queue in self._queues.items() if queue.waiting}
        return self._queues.setdefault(link, LinkQueue())


def _is_same_route(first: ProxyRoute, second: ProxyRoute) -> bool:
    """Whether both have the same Modbus client and the same bus lock."""
    return first.client is second.client and first.turn is second.turn


class ClientPace:
    """Limits one client to REQUESTS_PER_S, by delaying its replies."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_at = clock.monotonic() - BURST_REQUESTS / REQUESTS_PER_S

    async def keep(self) -> bool:
        """Wait until the next request may be served; whether that was a delay."""
        now = self._clock.monotonic()
        self._next_at = (
            max(self._next_at, now - BURST_REQUESTS / REQUESTS_PER_S) + 1 / REQUESTS_PER_S
        )
        if self._next_at <= now:
            return False
        await self._clock.sleep(self._next_at - now)
        return True


class _ConnectionEnd(Exception):  # noqa: N818 (clients may close)
    """The end of a connection; `cause` is the counter's name."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


async def _next_request(reader: StreamReader) -> ProxyRequest:
    """Read the next request. Raises _ConnectionEnd."""
    try:
        async with asyncio.timeout(IDLE_MAX_S):
            first = await reader.readexactly(1)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _ConnectionEnd("left") from error
    except TimeoutError as error:
        raise _ConnectionEnd("idle") from error
    try:
        async with asyncio.timeout(FRAME_MAX_S):
            header = first + await reader.readexactly(HEADER_SIZE - 1)
            return await frames.next_request(reader, header)
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
        raise _ConnectionEnd("half_frames") from error
    except NoModbusFrame as error:
        raise _ConnectionEnd("bad_frames") from error


async def _send(writer: StreamWriter, answer: bytes) -> bool:
    """Send a reply; False where the client does not receive it in time."""
    try:
        writer.write(answer)
        async with asyncio.timeout(SEND_MAX_S):
            await writer.drain()
    except (ConnectionError, TimeoutError):
        return False
    return True
