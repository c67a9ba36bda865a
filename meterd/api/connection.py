"""One client's connection: limits on what it sends, and errors that aiohttp meets by itself."""

import asyncio
import logging

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from meterd.api.door import refuse
from meterd.api.problem import Refusal

log = logging.getLogger("meterd.api")

LONGEST_LINE = 8190  # bytes of the request line, and of one header
MOST_HEADERS = 64
KEEPALIVE = 75.0  # seconds that an idle connection may stay
LINGER = 5.0  # seconds in which a body that nobody wants is read and dropped


class Connection(web.RequestHandler):
    """aiohttp's connection, with problem+json instead of its pages and tracebacks."""

    __slots__ = ()

    def __init__(self, server: web.Server | None, loop: asyncio.AbstractEventLoop) -> None:
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
            keepalive_timeout=KEEPALIVE,
            lingering_time=LINGER,
        )

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
        refusal = _malformed(exc) if isinstance(exc, BadHttpMessage) else _failed(request, exc)
        response = refuse(refusal)
        response.force_close()
        return response


def _malformed(error: BadHttpMessage) -> Refusal:
    # Anyone can send garbage: it is not worth a line in the log each time.
    log.debug("a request that is no HTTP: %s", type(error).__name__)
    if isinstance(error, LineTooLong):
        detail = f"the request line or a header is longer than {LONGEST_LINE} bytes"
        return Refusal(431, "header_too_large", detail)
    return Refusal(400, "bad_http", "the request is not well-formed HTTP/1.1")


def _failed(request: web.BaseRequest, error: BaseException | None) -> Refusal:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    detail = "meterd met an error of its own; its log says more"
    return Refusal(500, "internal", detail)
