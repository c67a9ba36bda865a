"""Fan-out of live changes: each event is serialized once for all clients with equal filters."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from meterd.api.answer import EVENTS, FollowingClient
from meterd.api.backlog import Backlog
from meterd.api.connection import Connection
from meterd.api.headers import HEADERS
from meterd.api.live.change_log import ChangeLog
from meterd.api.live.listener import MOST_WAITING, Listener, chunk, event
from meterd.api.live.serializers import Filter, LiveChange, changes, state
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.server_stats import ServerStats
from meterd.api.times import rfc3339
from meterd.daemon.service import forever
from meterd.model.clock import Clock
from meterd.model.sample import Poll

if TYPE_CHECKING:
    from meterd.daemon.site import Site

HEARTBEAT = 15.0  # seconds without news after which a sign of life is sent
LOOK_EVERY = 1.0  # seconds between two looks at who is still welcome, where there are news
LINGER = 60.0  # seconds that news are kept where nobody listens
# Polls are gathered for so long, in seconds; and the more clients there are, the longer is the
# time from one event to the next, so that what they cost has an end.
_GATHER = 0.1
_GAP_EACH = 0.0009
_GAP_MOST = 0.9
# Clients that are written to before the event loop gets a turn.
_AT_ONCE = 50
# Seconds that the count of what waits for clients is good for: after a restart many come.
_COUNT_KEEPS = 0.1
# What a greeting may leave waiting, about.
_GREETING = 64 * 1024
# Seconds that a state may be told to one more client, where nothing changed since.
_STATE_KEEPS = 0.5

# Nothing between here and the client may hold an event back, or change it.
STREAM = {
    "Content-Type": EVENTS,
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


@dataclass(slots=True, eq=False)
class _FanoutGroup:
    """The clients with one filter; `told`: when they were last sent something, in monotonic
    seconds.

    `state` is the last one that somebody was greeted with, and when, and after which change.
    """

    wanted: Filter
    told: float
    state: bytes = b""
    state_at: tuple[float, str] = (0.0, "")
    members: set[Listener] = field(default_factory=set)


class Fanout:
    """Streams for one server, counted in its `server_stats`."""

    def __init__(
        self,
        site: "Site",
        clock: Clock,
        most: int,
        server_stats: ServerStats | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        self._site = site
        self._clock = clock
        self._most = most
        self.server_stats = server_stats or ServerStats()
        self._backlog = backlog or Backlog()
        self._backlog.besides = self._unsent
        self._unsent_at = (0.0, 0)
        self._changes = ChangeLog(site, clock.now_ms())
        self._groups: dict[Filter, _FanoutGroup] = {}
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._leave: Callable[[], None] | None = None
        self._deserted = self._next = self._looked = 0.0
        self._closed = False

    def take(self, poll: Poll) -> None:
        """Takes a poll, as a sink."""
        self._changes.take(poll)
        self._wake.set()

    async def follow(
        self,
        request: web.Request,
        following: FollowingClient,
        is_welcome: Callable[[], bool] = lambda: True,
    ) -> web.StreamResponse:
        """Serves one client until it goes, loses its permission, or `close`.

        Raises ApiRefusal (503) where it is full.
        """
        if self._closed or self.server_stats.streams >= self._most:
            detail = f"there are {self._most} streams already"
            headers = {"Retry-After": "10"}
            raise ApiRefusal(
                503, ProblemCode.TOO_MANY_STREAMS, detail, hint="use latest", headers=headers
            )
        # All of the state, which stands in memory until the client has taken it.
        self._backlog.need(_GREETING)
        response = web.StreamResponse(headers={**HEADERS, **STREAM})
        response.force_close()
        await response.prepare(request)
        listener = _listener(request, is_welcome)
        if listener is None or self._closed:
            return response
        group = self._join(Filter(following.devices, following.quantities), listener)
        try:
            self._greet(listener, group, following.last_event)
            await listener.over
        finally:
            self._part(group, listener)
        return response

    def _unsent(self) -> int:
        """Bytes that wait in this process for all clients, not older than _COUNT_KEEPS."""
        now, (at, size) = self._clock.monotonic(), self._unsent_at
        if abs(now - at) >= _COUNT_KEEPS:
            size = sum(listener.transport.get_write_buffer_size() for listener in self._listeners())
            self._unsent_at = (now, size)
        return size

    def _join(self, wanted: Filter, listener: Listener) -> _FanoutGroup:
        if self._loop is None:
            self._changes.begin()
            self._leave = self._site.subscribe(self)
            self._loop = asyncio.create_task(forever("streams", self._run))
        group = self._groups.get(wanted)
        if group is None:
            group = self._groups[wanted] = _FanoutGroup(wanted, self._clock.monotonic())
        group.members.add(listener)
        self.server_stats.streams += 1
        return group

    def _part(self, group: _FanoutGroup, listener: Listener) -> None:
        group.members.discard(listener)
        self.server_stats.streams -= 1
        if not group.members and self._groups.get(group.wanted) is group:
            del self._groups[group.wanted]
        self._deserted = self._clock.monotonic()

    def _greet(self, listener: Listener, group: _FanoutGroup, last: str) -> None:
        """The changes that the client missed, if they are still in the log, else the
        whole state.
        """
        missed = self._changes.since(last) if last else None
        if missed is not None:
            parts = [self._message(change, group.wanted) for change in missed]
            whole = b"".join(part for part in parts if part)
            if len(whole) < MOST_WAITING:
                # Browsers say "open" only when something comes.
                self._send(listener, whole + self._beat())
                return
        self._send(listener, self._state(group))

    def _send(self, listener: Listener, data: bytes) -> None:
        listener.say(data, chunk(data))

    def _state(self, group: _FanoutGroup) -> bytes:
        """The state, encoded once for all clients that connect at a time, as after a restart."""
        now, number = self._clock.monotonic(), self._changes.number
        made_at, made_for = group.state_at
        if number != made_for or abs(now - made_at) >= _STATE_KEEPS:
            body = state(self._site, group.wanted, self._clock.now_ms())
            group.state, group.state_at = event("state", body, number), (now, number)
        return group.state

    def _message(self, change: LiveChange, wanted: Filter) -> bytes | None:
        body = changes(change, wanted)
        return None if body is None else event("changes", body, self._changes.name(change.number))

    def _beat(self) -> bytes:
        return event("beat", b'{"time":"%b"}' % rfc3339(self._clock.now_ms()).encode())

    # -- the loop ------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self.server_stats.streams or self._clock.monotonic() - self._deserted < LINGER:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT / 5):
                    await self._wake.wait()
            if self._wake.is_set():
                await asyncio.sleep(max(_GATHER, self._next - self._clock.monotonic()))
                self._wake.clear()
                gap = min(_GAP_MOST, _GAP_EACH * self.server_stats.streams)
                self._next = self._clock.monotonic() + gap
            await self._dismiss()
            await self._send_to_group(self._changes.flush(self._clock.now_ms()))
            await self._reassure()
        self._stop()

    async def _dismiss(self) -> None:
        """End the streams of those whose login has ended."""
        if abs(self._clock.monotonic() - self._looked) < LOOK_EVERY:
            return
        self._looked = self._clock.monotonic()
        for number, listener in enumerate(tuple(self._listeners())):
            if not listener.is_welcome():
                listener.drop()
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)

    async def _send_to_group(self, change: LiveChange | None) -> None:
        if change is None:
            return
        for group in tuple(self._groups.values()):
            message = self._message(change, group.wanted)
            if message is not None:
                group.told = self._clock.monotonic()
                await self._spread(group, message)

    async def _spread(self, group: _FanoutGroup, data: bytes) -> None:
        framed = chunk(data)
        for number, listener in enumerate(tuple(group.members)):
            if not listener.say(data, framed):
                self._catch_up(group, listener)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)

    def _catch_up(self, group: _FanoutGroup, listener: Listener) -> None:
        """A client that fell behind gets nothing until it has read all, and then the state."""
        if not listener.is_behind:
            listener.is_behind = True
            self.server_stats.slow += 1
        elif listener.has_caught_up:
            listener.is_behind = False
            self._send(listener, self._state(group))

    async def _reassure(self) -> None:
        now = self._clock.monotonic()
        for group in tuple(self._groups.values()):
            if now - group.told >= HEARTBEAT:
                group.told = now
                await self._spread(group, self._beat())

    def _listeners(self) -> Iterator[Listener]:
        for group in tuple(self._groups.values()):
            yield from tuple(group.members)

    def _stop(self) -> None:
        if self._leave is not None:
            self._leave()
        self._leave = self._loop = None
        self._changes.forget()

    async def close(self) -> None:
        """Ends every stream at once; new ones are refused."""
        self._closed = True
        for listener in self._listeners():
            listener.drop()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._stop()


def _listener(request: web.Request, is_welcome: Callable[[], bool]) -> Listener | None:
    """The listener of a client, None where that is gone already."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return None
    over = asyncio.get_running_loop().create_future()
    listener = Listener(transport, request.version >= HttpVersion11, over, is_welcome)
    if isinstance(request.protocol, Connection):
        request.protocol.when_lost(listener.end)
    listener.settle_in()
    return listener
