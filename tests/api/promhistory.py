"""A store in memory, as PromQL's source reads one, and Prometheus' API served over it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from meterd.api.promapi.mount import Mounted, PrometheusApi
from meterd.errors import StoreError
from meterd.model.quantity import Kind
from meterd.promql.source import Times, Values
from meterd.store.head.catalog import Name
from meterd.store.query.range_query import SeriesInfo
from meterd.store.query.series_array import SeriesArray
from tests.api.conftest import FixedClock
from tests.api.fake import NOW, FakeSite

if TYPE_CHECKING:
    from meterd.store.reader import Reader as _Reader
else:
    _Reader = object

EVERY = 5000

Points = Sequence[tuple[int, float]]


@dataclass
class FakeHistory(_Reader):
    """Arrays by (device, quantity), and what was asked."""

    points: dict[tuple[str, str], Points] = field(default_factory=dict)
    known: list[SeriesInfo] = field(default_factory=list)
    asked: list[tuple[list[Name], int, int]] = field(default_factory=list)
    error: StoreError | None = None

    def add(self, device: str, quantity: str, unit: str, points: Points) -> None:
        self.points[device, quantity] = points
        times = [time for time, _ in points]
        ends = min(times, default=NOW), max(times, default=NOW)
        self.known.append(SeriesInfo(device, quantity, unit, Kind.GAUGE, *ends))

    def names(self) -> list[SeriesInfo]:
        if self.error:
            raise self.error
        return self.known

    def columns(
        self, names: Sequence[Name], start: int, end: int, *, most: int | None = None
    ) -> list[SeriesArray]:
        self.asked.append((list(names), start, end))
        return [SeriesArray(*self._column(name, start, end)) for name in names]

    def _column(self, name: Name, start: int, end: int) -> tuple[Times, Values]:
        chosen = [p for p in self.points.get(name[:2], ()) if start <= p[0] < end]
        times = np.array([time for time, _ in chosen], dtype=np.int64)
        return times, np.array([value for _, value in chosen], dtype=np.float64)


def stored() -> FakeHistory:
    """Ten minutes of two meters; one of them was silent for a minute."""
    history = FakeHistory()
    times = range(NOW - 600_000, NOW, EVERY)
    history.add("main", "active_power", "W", [(t, 1000.0 + n) for n, t in enumerate(times)])
    history.add("main", "active_energy.import", "Wh", [(t, 5.0 * n) for n, t in enumerate(times)])
    history.add("main", "device.up", "1", [(t, 1.0) for t in times])
    lost = range(NOW - 120_000, NOW - 60_000)
    there = [t for t in times if t not in lost]
    history.add("garage", "active_power", "W", [(t, 55.5) for t in there])
    history.add("garage", "device.up", "1", [(t, float(t not in lost)) for t in times])
    history.add("old", "frequency", "Hz", [(NOW - 9_000_000, 50.0), (NOW - 8_000_000, 50.0)])
    return history


def handler(one: Mounted) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await one.respond(request, await request.read())

    return handle


@contextlib.asynccontextmanager
async def served(site: FakeSite, history: FakeHistory) -> AsyncIterator[URL]:
    api = PrometheusApi(site, FixedClock(), lambda: history)
    app = web.Application()
    for one in api.routes():
        app.router.add_route(one.method, one.path, handler(one))
    app.cleanup_ctx.append(api.life)
    server = TestServer(app)
    await server.start_server()
    try:
        yield server.make_url("/prometheus/api/v1/")
    finally:
        await server.close()
