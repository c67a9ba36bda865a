"""The server: other programs' connections, and what each of them may cost."""

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
from meterd.proxy.frames import HEADER_SIZE, NoFrame, ProxyRefusal, ProxyRequest
from meterd.proxy.proxied_meter import Lane, ProxiedMeter, ProxyRoute

MOST_CLIENTS = 16
# Seconds: who asked so lately does not give way to a host that has as many connections.
LEAST_IDLE = 10.0
# Requests a second of one client, over any longer time; it may be ahead by BURST of them.
RATE = 50.0
BURST = 50.0
# Seconds: without a request; from a frame's first byte to its last; to take an answer.
IDLE_LIMIT = 300.0
FRAME_LIMIT = 10.0
TAKE_LIMIT = 5.0
# Links that are remembered; units, and with them links in use, are 255 at most.
_MOST_LANES = 255
# Bytes of requests that one client may have waiting, about; then its own side waits.
_AHEAD = 512


@dataclass(slots=True, eq=False)
class _Client:
    """One connection; `used` is when its last request was answered, None before the first."""

    task: "asyncio.Task[None]"
    writer: StreamWriter
    share: str
    since: float
    used: float | None = None
    is_busy: bool = False


class Proxy:
    """A read-only Modbus TCP server. `units` names the device behind each unit id.

    `ways` finds the way to a device, as it is at this moment; None where there is none. It is
    asked at each request, so that a reload needs no word to the proxy. `max_age` is in seconds.
    `counters` holds what happened, by cause, since the start.
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
        self._ways = ways
        self._clock = clock
        self._max_age = max_age
        self._guests: dict[str, ProxiedMeter] = {}
        self._lanes: dict[str, Lane] = {}
        self._clients: set[_Client] = set()
        self._listeners: Sequence[asyncio.Server] = ()

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not."""
        sockets = [one for listener in self._listeners for one in listener.sockets]
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes any that is free. Raises ConfigError where that cannot be."""
        try:
            listener = await asyncio.start_server(self._connected, host, port, limit=_AHEAD)
        except OSError as error:
            text = f"the proxy cannot listen on {host}:{port}: {error.strerror or error}"
            raise ConfigError(text) from error
        self._begin([listener])

    async def prepare(self, sockets: Sequence[socket.socket]) -> None:
        """For `open`: these sockets listen already, and stay their owner's. Raises OSError."""
        for one in sockets:
            listener = await asyncio.start_server(
                self._connected, sock=one.dup(), limit=_AHEAD, start_serving=False
            )
            self._listeners = (*self._listeners, listener)

    async def open(self) -> None:
        """Let in who comes to the sockets that it was prepared with."""
        self._begin(self._listeners)
        for listener in self._listeners:
            await listener.start_serving()

    def _begin(self, listeners: Sequence[asyncio.Server]) -> None:
        self._listeners = listeners
        for device in self._units.values():
            self._guest(device)

    def tune(self, units: Mapping[int, str], max_age: float) -> None:
        """Other devices, or another age, for who is connected and who comes."""
        self._units, self._max_age = dict(units), max_age
        # Made anew at their next request; what the links read for the others is watched no more.
        for device in tuple(self._guests):
            self._guests.pop(device).leave()
        self._lanes = {link: lane for link, lane in self._lanes.items() if lane.waiting}
        for device in self._units.values():
            self._guest(device)

    async def close(self) -> None:
        """Stop listening and hang up; what the links read is no longer watched."""
        for listener in self._listeners:
            listener.close()
        self._listeners = ()
        tasks = [client.task for client in self._clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for guest in self._guests.values():
            guest.leave()
        self._guests.clear()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
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
            # What is not sent by now is of no use: the values would be old.
            writer.transport.abort()

    def _make_room(self, share: str) -> bool:
        """Whether one more of this host may come in; the one that gives way to it is hung up."""
        if len(self._clients) < MOST_CLIENTS:
            return True
        seats = [ClientSlot(c, c.share, c.used, c.since) for c in self._clients if not c.is_busy]
        held = Counter(client.share for client in self._clients)
        for client in clients_to_close(share, seats, held, self._clock.monotonic(), LEAST_IDLE):
            self.counters["gave_way"] += 1
            self._clients.discard(client)
            # Not cancelled: Python 3.11 would log that as an error.
            client.writer.transport.abort()
            return True
        return False

    async def _serve(self, client: _Client, reader: StreamReader, writer: StreamWriter) -> str:
        """Answer one request after the other; returns how it ended."""
        # An answer that waits in a buffer grows old.
        writer.transport.set_write_buffer_limits(0)
        pace = ClientPace(self._clock)
        while True:
            try:
                request = await _heard(reader)
            except _Ended as ended:
                return ended.cause
            client.is_busy = True
            self.counters["throttled"] += await pace.keep()
            if not await _taken(writer, await self._answer(request)):
                return "not_taken"
            client.is_busy, client.used = False, self._clock.monotonic()

    async def _answer(self, request: ProxyRequest) -> bytes:
        self.counters["requests"] += 1
        try:
            span = frames.wanted(request.pdu)
            guest = self._guest(self._units.get(request.unit, ""))
            if guest is None:
                raise ProxyRefusal(frames.NO_PATH, "unknown_unit")
            return request.answer(await guest.read(span))
        except ProxyRefusal as refusal:
            self.counters[refusal.cause] += 1
            return request.refusal(refusal.code)

    def _guest(self, device: str) -> ProxiedMeter | None:
        """The meter behind a device, made anew when a reload gave it another link or client."""
        way = self._ways(device) if device else None
        if way is None:
            self._guests.pop(device, None)
            return None
        guest = self._guests.get(device)
        if guest is None or not _is_same(guest.way, way):
            lane = self._lane(way.link)
            guest = ProxiedMeter(way, lane, self._clock, self._max_age, self.counters)
            self._guests[device] = guest
        return guest

    def _lane(self, link: str) -> Lane:
        if link not in self._lanes and len(self._lanes) >= _MOST_LANES:
            # After many reloads: links that are gone, and nobody waits for.
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.waiting}
        return self._lanes.setdefault(link, Lane())


def _is_same(one: ProxyRoute, other: ProxyRoute) -> bool:
    """Whether a reload left a device its client, and its link the loop that polls it."""
    return one.client is other.client and one.turn is other.turn


class ClientPace:
    """Slows one client down to RATE requests a second, by answering later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due = clock.monotonic() - BURST / RATE

    async def keep(self) -> bool:
        """Wait until the next request may be answered; whether that took any time."""
        now = self._clock.monotonic()
        self._due = max(self._due, now - BURST / RATE) + 1 / RATE
        if self._due <= now:
            return False
        await self._clock.sleep(self._due - now)
        return True


class _Ended(Exception):  # noqa: N818 (clients may leave)
    """A connection is over; `cause` is what is counted."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


async def _heard(reader: StreamReader) -> ProxyRequest:
    """The next request. Raises _Ended."""
    try:
        async with asyncio.timeout(IDLE_LIMIT):
            first = await reader.readexactly(1)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _Ended("left") from error
    except TimeoutError as error:
        raise _Ended("idle") from error
    try:
        async with asyncio.timeout(FRAME_LIMIT):
            header = first + await reader.readexactly(HEADER_SIZE - 1)
            return await frames.next_request(reader, header)
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
        raise _Ended("half_frames") from error
    except NoFrame as error:
        raise _Ended("bad_frames") from error


async def _taken(writer: StreamWriter, answer: bytes) -> bool:
    """Whether the client took the answer in time."""
    try:
        writer.write(answer)
        async with asyncio.timeout(TAKE_LIMIT):
            await writer.drain()
    except (ConnectionError, TimeoutError):
        return False
    return True
