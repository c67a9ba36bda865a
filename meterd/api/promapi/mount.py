"""Prometheus' API under /prometheus/api/v1: which path is answered by what."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from meterd.api.backlog import Backlog
from meterd.api.headers import HEADERS
from meterd.api.problem import ApiRefusal
from meterd.api.promapi import discovery, queries, rules, status
from meterd.api.promapi.params import Params, read
from meterd.api.promapi.query_executor import QueryExecutor
from meterd.api.promapi.reply import MEDIA, PromReply, Trouble, error_body, of_query, of_store
from meterd.api.promapi.self_metrics_history import OwnHistory
from meterd.api.respond import whole
from meterd.api.route import Scope
from meterd.api.server_stats import ServerStats
from meterd.daemon.service import forever
from meterd.errors import StoreError
from meterd.model.clock import Clock
from meterd.promql.result import PromErrorType, QueryError

if TYPE_CHECKING:
    from meterd.daemon.site import Site
    from meterd.store.reader import Reader

PREFIX = "/prometheus"
API = f"{PREFIX}/api/v1"

Endpoint = Callable[[QueryExecutor, Params], Awaitable[PromReply]]

# GET and form POST; the others below are GET only, as Prometheus has it.
BOTH: dict[str, Endpoint] = {
    "query": queries.query,
    "query_range": queries.query_range,
    "query_exemplars": queries.exemplars,
    "format_query": queries.formatted,
    "labels": discovery.labels,
    "series": discovery.series,
}
GET: dict[str, Endpoint] = {
    "metadata": discovery.metadata,
    "rules": rules.rules,
    "alerts": rules.alerts,
    "status/buildinfo": status.buildinfo,
    "status/runtimeinfo": status.runtimeinfo,
    "status/flags": status.flags,
    "status/config": status.config,
}


@dataclass(frozen=True, slots=True)
class Mounted:
    """One route of the Prometheus API; the application checks its scope.

    `respond` takes the request and its whole body.
    """

    method: str
    path: str
    scope: Scope
    respond: Callable[[web.Request, bytes], Awaitable[web.Response]]


class PrometheusApi:
    """Prometheus' API for a site. `life` goes into the application's cleanup_ctx."""

    def __init__(
        self,
        site: "Site",
        clock: Clock,
        reader: "Callable[[], Reader]",
        server_stats: ServerStats | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        """`reader` gives the store's reader of the moment: a reload changes it."""
        self._site = site
        self._backlog = backlog or Backlog()
        self._clock = clock
        self._executor = QueryExecutor(site, clock, reader, OwnHistory(site, server_stats))

    async def life(self, app: web.Application) -> AsyncIterator[None]:
        """Look at meterd's own health all the while, and end the threads."""
        look = partial(self._executor.own.run, self._clock)
        looking = asyncio.create_task(forever("meterd's own history", look))
        yield
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        self._executor.close()

    def routes(self) -> Iterator[Mounted]:
        """What to add to the application's router."""
        for paths, methods in ((BOTH, ("GET", "HEAD", "POST")), (GET, ("GET", "HEAD"))):
            for path, endpoint in paths.items():
                respond = partial(_answer, self._executor, self._backlog, endpoint)
                for method in methods:
                    yield Mounted(method, f"{API}/{path}", "read", respond)
        values = partial(_values, self._executor, self._backlog)
        ready = partial(_ready, self._site)
        for method in ("GET", "HEAD"):
            yield Mounted(method, f"{API}/label/{{name}}/values", "read", values)
            yield Mounted(method, f"{PREFIX}/-/healthy", "open", _healthy)
            yield Mounted(method, f"{PREFIX}/-/ready", "open", ready)


async def _answer(
    executor: QueryExecutor, backlog: Backlog, endpoint: Endpoint, request: web.Request, body: bytes
) -> web.Response:
    try:
        reply = await endpoint(executor, read(request, body))
    except Trouble as trouble:
        return _refused(trouble)
    except QueryError as error:
        return _refused(of_query(error))
    except StoreError as error:
        return _refused(of_store(error))
    headers = {**_headers(), "Content-Type": MEDIA}
    try:
        return await whole(reply.body, headers, request, backlog)
    except ApiRefusal as refusal:
        return _refused(Trouble(PromErrorType.UNAVAILABLE, str(refusal)))


async def _values(
    executor: QueryExecutor, backlog: Backlog, request: web.Request, body: bytes
) -> web.Response:
    endpoint = partial(discovery.label_values, name=request.match_info["name"])
    return await _answer(executor, backlog, endpoint, request, body)


def _headers() -> dict[str, str]:
    return {**HEADERS, "Cache-Control": "no-store", "Vary": "Accept-Encoding"}


def _refused(trouble: Trouble) -> web.Response:
    headers = _headers()
    if trouble.status == 503:
        headers["Retry-After"] = "5"
    return web.Response(
        body=error_body(trouble), status=trouble.status, headers=headers, content_type=MEDIA
    )


async def _healthy(request: web.Request, body: bytes) -> web.Response:
    return web.Response(text="meterd is healthy.\n", headers=_headers())


async def _ready(site: "Site", request: web.Request, body: bytes) -> web.Response:
    is_ready, why = site.ready()
    text = "meterd is ready.\n" if is_ready else f"meterd is not ready: {why}\n"
    return web.Response(text=text, status=200 if is_ready else 503, headers=_headers())
