"""Links over a stream of bytes: opened when first needed, one exchange at a time, one deadline."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping

from meterd.errors import DeviceError, LinkCode, LinkError, ProtocolError
from meterd.wire.deadline import ReplyDeadline
from meterd.wire.diagnostics import SOON, LinkDiagnostics
from meterd.wire.link import Parse, T, Times
from meterd.wire.pending_reply import PendingReply
from meterd.wire.rtt_estimator import RttEstimator
from meterd.wire.stream import Stream
from meterd.wire.tap import CANCELLED, LinkTap

# Timeouts that a line may go on talking before it is opened anew.
_PATIENCE = 3
_TICKETS = 0xFFFF
_REMEMBERED = 64
# Bytes that nobody waited for may be followed by more: this long it is waited for, in seconds.
_AFTER_STRAY_S = 0.02
# Rounds of that before a line that goes on talking is asked all the same.
_STRAY_ROUNDS = 5


class StreamLink:
    """What TCP, UDP and serial links have in common; they add how to open, and their errors."""

    # Longest wait before an endpoint that cannot be opened is tried again, in seconds.
    BACKOFF_LIMIT = 60.0
    # A half-open connection answers nothing: after so many silent exchanges in a row, open anew.
    SILENT_LIMIT = 3
    # Whether opening connects to a device that may need a pause then.
    CONNECTS = False
    # Whether replies still owed die with the connection, so that opening anew makes sure.
    REOPEN_FORGETS = True

    def __init__(self, url: str, options: Mapping[str, str], times: Times) -> None:
        self.url = url
        self.options = options
        self.epoch = 0
        self.took = 0.0
        self.counters: Counter[str] = Counter()
        self.silent_limit: float = self.SILENT_LIMIT
        """Silent exchanges in a row after which it is opened anew; a scan of units has none."""
        self.settle = 0.0
        """Seconds of quiet that answers without ids need before them: learned from copies."""
        self.overheard: Callable[[bytes, float, bool], None] | None = None
        """Is given what arrived and nobody waited for, when, and whether it may be late."""
        self.retime(times)
        self._lock = asyncio.Lock()
        self._stream: Stream | None = None
        self._tap: LinkTap | None = None
        # Made when the first exchange is given up: nearly all links never need it.
        self._expired: deque[tuple[int, RttEstimator | None]] | None = None
        self._ticket = random.randrange(_TICKETS)
        self._deadline = ReplyDeadline()
        self._hints = LinkDiagnostics(self._line(), framer=options.get("framer", ""))
        # Who gave the last answer, 0 after one that was lost; and whether any was lost since.
        self._spoke = 0
        self._doubt = True
        self._silent = 0
        self._fresh = False
        self._station = 0
        self._free_at = 0.0
        self._unsettled_since: float | None = None
        # Whether input was thrown away, so that more of it may follow.
        self._strayed = False
        # Whether others were listened for since the last request.
        self._listened = False
        self._refusal: LinkError | None = None
        self._retry_at = 0.0
        self._backoff = 0.0

    def retime(self, times: Times) -> None:
        """Other patience from the next exchange on; the connection stays."""
        self.timeout = times.timeout
        self._times = times
        # Whether anything has to be waited for between two exchanges.
        self._pauses = bool(times.gap or times.unit_gap)

    async def _open(self) -> Stream:
        """Connect; raises LinkError."""
        raise NotImplementedError

    def _lost(self, error: Exception | None) -> LinkError:
        """What a connection that ended by itself means."""
        raise NotImplementedError

    def _line(self) -> str:
        """How a serial line is set; empty for links that are none."""
        return ""

    # -- what callers use ------------------------------------------------------------------

    def ticket(self) -> int:
        self._ticket = self._ticket % _TICKETS + 1
        return self._ticket

    def expired(self, ticket: int) -> bool:
        for known, pace in self._expired or ():
            if known == ticket:
                if pace is not None:
                    pace.late = True
                return True
        return False

    def count(self, what: str, n: int = 1) -> None:
        self.counters[what] += n

    def watch(self, tap: LinkTap | None) -> None:
        """Tell `tap` every byte on this link from now on, and how exchanges fail; None: nobody."""
        self._tap = tap
        if self._stream is not None:
            self._stream.tap = tap

    async def exchange(
        self,
        request: bytes,
        parse: Parse[T],
        *,
        timeout: float | None = None,
        quiet: bool = True,
        ticket: int = 0,
        pace: RttEstimator | None = None,
        station: int = 0,
        once: bool = False,
    ) -> T:
        async with self._lock:
            self.counters["exchanges"] += 1
            limit = timeout or self.timeout
            if pace is not None:
                limit = pace.limit(limit)
            stream = self._stream
            if stream is None or stream.lost or quiet or self._pauses:
                stream = await self._ready(quiet, station)
            try:
                return await self._once(stream, request, parse, limit, quiet, ticket, pace, station)
            except LinkError as error:
                # A gateway may close an idle connection; that is no failure of the device.
                if error.code != LinkCode.CLOSED or self._fresh or once:
                    raise
                self.counters["reopened"] += 1
            stream = await self._ready(quiet, station)
            return await self._once(stream, request, parse, limit, quiet, ticket, pace, station)

    async def listen(self, parse: Parse[T], seconds: float) -> T | None:
        """What `parse` makes of what arrives unasked within so many seconds; None if nothing.

        Raises what `parse` raises.
        """
        async with self._lock:
            stream = self._stream
            if stream is None or stream.lost:
                return None
            self._listened = True
            answer = PendingReply(stream, parse, self._lost)
            stream.listen(answer.look)
            self._deadline.watch(answer, stream.loop.time() + seconds)
            try:
                if stream.buffer:
                    answer.look()
                return await answer
            except LinkError as error:
                if error.code in (LinkCode.TIMEOUT, LinkCode.CLOSED, LinkCode.PORT_GONE):
                    return None
                raise
            finally:
                stream.listen(None)

    @property
    def is_open(self) -> bool:
        """Whether the next exchange needs no opening."""
        return self._stream is not None and not self._stream.lost

    async def close(self) -> None:
        async with self._lock:
            self._drop()

    # -- opening ---------------------------------------------------------------------------

    async def _ready(self, quiet: bool, station: int) -> Stream:
        """Open, silent where replies carry no id, and the gap since the last exchange kept."""
        stream = self._stream
        if stream is None or stream.lost or (quiet and not await self._settled(stream)):
            stream = await self._reopen()
            # On a new connection nobody answers what was asked on the old one; a port is the same.
            if quiet and not self.REOPEN_FORGETS:
                await self._settled(stream)
        times = self._times
        gap = times.gap if station == self._station else max(times.gap, times.unit_gap)
        self._station = station
        if gap:
            await self._rest_until(self._free_at + gap)
        if quiet:
            await self._fall_quiet(stream)
        return stream

    async def _fall_quiet(self, stream: Stream) -> None:
        """Before a request whose answer has no id: the line is silent, and has been if need be."""
        if self.settle:
            await self._rest_until(max(self._free_at, stream.last_byte) + self.settle)
        for _ in range(_STRAY_ROUNDS):
            # What came during the pause was asked for before it, too.
            if stream.buffer:
                self.counters["stray"] += 1
                self._throw_away(stream, late=False)
            elif not self._strayed:
                return
            self._strayed = False
            await self._rest_until(stream.last_byte + max(self.settle, _AFTER_STRAY_S))

    def _throw_away(self, stream: Stream, *, late: bool) -> None:
        """What arrived and nobody waits for."""
        if self.overheard is not None:
            self.overheard(bytes(stream.buffer), stream.last_byte, late)
        stream.buffer.clear()
        self._strayed = True

    async def _rest_until(self, when: float) -> None:
        """The pause that the device needs, by the loop's time."""
        pause = when - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)

    async def _reopen(self) -> Stream:
        self._drop()
        now = asyncio.get_running_loop().time()
        if self._refusal is not None and now < self._retry_at:
            self._tell_failure(self._refusal)
            raise LinkError(str(self._refusal), code=self._refusal.code) from self._refusal
        try:
            stream = self._stream = await self._open()
        except LinkError as error:
            self._tell_failure(error)
            self.counters["open_failures"] += 1
            self._backoff = min(max(1.0, self._backoff * 2), self.BACKOFF_LIMIT)
            self._retry_at = now + self._backoff * random.uniform(0.8, 1.0)
            self._refusal = error
            raise
        stream.tap = self._tap
        self._refusal, self._backoff, self._silent = None, 0.0, 0
        self._fresh = self._doubt = True
        if self.CONNECTS:
            self._hints.opened()
        if self.REOPEN_FORGETS:
            self._unsettled_since = None
        self.epoch += 1
        self.counters["opened"] += 1
        if self._times.connect_delay:
            await asyncio.sleep(self._times.connect_delay)
        return stream

    def _drop(self) -> None:
        if self._stream is not None and not self._stream.lost:
            self._stream.abort()
        self._stream = None
        self._deadline.cancel()

    async def _settled(self, stream: Stream) -> bool:
        """Throw away input from before; after a failure, first listen until it is silent.

        A late reply without an id cannot be told from a good one, so nothing is asked until
        the line was silent for one timeout. False if the connection cannot be trusted then:
        the line did not fall silent, or what is owed did not come and may yet.
        """
        since, self._unsettled_since = self._unsettled_since, None
        silent = since is None or await self._silence(stream, since)
        heard = bool(stream.buffer)
        # What is left of a reply that came in time, and was none, is not late.
        late = heard and since is not None and stream.last_byte > since
        if heard:
            self._throw_away(stream, late=since is not None)
        if late or (heard and since is None):
            self.counters["late_own" if late else "stray"] += 1
        if late and self._expired and (pace := self._expired[-1][1]):
            pace.late = True
        return silent and (since is None or heard or not self.REOPEN_FORGETS)

    async def _silence(self, stream: Stream, since: float) -> bool:
        patience = stream.loop.time() + _PATIENCE * self.timeout
        believed = False
        while True:
            wait = max(since, stream.last_byte) + self.timeout - stream.loop.time()
            if wait <= 0 and believed:
                return True
            if wait > 0 and (stream.loop.time() > patience or stream.lost):
                return False
            # Where this process itself was held up, what arrived meanwhile is heard only now:
            # silence is believed after one more turn of the loop.
            believed = wait <= 0
            await asyncio.sleep(max(wait, 0.0))

    # -- one exchange ----------------------------------------------------------------------

    async def _once(
        self,
        stream: Stream,
        request: bytes,
        parse: Parse[T],
        limit: float,
        quiet: bool,
        ticket: int,
        pace: RttEstimator | None,
        station: int,
    ) -> T:
        answer = PendingReply(stream, parse, self._lost)
        stream.listen(answer.look)
        sent = stream.loop.time()
        self._deadline.watch(answer, sent + limit)
        try:
            stream.send(request)
            if stream.buffer or stream.lost:
                answer.look()
            result = await answer
        except LinkError as error:
            soon = self._soon(station, sent)
            self._failed(error, quiet, ticket, pace)
            noise = self.counters["noise"]
            hinted = self._hints.lost(
                error, station, soon=soon, noise=noise, rest=bool(stream.buffer)
            )
            raise hinted from error.__cause__
        except asyncio.CancelledError as error:
            self._failed(error, quiet, ticket, pace)
            raise
        except DeviceError:
            self._answered(station, sent)  # the device said no, with a whole frame
            raise
        finally:
            stream.listen(None)
        if self._doubt or (
            not self._listened and self._soon(station, sent) and station not in self._hints.prompt
        ):
            self._answered(station, sent)
        self._spoke = station
        self._listened = False
        self._free_at = heard = stream.last_byte
        self._silent, self._fresh = 0, False
        self.took = took = heard - sent if heard > sent else 0.0
        if pace is not None:
            pace.answered(took)
        return result

    def _answered(self, station: int, sent: float) -> None:
        """Somebody spoke: what was held to be too soon, or noise, was neither."""
        # After listening for others there was a pause: no proof that none is needed.
        self._hints.answered(station, soon=self._soon(station, sent) and not self._listened)
        self._doubt = False
        self._spoke = station
        self._free_at = asyncio.get_running_loop().time()

    def _tell_failure(self, error: BaseException) -> None:
        if self._tap is not None:
            self._tap.failed(error.code if isinstance(error, LinkError) else CANCELLED)

    def _soon(self, station: int, sent: float) -> bool:
        return station == self._spoke and sent - self._free_at < SOON

    def _failed(
        self, error: BaseException, quiet: bool, ticket: int, pace: RttEstimator | None
    ) -> None:
        """Remember what may still arrive, and close what cannot be trusted any more."""
        self._tell_failure(error)
        if isinstance(error, LinkError):
            self.counters[str(error.code)] += 1
        if self._expired is None:
            self._expired = deque(maxlen=_REMEMBERED)
        self._expired.append((ticket, pace))
        if pace is not None:
            pace.lost()
        self._spoke, self._doubt = 0, True
        self._free_at = now = asyncio.get_running_loop().time()
        if quiet:
            self._unsettled_since = now
        if isinstance(error, ProtocolError) and not quiet:
            self._drop()
        elif isinstance(error, LinkError) and error.code == LinkCode.TIMEOUT:
            self._silent += 1
            # Half a frame would be the beginning of whatever comes next.
            half = not quiet and self._stream is not None and self._stream.buffer
            if half or self._silent >= self.silent_limit:
                self._silent = 0
                self._drop()
        elif isinstance(error, LinkError) and not isinstance(error, ProtocolError):
            self._drop()
