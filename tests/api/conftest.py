"""A served fake site with a fixed clock, and a client for it."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from meterd.api.app import Running, serve
from meterd.model.clock import Clock
from tests.api.fake import NOW, FakeSite, home


class FixedClock:
    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now / 1000

    def now_ms(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


@pytest.fixture
def site() -> FakeSite:
    return home()


@contextlib.asynccontextmanager
async def served(
    site: FakeSite, port: int = 0, clock: Clock | None = None
) -> AsyncIterator[Running]:
    """A server of that site, closed whatever happens."""
    server = await serve(site, "127.0.0.1", port, clock=clock)
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
async def running(site: FakeSite) -> AsyncIterator[Running]:
    async with served(site, clock=FixedClock()) as server:
        yield server


@pytest.fixture
async def client(running: Running) -> AsyncIterator[ClientSession]:
    async with ClientSession(running.url) as session:
        yield session
