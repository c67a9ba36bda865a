"""One client's connection: limits on what it sends and when, and errors aiohttp meets itself."""

import asyncio
import logging
import re
from collections.abc import Callable
from enum import Enum

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong

from meterd.api.headers import refuse, shaped
from meterd.api.limits import ServerLimits
from meterd.api.log_rate_limit import LogRateLimit
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.model.clock import SystemClock
from meterd.model.shares import ClientSlot

log = logging.getLogger("meterd.api")

LONGEST_LINE = 8190  # bytes of the request line, and of one header
MOST_HEADERS = 64
_HIGH = re.compile(rb"[\x80-\xff]")
# The empty line after the headers; some clients end lines with a line feed alone.
_HEAD_END = re.compile(rb"\n\r?\n")
LINGER = 5.0  # seconds in which a body that nobody wants is read and dropped

_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nServer: meterd\r\nConnection: close\r\n"
    b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
)


class Phase(Enum):
    """What a connection is about."""

    HEAD = "a request has begun to come in"
    BUSY = "it is being answered"
    IDLE = "nothing is under way"


class Connection(web.RequestHandler):
    """aiohttp's connection with deadlines, and problem+json instead of pages and tracebacks.

    aiohttp itself would wait for the rest of a header for ever. Deadlines are looked at by
    `overdue()`, once a second for all connections: a timer for each request costs more.
    """

    __slots__ = (
        "_answered",
        "_bytes",
        "_end",
        "_is_head_over",
        "_is_in_line",
        "_left",
        "_limits",
        "_line",
        "_log_limit",
        "_lost",
        "_phase",
        "_since",
        "_time",
        "_unread",
        "is_leaving",
    )

    def __init__(
        self,
        server: web.Server | None,
        loop: asyncio.AbstractEventLoop,
        limits: ServerLimits,
        log_limit: LogRateLimit | None = None,
        left: Callable[["Connection"], None] = lambda connection: None,
    ) -> None:
        if server is None:
            raise RuntimeError("the server has been closed")
        super().__init__(
            server,
            loop=loop,
            logger=log,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "none"
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            # Ours come first; what aiohttp does at its own is only the second net.
            keepalive_timeout=2 * max(limits.idle, limits.head),
            lingering_time=LINGER,
            # A small body could grow a thousandfold.
            auto_decompress=False,
        )
        self._limits = limits
        self._log_limit = log_limit or LogRateLimit(SystemClock())
        self._left = left
        self._lost: Callable[[], None] | None = None
        self._phase = Phase.HEAD
        self._time = loop.time
        self._since = self._time()
        self._bytes = 0  # of a head that is not over
        self._end = b""
        self._is_head_over = False
        self._unread = 0
        self._answered: float | None = None
        self._is_in_line = True
        self._line = b""
        self.is_leaving = False  # its door closes: the next answer is the last one

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        if self._phase is Phase.HEAD and self._bytes > self._limits.head_bytes:
            self.drop()
            return
        if self._is_in_line:
            data = self._readable(data)
        if self._phase is Phase.HEAD and not self._is_head_over:
            self._count(data)
        super().data_received(data)

    def _count(self, data: bytes) -> None:
        """Count the bytes of a head until it is over; of what follows a body's limit is told (413).

        That it is over is seen here, as its request is begun some turns of the loop later only.
        """
        # Parsers pass over empty lines before a request.
        head = self._end + data if self._end else data.lstrip(b"\r\n")
        self._is_head_over = _HEAD_END.search(head) is not None
        self._bytes = 0 if self._is_head_over else self._bytes + len(data)
        self._end = head[-2:]  # the end may come in two parts

    def _readable(self, data: bytes) -> bytes:
        """What has come of a request line, with UTF-8 escaped: the parser takes ASCII only."""
        line, end, rest = data.partition(b"\n")
        self._is_in_line = not end
        if len(self._line) < LONGEST_LINE:
            self._line += line
        return data if line.isascii() else in_ascii(line) + end + rest

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._lost is not None:
            self._lost()
        self._left(self)

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Registers a callback for the loss of the connection, for answers without an end."""
        self._lost = tell

    def begun(self) -> None:
        """The headers of a request are complete."""
        self._enter(Phase.BUSY)

    def ended(self) -> None:
        """The request is answered, as far as we are concerned."""
        self._enter(Phase.IDLE)
        self._answered = self._since

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self._time()
        self._bytes = 0
        self._end = b""
        self._is_head_over = False
        self._is_in_line = phase is Phase.HEAD
        if self._is_in_line:
            self._line = b""

    def slot(self, share: str) -> "ClientSlot[Connection] | None":
        """This connection as one that may be closed; None while a request or an answer is under
        way.
        """
        if self.transport is None or self.transport.get_write_buffer_size():
            return None
        # One that sends its first request by the byte is not used yet.
        if self._phase is Phase.IDLE or (self._phase is Phase.HEAD and self._answered is None):
            return ClientSlot(self, share, self._answered, self._since)
        return None

    def overdue(self, now: float) -> None:
        """Close what takes too long; `now` is the loop's time."""
        if self.transport is None:
            return
        waited = now - self._since
        unread = self.transport.get_write_buffer_size()
        if unread:
            self._watch(unread, now)
        elif self._phase is Phase.HEAD and waited > self._limits.head:
            if self._bytes:
                self.transport.write(self._late())
            self.force_close()
        elif self._phase is Phase.IDLE and waited > self._limits.idle:
            self.force_close()

    def _late(self) -> bytes:
        detail = f"the headers did not come within {self._limits.head:g} seconds"
        body, media = shaped(ApiRefusal(408, ProblemCode.SLOW_HEAD, detail), self._target)
        return _LATE % (media.encode(), len(body), body)

    @property
    def _target(self) -> str:
        """The target of the request line, as far as it was received."""
        return self._line.partition(b" ")[2].decode(errors="replace")

    def _watch(self, unread: int, now: float) -> None:
        """An answer that is taken slowly is fine; one that is not taken at all is not."""
        if unread != self._unread:
            self._unread = unread
            self._since = now
        elif now - self._since > self._limits.unread:
            self.drop()

    def drop(self) -> None:
        """Ends at once, whatever is not sent yet."""
        transport = self.transport
        self.force_close()
        # force_close() waits for what is still to be sent, and nobody takes that.
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no HTTP, or to an exception that nobody expected."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of the answer is already sent")
        if isinstance(exc, BadHttpMessage):
            response = refuse(_malformed(exc), self._target)
        else:
            response = refuse(self._failed(request, exc), request.path)
        response.force_close()
        return response

    def _failed(self, request: web.BaseRequest, error: BaseException | None) -> ApiRefusal:
        if (more := self._log_limit.ask()) is not None:
            place = quote(request.path)
            log.error("%s %s failed%s", request.method, place, more, exc_info=error)
        detail = "meterd met an error of its own; its log says more"
        return ApiRefusal(500, ProblemCode.INTERNAL, detail)


def _malformed(error: BaseException | None) -> ApiRefusal:
    # Anyone can send garbage: it is not worth a line in the log each time.
    log.debug("a request that is no HTTP: %s", type(error).__name__)
    if isinstance(error, LineTooLong):
        detail = f"the request line or a header is longer than {LONGEST_LINE} bytes"
        return ApiRefusal(431, ProblemCode.HEADER_TOO_LARGE, detail)
    if isinstance(error, InvalidURLError):
        hint = "write spaces and signs as %20 and so on: curl -G --data-urlencode device=…"
        return ApiRefusal(
            400, ProblemCode.BAD_HTTP, "the URL has characters that none may have", hint=hint
        )
    return ApiRefusal(400, ProblemCode.BAD_HTTP, "the request is not well-formed HTTP/1.1")


def in_ascii(line: bytes) -> bytes:
    """Bytes beyond ASCII as a URL writes them: `k\u00fcche` in UTF-8 as `k%C3%BCche`."""
    return _HIGH.sub(lambda found: b"%%%02X" % found[0][0], line)
