"""From an answer to HTTP: headers, ETag, gzip, and answers that come in parts."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web

from meterd.api import middleware
from meterd.api.answer import ApiAnswer, StreamedAnswer
from meterd.api.backlog import COUNTED_FROM, STREAM, Backlog, Lease
from meterd.api.headers import HEADERS
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.errors import StoreError

log = logging.getLogger("meterd.api")

_PLAIN = {**HEADERS, "Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
# Bytes that the kernel may keep of a long answer; by itself it would take some megabytes.
_SOCKET_BUFFER = 256 * 1024


async def respond(
    answer: ApiAnswer, request: web.Request, backlog: Backlog | None = None
) -> web.Response:
    """A whole body; 304 where the client has it already."""
    headers = {**_PLAIN, **answer.headers, "Content-Type": answer.media}
    etag = headers.get("ETag")
    known = request.headers.get("If-None-Match", "")
    if etag is not None and (etag in known or known.strip() == "*"):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    return await whole(answer.body, headers, request, backlog, answer.status)


async def whole(
    body: bytes,
    headers: Mapping[str, str],
    request: web.Request,
    backlog: Backlog | None,
    status: int = 200,
) -> web.Response:
    """A body, with gzip where the client takes it. Raises ApiRefusal (503): too much waits."""
    if backlog is not None and len(body) >= COUNTED_FROM:
        backlog.need(len(body))
    body, is_gzip = await middleware.gzip_body(body, request.headers.get("Accept-Encoding", ""))
    told = {**headers, "Content-Encoding": "gzip"} if is_gzip else headers
    if backlog is None or len(body) < COUNTED_FROM or request.method == "HEAD":
        return web.Response(body=body, status=status, headers=told)
    backlog.need(len(body))
    return _Counted(body, status, told, request, backlog)


class _Counted(web.Response):
    """A long body, counted until the client has taken it."""

    def __init__(
        self,
        body: bytes,
        status: int,
        headers: Mapping[str, str],
        request: web.Request,
        backlog: Backlog,
    ) -> None:
        super().__init__(body=body, status=status, headers=headers)
        self._request = request
        self._backlog = backlog
        self._size = len(body)

    async def write_eof(self, data: bytes = b"") -> None:
        """Returns when the rest fits in the connection's buffer."""
        transport = self._request.transport
        if transport is None:
            return await super().write_eof(data)
        _keep_small(transport)

        def taken() -> int:
            return self._size - _unsent(transport)

        # There is room: `whole` has looked.
        with self._backlog.track(self._size, taken, transport.abort):
            return await super().write_eof(data)


async def stream_answer(
    flow: StreamedAnswer,
    request: web.Request,
    is_welcome: Callable[[], bool],
    backlog: Backlog | None = None,
) -> web.StreamResponse:
    """Sends part by part, as fast as the client reads. Raises what the first part raises.

    It ends where the client's login does: a slow client may take hours.
    """
    response = web.StreamResponse(headers={**_PLAIN, **flow.headers, "Content-Type": flow.media})
    if request.method == "HEAD":
        return response
    if middleware.accepts_gzip(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)
    poured = _Poured(flow, request, response, is_welcome)
    async with contextlib.AsyncExitStack() as stack:
        close = getattr(flow.parts, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        lease = (backlog or Backlog()).lease(STREAM, poured.taken, poured.abort)
        poured.lease = stack.enter_context(lease)
        first = await anext(flow.parts, b"")
        await response.prepare(request)
        if request.transport is not None:
            _keep_small(request.transport)
        await poured.write(first)
        await poured.rest()
    return response


class _Poured:
    """One answer in parts, on its way."""

    lease: Lease

    def __init__(
        self,
        flow: StreamedAnswer,
        request: web.Request,
        response: web.StreamResponse,
        is_welcome: Callable[[], bool],
    ) -> None:
        self._flow = flow
        self._request = request
        self._response = response
        self._is_welcome = is_welcome
        self._written = 0

    def taken(self) -> int:
        transport = self._request.transport
        return self._written - (0 if transport is None else _unsent(transport))

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self, part: bytes) -> None:
        self.lease.size = max(STREAM, self._flow.held())
        self._written += len(part)
        await self._response.write(part)

    async def rest(self) -> None:
        parts: AsyncIterator[bytes] = self._flow.parts
        try:
            async for part in parts:
                if not self._is_welcome():
                    raise ApiRefusal(401, ProblemCode.UNAUTHORIZED, "the login has ended")
                await self.write(part)
        except (ApiRefusal, StoreError) as error:
            # Half an answer that ended as it should would be taken for all of it.
            log.warning("an answer was cut short: %s", error)
            self.abort()
        except ConnectionError:
            if self.lease.ended:
                log.warning("an answer was cut short: its client was slow, and others waited")
            raise


def _unsent(transport: asyncio.BaseTransport) -> int:
    size = getattr(transport, "get_write_buffer_size", None)
    return 0 if size is None else int(size())


def _keep_small(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
