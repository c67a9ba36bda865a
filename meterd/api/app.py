"""Builds the web application from the table of routes, and serves it."""

import asyncio
import difflib
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from meterd.api import middleware, query
from meterd.api.acceptor import Acceptor, Left, bind
from meterd.api.answer import ApiAnswer, ApiCall, FollowingClient, StreamedAnswer
from meterd.api.auth.authenticator import Access, Authenticator
from meterd.api.authorisation import Authorisation
from meterd.api.backlog import Backlog
from meterd.api.connection import Connection
from meterd.api.cors import Cors
from meterd.api.forwarded_headers import ForwardedHeaders
from meterd.api.headers import HEADERS, STRICT
from meterd.api.hosts import is_loopback
from meterd.api.limits import Guests, ServerLimits
from meterd.api.live.fanout import STREAM, Fanout
from meterd.api.log_rate_limit import LogRateLimit
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.api.promapi.mount import Mounted, PrometheusApi
from meterd.api.respond import respond, stream_answer
from meterd.api.route import Route
from meterd.api.routes import FILES, ROUTES
from meterd.api.server_stats import ServerStats
from meterd.api.tls import Certificate
from meterd.model.clock import Clock, SystemClock

if TYPE_CHECKING:
    from meterd.daemon.site import Site

# Seconds that requests under way get to finish when meterd stops.
_GRACE = 3.0
# Seconds in which who is connected to a door that another one replaces may ask once more.
_LEAVING = 1.0
# Seconds between two notes of when tokens were last used.
_NOTE_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class ServingRules:
    """How a site is served. `base`: the prefix of every public path, "" or "/meterd"."""

    access: Access = field(default_factory=Access)
    trusted: tuple[str, ...] = ()
    base: str = ""
    certificate: Certificate | None = None
    limits: ServerLimits = field(default_factory=ServerLimits)
    cors: Cors = field(default_factory=Cors)


def build(
    site: "Site", *, listen: str, clock: Clock | None = None, rules: ServingRules | None = None
) -> web.Application:
    """The application for `site`; `listen` is the host that it will be bound to."""
    rules, clock = (
        rules or ServingRules(Access(is_loopback=is_loopback(listen))),
        clock or SystemClock(),
    )
    return _built(site, _authorisation(listen, rules, clock), clock, rules, ServerStats())


def _authorisation(listen: str, rules: ServingRules, clock: Clock) -> Authorisation:
    # A browser has no password for the origin that a rebound name makes.
    name = "" if rules.access.login_always else listen
    return Authorisation(
        name,
        Authenticator(rules.access, clock),
        ForwardedHeaders(rules.trusted, rules.base),
        rules.cors,
    )


def _built(
    site: "Site",
    authorisation: Authorisation,
    clock: Clock,
    rules: ServingRules,
    server_stats: ServerStats,
) -> web.Application:
    app = web.Application(
        middlewares=[
            middleware.access_middleware(authorisation.check, _nowhere, rules.cors, rules.base)
        ],
        client_max_size=middleware.LARGEST_BODY,
    )
    backlog = Backlog()
    fanout = Fanout(site, clock, rules.limits.streams, server_stats, backlog)
    app.on_shutdown.append(lambda _: fanout.close())
    for route in (*ROUTES, *FILES):
        handler = _handler(route, site, clock, authorisation, rules.limits, fanout, backlog)
        # A proxy may take the base off, or leave it on.
        for path in dict.fromkeys((route.path, rules.base + route.path)):
            app.router.add_route(route.method, path, handler, expect_handler=middleware.expect)
            if route.method == "GET":
                app.router.add_route("HEAD", path, handler)
    prometheus = PrometheusApi(site, clock, lambda: site.reader, server_stats, backlog)
    app.cleanup_ctx.append(prometheus.life)
    for prom_route in prometheus.routes():
        for path in dict.fromkeys((prom_route.path, rules.base + prom_route.path)):
            handler = _mounted(prom_route, authorisation, rules.limits)
            app.router.add_route(prom_route.method, path, handler, expect_handler=middleware.expect)
    if rules.base:
        app.router.add_route("GET", rules.base, _to_page(authorisation))
    if rules.cors.origins:
        app.on_response_prepare.append(_marked(rules.cors))
    if rules.certificate is not None:
        app.on_response_prepare.append(_strict)
    return app


def _handler(
    route: Route,
    site: "Site",
    clock: Clock,
    authorisation: Authorisation,
    limits: ServerLimits,
    fanout: Fanout,
    backlog: Backlog,
) -> middleware.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        via = authorisation.via(request)
        who = await authorisation.let_in(request, via, route.scope)
        body = await middleware.body_of(request, limits.body)
        now = clock.now_ms()
        parsed = query.parse(route.query, request.query, now)
        headers = request.headers
        call = ApiCall(
            site,
            now,
            request.match_info,
            headers.get("Accept", ""),
            body,
            headers.get("Content-Type", ""),
            who.name if who else "",
            via.prefix,
            headers.get("Last-Event-ID", ""),
            fanout.server_stats,
        )
        answer = await route.function(call, parsed)
        is_welcome = who.is_welcome if who else _always
        return await _answer(answer, request, fanout, is_welcome, backlog)

    return handle


def _mounted(
    prom_route: Mounted, authorisation: Authorisation, limits: ServerLimits
) -> middleware.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        await authorisation.let_in(request, authorisation.via(request), prom_route.scope)
        return await prom_route.respond(request, await middleware.body_of(request, limits.body))

    return handle


def _to_page(authorisation: Authorisation) -> middleware.Handler:
    async def redirect(request: web.Request) -> web.StreamResponse:
        # The page's links are relative: they need the slash.
        location = f"{authorisation.via(request).prefix}/"
        return web.Response(status=308, headers={**HEADERS, "Location": location})

    return redirect


def _marked(
    cors: Cors,
) -> Callable[[web.Request, web.StreamResponse], Coroutine[None, None, None]]:
    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        cors.mark(request.headers, response.headers)

    return mark


async def _strict(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(STRICT)


async def _answer(
    answer: ApiAnswer | StreamedAnswer | FollowingClient,
    request: web.Request,
    fanout: Fanout,
    is_welcome: Callable[[], bool],
    backlog: Backlog,
) -> web.StreamResponse:
    if isinstance(answer, ApiAnswer):
        return await respond(answer, request, backlog)
    if isinstance(answer, StreamedAnswer):
        return await stream_answer(answer, request, is_welcome, backlog)
    if request.method == "HEAD":
        return web.Response(headers={**HEADERS, **STREAM})
    return await fanout.follow(request, answer, is_welcome)


def _always() -> bool:
    return True


def _nowhere(path: str) -> ApiRefusal:
    paths = [route.path for route in ROUTES]
    near = difflib.get_close_matches(path[:100], paths, n=1)
    hint = f"did you mean {near[0]}?" if near else "see /openapi.json"
    detail = f"there is nothing at {quote(path)}"
    return ApiRefusal(404, ProblemCode.UNKNOWN_PATH, detail, hint=hint, allowed=paths)


@dataclass(slots=True)
class Running:
    """A server that listens. `port` is the one it got, should 0 have been asked for."""

    host: str
    port: int
    is_tls: bool
    guests: Guests
    _runner: web.AppRunner
    _acceptor: Acceptor
    _notes: asyncio.Task[None]

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.is_tls else ''}://{host}:{self.port}"

    def turn_away(self) -> None:
        """Stops accepting. The sockets may serve a successor: clients in their backlog
        wait for it.
        """
        self._acceptor.turn_away()

    async def close(self, *, is_replaced: bool = False, keep_sockets: bool = False) -> None:
        """Stop listening, let requests under way finish, close every connection.

        Where another server takes its place, connections that stay open get a last answer.
        """
        await self._acceptor.close(_LEAVING if is_replaced else 0.0)
        if not keep_sockets:
            for each in self._acceptor.sockets:
                each.close()
        await self._runner.cleanup()
        self._notes.cancel()
        await asyncio.gather(self._notes, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A server that is ready, and listens nowhere yet."""

    host: str
    rules: ServingRules
    authorisation: Authorisation
    server_stats: ServerStats
    runner: web.AppRunner

    def open(self, sockets: Sequence[socket.socket]) -> Running:
        """Accepts connections from these listening sockets."""
        rules, authorisation = self.rules, self.authorisation
        log_limit = LogRateLimit(SystemClock())
        loop = asyncio.get_running_loop()

        def make(left: Left) -> Connection:
            return Connection(self.runner.server, loop, rules.limits, log_limit, left)

        def is_known(one: str) -> bool:
            return is_loopback(one) or authorisation.way.is_trusted(one)

        guests = Guests(rules.limits, is_known, self.server_stats)
        acceptor = Acceptor(sockets, make, guests, rules.limits, log_limit, rules.certificate)
        acceptor.open()
        notes = asyncio.create_task(_note(authorisation.locks))
        port = sockets[0].getsockname()[1]
        is_tls = rules.certificate is not None
        return Running(self.host, port, is_tls, guests, self.runner, acceptor, notes)

    async def abandon(self) -> None:
        """Discards a server that is not going to be opened."""
        await self.runner.cleanup()


async def assemble(
    site: "Site", host: str, *, clock: Clock | None = None, rules: ServingRules | None = None
) -> Assembled:
    """A server without its sockets; `host`: where it is going to listen."""
    rules = rules or ServingRules(Access(is_loopback=is_loopback(host)))
    clock = clock or SystemClock()
    authorisation, server_stats = _authorisation(host, rules, clock), ServerStats()
    if (certificate := rules.certificate) is not None:
        server_stats.certificate_expires = lambda: certificate.expires
    runner = web.AppRunner(
        _built(site, authorisation, clock, rules, server_stats), shutdown_timeout=_GRACE
    )
    try:
        await runner.setup()
    except BaseException:
        await runner.cleanup()
        raise
    return Assembled(host, rules, authorisation, server_stats, runner)


async def serve(
    site: "Site",
    host: str,
    port: int,
    *,
    clock: Clock | None = None,
    rules: ServingRules | None = None,
) -> Running:
    """Listen at once. Raises OSError where the address is taken or not this machine's."""
    sockets = await bind(host, port)
    try:
        assembled = await assemble(site, host, clock=clock, rules=rules)
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return assembled.open(sockets)


async def _note(locks: Authenticator) -> None:
    """Now and then, and at the end."""
    try:
        while True:
            await asyncio.sleep(_NOTE_EVERY)
            await asyncio.to_thread(locks.token_store.note)
    finally:
        locks.token_store.note()
