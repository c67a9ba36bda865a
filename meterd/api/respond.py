"""From an answer to HTTP: headers, ETag, gzip, and answers that come in parts."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from meterd.api import door
from meterd.api.answer import Answer, Flow
from meterd.api.headers import HEADERS
from meterd.api.problem import Refusal
from meterd.errors import StoreError

log = logging.getLogger("meterd.api")

_PLAIN = {**HEADERS, "Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}


async def respond(answer: Answer, request: web.Request) -> web.Response:
    """A whole body; 304 where the client says that it has it."""
    headers = {**_PLAIN, **answer.headers, "Content-Type": answer.media}
    etag = headers.get("ETag")
    known = request.headers.get("If-None-Match", "")
    if etag is not None and (etag in known or known.strip() == "*"):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    body, is_gzip = await door.squeeze(answer.body, request.headers.get("Accept-Encoding", ""))
    if is_gzip:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, status=answer.status, headers=headers)


async def pour(
    flow: Flow, request: web.Request, is_welcome: Callable[[], bool]
) -> web.StreamResponse:
    """Part by part, as fast as the client takes them. Raises what the first part raises.

    It ends where the client's login does: a slow client may take hours.
    """
    response = web.StreamResponse(headers={**_PLAIN, **flow.headers, "Content-Type": flow.media})
    if request.method == "HEAD":
        return response
    if door.accepts_gzip(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)
    async with contextlib.AsyncExitStack() as stack:
        close = getattr(flow.parts, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        first = await anext(flow.parts, b"")
        await response.prepare(request)
        await response.write(first)
        await _rest(flow.parts, request, response, is_welcome)
    return response


async def _rest(
    parts: AsyncIterator[bytes],
    request: web.Request,
    response: web.StreamResponse,
    is_welcome: Callable[[], bool],
) -> None:
    try:
        async for part in parts:
            if not is_welcome():
                raise Refusal(401, "unauthorized", "the login has ended")
            await response.write(part)
    except (Refusal, StoreError) as error:
        # Half an answer that ended as it should would be taken for all of it.
        log.warning("an answer was cut short: %s", error)
        if request.transport is not None:
            request.transport.abort()
