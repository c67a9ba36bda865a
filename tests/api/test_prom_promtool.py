"""Debian's promtool and prometheus as clients of meterd."""

import asyncio
import contextlib
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import FixedClock
from tests.api.conftest import served as whole_site
from tests.api.fake import NOW, FakeSite
from tests.api.promhistory import served, stored
from tests.promql.differential import reference

NOW_S = NOW // 1000
POWER = "meterd_active_power_watts"


@pytest.fixture
async def url(site: FakeSite) -> AsyncIterator[str]:
    async with served(site, stored()) as api:
        yield str(api).removesuffix("/api/v1/")


async def promtool(*arguments: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        "promtool", "query", *arguments, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    return said.decode().splitlines()


@pytest.mark.needs("promtool")
async def test_promtool_asks_for_an_instant(url: str) -> None:
    said = await promtool("instant", url, f"--time={NOW_S}", f'{POWER}{{device="main"}}')
    assert said == [f'{POWER}{{building="A", device="main"}} => 1119 @[{NOW_S}]']
    assert await promtool("instant", url, "--time=4", "1 + 1") == ["scalar: 2 @[4]"]


@pytest.mark.needs("promtool")
async def test_promtool_asks_for_a_range(url: str) -> None:
    times = (f"--start={NOW_S - 120}", f"--end={NOW_S}", "--step=1m")
    said = await promtool("range", url, *times, f'max({POWER}{{device="main"}}) - 1000')
    points = (f"{value} @[{NOW_S + ago}]" for value, ago in ((96, -120), (108, -60), (119, 0)))
    assert said == ["{} =>", *points]


@pytest.mark.needs("promtool")
async def test_promtool_lists_series_and_labels(url: str) -> None:
    found = await promtool("series", url, f"--match={POWER}")
    name = f'__name__="{POWER}"'
    assert found == [f'{{{name}, building="A", device="main"}}', f'{{{name}, device="garage"}}']
    assert {"garage", "main"} <= set(await promtool("labels", url, "device"))


async def _asked(prometheus: reference.Reference, query: str) -> Any:
    """The answer of a query, once there is one."""
    async with asyncio.timeout(60):
        while True:
            found = await asyncio.to_thread(prometheus.ask, "query", {"query": query})
            if found["data"]["result"]:
                return found["data"]["result"]
            await asyncio.sleep(0.2)


@pytest.mark.needs("prometheus")
async def test_prometheus_scrapes_meterd(site: FakeSite, tmp_path: Path) -> None:
    async with whole_site(site, clock=FixedClock()) as server:
        config = f"""
            scrape_configs:
              - job_name: meterd
                scrape_interval: 1s
                static_configs: [{{targets: ["127.0.0.1:{server.port}"]}}]
            """
        with contextlib.ExitStack() as stack:
            running = reference.running(tmp_path, config)
            prometheus = await asyncio.to_thread(stack.enter_context, running)
            (up,) = await _asked(prometheus, 'up{job="meterd"} == 1')
            assert up["value"][1] == "1"
            (power,) = await _asked(prometheus, f'{POWER}{{device="main", phase=""}}')
            assert (power["value"][1], power["metric"]["building"]) == ("3412.5", "A")
            (worst,) = await _asked(prometheus, 'count({__name__=~"meterd_.*_total"})')
            assert float(worst["value"][1]) > 10
