"""What waits in memory for clients that are slow to take it, all of them together."""

import asyncio
import contextlib
from array import array
from collections.abc import AsyncIterator, Container, Iterator, Sequence
from typing import Any

import pytest

from meterd.api import app, backlog
from meterd.api.answer import ApiAnswer, ApiCall, StreamedAnswer
from meterd.api.app import Running, ServingRules
from meterd.api.backlog import Backlog
from meterd.api.limits import ServerLimits
from meterd.api.problem import ApiRefusal
from meterd.api.query import NoQuery
from meterd.api.route import Route
from meterd.api.routes import ROUTES
from meterd.model.quantity import Kind
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Name
from meterd.store.query.day_reader import DaySamples
from meterd.store.query.range_query import SeriesInfo
from meterd.store.tools.export import Wanted, lines
from tests.api.locked import ask, locked, scoped

__all__ = ["scoped"]

MB = 1 << 20


async def _endless(call: ApiCall, query: NoQuery) -> StreamedAnswer:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    return StreamedAnswer(parts(), "text/plain", {}, lambda: 10 * MB)


async def _large(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return ApiAnswer(b"x" * (9 * MB), "text/plain")


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of 32 MB, and answers that take 10 MB each."""
    more = (
        Route("/test/endless", "without end", _endless, listed=False),
        Route("/test/large", "9 MB", _large, listed=False),
    )
    monkeypatch.setattr(app, "ROUTES", (*ROUTES, *more))
    monkeypatch.setattr(backlog, "MOST", 32 * MB)
    monkeypatch.setattr(backlog, "STREAM", 10 * MB)


@contextlib.asynccontextmanager
async def deaf(
    running: Running, path: str, count: int, first: bytes = b"HTTP/1.1 200 OK\r\n"
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Clients that ask, and take nothing but the first line of the answer."""
    pairs = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(running.host, running.port, limit=1024)
        pairs.append((reader, writer))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(20):
            assert await reader.readline() == first
    yield [reader for reader, _ in pairs]
    for _, writer in pairs:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def limited() -> AsyncIterator[Running]:
    async with locked(
        ServingRules(limits=ServerLimits(look_every=0.05)), login_always=False
    ) as running:
        yield running


@pytest.mark.parametrize("path", ["/test/endless", "/test/large"])
async def test_beyond_the_budget_answers_are_refused_for_a_while(path: str) -> None:
    async with limited() as running, deaf(running, path, 3):
        reply = await ask(running, path)
        assert reply.status == 503
        assert reply.json["code"] == "busy"
        assert int(reply.all("retry-after")[0]) > 0
        # Short ones are answered all the while.
        assert (await ask(running)).status == 200


async def test_what_has_gone_makes_room() -> None:
    async with limited() as running:
        async with deaf(running, "/test/endless", 3):
            assert (await ask(running, "/test/large")).status == 503
        async with asyncio.timeout(20):
            while (await ask(running, "/test/large")).status != 200:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/test/endless", "/test/large"])
async def test_the_slowest_reader_is_cut_for_who_comes(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limited() as running, deaf(running, path, 3) as readers:
        monkeypatch.setattr(backlog, "_PATIENCE", 0.0)
        monkeypatch.setattr(backlog, "_SLOW", 1 << 40)
        reply = await ask(running, "/test/large")
        assert reply.status == 200
        assert len(reply.body) == 9 * MB
        endings = [asyncio.ensure_future(_broken(reader)) for reader in readers]
        async with asyncio.timeout(20):
            done, others = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        for one in others:
            one.cancel()


async def _broken(reader: asyncio.StreamReader) -> None:
    """Waits for the end of an answer that has none."""
    taken = 0
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1024):
            taken += len(chunk)
            await asyncio.sleep(0.01)


async def test_slow_is_who_takes_little_for_some_seconds_and_the_slowest_goes_first() -> None:
    now = asyncio.get_running_loop().time()
    dropped: list[str] = []
    budget = Backlog(30 * MB)
    with contextlib.ExitStack() as stack:

        def one(name: str, taken: int, age: float) -> None:
            track = budget.track(10 * MB, lambda: taken, lambda: dropped.append(name))
            lease = stack.enter_context(track)
            lease.began = now - age

        one("slow", 20_000, 10.0)
        one("slower", 2_000, 60.0)
        one("new", 0, 1.0)
        budget.need(8 * MB)
        assert dropped == ["slower"]
        one("fast", 40 * MB, 10.0)
        budget.need(8 * MB)
        assert dropped == ["slower", "slow"]
        one("late", 0, 1.0)
        with pytest.raises(ApiRefusal, match="slow to take") as refused:
            budget.need(8 * MB)
        assert refused.value.status == 503
        assert dropped == ["slower", "slow"]
    assert budget.used == 0
    # The only one may be larger than the budget.
    budget.need(90 * MB)
    assert (budget.cut, budget.refused) == (2, 1)


class Recorded:
    """A store of many series at 1 s for a day; remembers how many samples it gave at once."""

    def __init__(self, series: int, times: int) -> None:
        self.most = 0
        self._names = [("main", f"voltage.l{n}", "V") for n in range(series)]
        self._times = array("q", range(0, times * 1000, 1000))

    def names(self) -> list[SeriesInfo]:
        return [SeriesInfo(*name, Kind.GAUGE, 0, self._times[-1]) for name in self._names]

    def ordered(self, names: Sequence[Name]) -> list[Name]:
        return list(names)

    def day(self, device: str, day: int, wanted: Container[Name]) -> DaySamples | None:
        some = [name for name in self._names if name in wanted]
        values = array("d", bytes(8 * len(self._times)))
        columns = tuple(
            ChunkColumn(number, range(len(self._times)), values) for number, _ in enumerate(some)
        )
        self.most = max(self.most, len(values) * len(some))
        return DaySamples(Chunk(1, self._times, columns), dict(enumerate(some)))


@pytest.mark.parametrize(("series", "times"), [(40, 86_400), (300, 1_440), (3, 300_000)])
def test_an_export_has_no_whole_day_in_memory(series: int, times: int) -> None:
    source: Any = Recorded(series, times)
    found: Iterator[Any] = lines(source, Wanted(None, None, 0, DAY))
    count, order = 0, list[str]()
    for line in found:
        count += 1
        if not order or order[-1] != line.quantity:
            order.append(line.quantity)
    assert count == series * min(times, 86_400)
    assert len(order) == series
    assert source.most <= max(250_000, 2 * times)
