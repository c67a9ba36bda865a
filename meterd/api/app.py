"""Builds the web application from the table of routes, and serves it."""

import asyncio
import difflib
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from meterd.api import door, query
from meterd.api.answer import Answer, Call
from meterd.api.connection import Connection
from meterd.api.problem import Refusal, quote
from meterd.api.route import Route
from meterd.api.routes import FILES, ROUTES
from meterd.api.site import Site
from meterd.model.clock import Clock, SystemClock

# Seconds that requests under way get to finish when meterd stops.
_GRACE = 3.0


def build(site: Site, *, listen: str, clock: Clock | None = None) -> web.Application:
    """The application for `site`; `listen` is the host that it will be bound to."""
    app = web.Application(middlewares=[door.doorman(listen, _nowhere)])
    clock = clock or SystemClock()
    for route in (*ROUTES, *FILES):
        app.router.add_route(route.method, route.path, _handler(route, site, clock))
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, _handler(route, site, clock))
    return app


def _handler(route: Route, site: Site, clock: Clock) -> door.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        now = clock.now_ms()
        asked = query.parse(route.query, request.query, now)
        accept = request.headers.get("Accept", "")
        answer = await route.function(Call(site, now, request.match_info, accept), asked)
        return await _respond(answer, request)

    return handle


async def _respond(answer: Answer, request: web.Request) -> web.Response:
    headers = {**door.HEADERS, "Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
    headers.update(answer.headers)
    etag = headers.get("ETag")
    if etag is not None and etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    body, is_gzip = await door.squeeze(answer.body, request.headers.get("Accept-Encoding", ""))
    headers["Content-Type"] = answer.media
    if is_gzip:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)


def _nowhere(path: str) -> Refusal:
    paths = [route.path for route in ROUTES]
    near = difflib.get_close_matches(path[:100], paths, n=1)
    hint = f"did you mean {near[0]}?" if near else "see /openapi.json"
    detail = f"there is nothing at {quote(path)}"
    return Refusal(404, "unknown_path", detail, hint=hint, allowed=paths)


@dataclass(slots=True)
class Running:
    """A server that listens. `port` is the one it got, should 0 have been asked for."""

    host: str
    port: int
    _runner: web.AppRunner
    _tcp: asyncio.Server

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def close(self) -> None:
        """Stop listening, let requests under way finish, close every connection."""
        self._tcp.close()
        await self._runner.cleanup()
        await self._tcp.wait_closed()


async def serve(site: Site, host: str, port: int, *, clock: Clock | None = None) -> Running:
    """Listen at once. Raises OSError where the address is taken or not this machine's."""
    app = build(site, listen=host, clock=clock)
    runner = web.AppRunner(app, shutdown_timeout=_GRACE)
    await runner.setup()
    loop = asyncio.get_running_loop()
    try:
        tcp = await loop.create_server(partial(Connection, runner.server, loop), host, port)
    except OSError:
        await runner.cleanup()
        raise
    return Running(host, tcp.sockets[0].getsockname()[1], runner, tcp)
