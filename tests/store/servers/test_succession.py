"""A store on a server under other terms: polls go on, and the new writer opens after the old."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.cli.demo import settings
from meterd.config.settings import Settings
from meterd.daemon.site import Site
from meterd.errors import StoreError
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll
from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import meter_bank

from .engines import Engine, database_of


@pytest.fixture
async def meter() -> AsyncIterator[ModbusServer]:
    server = ModbusServer({1: meter_bank("eastron_sdm120")})
    await server.start_tcp()
    yield server
    await server.stop()


class Taken:
    """The times of all polls that went to the store."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def take(self, poll: Poll) -> None:
        self.times.append(poll.time)

    async def more(self, count: int = 3) -> None:
        wanted = len(self.times) + count
        async with asyncio.timeout(60):
            while len(self.times) < wanted:
                await asyncio.sleep(0.05)


def configured(urls: list[str], meter: ModbusServer, more: str = "") -> Settings:
    return settings(
        f"store: {{url: {urls}, commit: 60s}}\ndevices:\n  a: {{driver: modbus, "
        f"map: eastron_sdm120, link: '{meter.url}', unit: 1, interval: 100ms}}\n{more}"
    )


async def until_writable(site: Site) -> None:
    async with asyncio.timeout(60):
        while not site.store_status().writable:
            await asyncio.sleep(0.05)


async def test_polls_go_on_under_other_terms(
    single: Engine, tmp_path: Path, meter: ModbusServer
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    site, taken = Site(SystemClock()), Taken()
    site.subscribe(taken)
    shared = "cluster: {{name: one, lease: {}}}\n"
    terms = (
        ([url], ""),
        ([url, re.sub(r":\d+/", ":1/", url)], ""),  # and a node that is away
        ([url], shared.format("1s")),
        ([url], shared.format("5s")),
    )
    try:
        for urls, more in (*terms, ([url], "")):
            await site.apply(configured(urls, meter, more))
            await until_writable(site)
            await taken.more()
            # A meterd of a cluster takes over what a device left in the journal when it commits.
            await site._open_store.writer.flush()
            before = set(taken.times)
            found = await site.reader.range(["a"], ["device.up"], 0, 2**50, 0, "avg")
            known = {time for one in found for time, _ in one.points}
            assert before <= known
        wrong = url.replace("://", "://nobody-").replace("nobody-", "x", 1)
        reader = site.reader
        with pytest.raises(StoreError):
            await site.apply(configured([wrong], meter))
        assert site.reader is reader
        await taken.more()
        assert site.store_status().writable
    finally:
        await site.close()
