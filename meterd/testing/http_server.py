"""A device on loopback that speaks HTTP: for drivers of devices that answer with JSON or a page."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from meterd.errors import LinkError


@asynccontextmanager
async def http_server(pages: Mapping[str, object]) -> AsyncIterator[str]:
    """Answers over HTTP; gives the link's URL, `tcp://127.0.0.1:PORT`, whose port is a free one.

    `pages`: what is answered, by path or by path and query (`/rpc?id=1`), whatever the method; all
    else is 404. str and bytes are sent as they are, an int is a status, a LinkError closes the
    connection, and everything else is sent as JSON. It is looked up at each request, so that a test
    may change it.
    """
    from aiohttp import web

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        key = request.path_qs if request.path_qs in pages else request.path
        if key not in pages:
            return web.Response(status=404)
        page = pages[key]
        if isinstance(page, LinkError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if isinstance(page, int) and not isinstance(page, bool):
            return web.Response(status=page)
        if isinstance(page, bytes):
            return web.Response(body=page)
        return web.Response(text=page) if isinstance(page, str) else web.json_response(page)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, port = runner.addresses[0][:2]
        yield f"tcp://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
