"""Servers that go and come under load, and connections that end at the worst moment."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meterd.store.engine import store_thread as workers
from meterd.store.writer import Writer
from tests.store.rigs import METER, NEVER, opened, poll

from .engines import Engine, database_of
from .relay import Relay
from .test_conformance import stored

DEVICES = ("one", "two")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_RETRY", 0.1)


class Load:
    """Two devices that are polled as fast as it goes; every poll has a time of its own."""

    def __init__(self, writer: Writer) -> None:
        self.taken = 0
        self._writer = writer
        self._going = True

    async def run(self) -> None:
        while self._going:
            for device in DEVICES:
                values = (float(self.taken), -float(self.taken), self.taken * 10.0)
                self._writer.take(poll(self.taken, *values, device=device, layout=METER))
            self.taken += 1
            await asyncio.sleep(0.002)

    def stop(self) -> None:
        self._going = False


@asynccontextmanager
async def loaded(writer: Writer) -> AsyncIterator[Load]:
    load = Load(writer)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await task


async def committed(writer: Writer, more: int) -> None:
    """Until so many samples more are confirmed."""
    wanted = writer.status.committed + more
    async with asyncio.timeout(60):
        while writer.status.committed < wanted:
            await asyncio.sleep(0.02)


def need_all(urls: list[str], count: int) -> None:
    """Each sample once, none lost: by what another process finds, and by the rows themselves."""
    found = stored(urls[0])
    assert len(found) == len(DEVICES) * 3
    for (_, quantity, _), points in found.items():
        sign = {"voltage.l1": 1.0, "active_power": -1.0}.get(quantity, 10.0)
        assert points == [(time, time * sign) for time in range(count)]


@pytest.fixture
def relay(single: Engine) -> Iterator[Relay]:
    made = Relay(single.servers[0].port)
    yield made
    made.end()


@pytest.mark.parametrize("lose", [False, True], ids=["arrived", "lost"])
async def test_a_commit_whose_confirmation_is_lost_is_neither_lost_nor_doubled(
    single: Engine, relay: Relay, tmp_path: Path, lose: bool
) -> None:
    urls = single.urls(database_of(tmp_path))
    through = urls[0].replace(f":{single.servers[0].port}/", f":{relay.port}/")
    said = random.Random(1)
    async with opened(Writer(through, commit=0.05)) as writer, loaded(writer) as load:
        for _ in range(20):
            await committed(writer, said.randrange(1, 60))
            cuts = relay.cuts
            relay.cut_at(b"COMMIT", lose=lose)
            async with asyncio.timeout(60):
                while relay.cuts == cuts:
                    await asyncio.sleep(0.01)
        await committed(writer, 100)
        assert relay.cuts == 20
    assert writer.status.queued == 0
    need_all(urls, load.taken)
    journal = single.ask("SELECT count(*) FROM journal", database_of(tmp_path))
    assert journal[0][0] >= 20


async def test_connections_that_are_cut_at_any_moment_lose_nothing(
    single: Engine, relay: Relay, tmp_path: Path
) -> None:
    urls = single.urls(database_of(tmp_path))
    through = urls[0].replace(f":{single.servers[0].port}/", f":{relay.port}/")
    said = random.Random(2)
    async with opened(Writer(through, commit=0.01)) as writer, loaded(writer) as load:
        for _ in range(30):
            await asyncio.sleep(said.uniform(0.01, 0.06))
            relay.cut()
        await committed(writer, 100)
    need_all(urls, load.taken)


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.long)])
async def test_a_server_that_restarts_under_load_loses_and_doubles_nothing(
    single: Engine, tmp_path: Path, times: int
) -> None:
    urls = single.urls(database_of(tmp_path))
    (one,) = single.servers
    said = random.Random(3)
    async with opened(Writer(urls[0], commit=0.05)) as writer, loaded(writer) as load:
        for number in range(times):
            await committed(writer, said.randrange(1, 200))
            # Every other time as an administrator, else as a crash.
            await asyncio.to_thread(one.kill if number % 2 else one.stop)
            await asyncio.sleep(said.uniform(0, 0.3))
            one.launch()
            await asyncio.to_thread(single.await_up)
        await committed(writer, 100)
    need_all(urls, load.taken)


async def test_the_lock_ends_with_its_connection(single: Engine, tmp_path: Path) -> None:
    from meterd.errors import StoreError

    (url,) = single.urls(database_of(tmp_path))
    async with opened(Writer(url, commit=NEVER)):
        with pytest.raises(StoreError) as refused:
            await Writer(url).open()
        assert refused.value.code == "already_running"
        # Another database of the same server is another store.
        (other,) = single.urls(database_of(tmp_path / "other"))
        async with opened(Writer(other, commit=NEVER)):
            pass
    async with opened(Writer(url, commit=NEVER)) as writer:
        assert writer.status.writable
