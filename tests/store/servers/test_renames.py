"""A device is renamed while several meterds share its store: each learns it, whoever polls it."""

from pathlib import Path

import pytest

from meterd.store.db import store_url
from tests.store import test_renames

from .rig import meterd


async def test_every_meterd_of_a_cluster_learns_a_new_name(urls: list[str]) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.beat("x")
        await b.beat("y")
        await a.tell("x", range(100))
        await b.tell("y", range(100))
        await a.beat("x")
        # Neither polls the other's device, and b renames both.
        await b.writer.rename("x", "kitchen", who="", now=1)
        await b.writer.rename("y", "cellar", who="", now=2)
        a.take("x", range(100, 200))  # by a bus that does not know yet
        await a.writer.flush()
        await b.tell("cellar", range(100, 200))
        # Both are still told the old names.
        assert await a.beat("x") == {"kitchen"}
        assert await b.beat("y") == {"cellar"}
        await a.tell("x", range(200, 300))
        await b.tell("y", range(200, 300))
        await a.beat("kitchen")
        await b.beat("cellar")
        for one in (a, b):
            for device in ("kitchen", "cellar"):
                assert await one.sees(device) == list(range(300))
                assert one.writer.memory.catalog.renamed == {"x": "kitchen", "y": "cellar"}
            assert {info.device for info in one.reader.names()} == {"kitchen", "cellar"}
    with store_url.find(urls).reading() as there:
        found = there.exec_driver_sql("SELECT name FROM device ORDER BY name").all()
    assert [tuple(row) for row in found] == [("cellar",), ("kitchen",)]


async def test_a_new_device_may_have_the_former_name(urls: list[str]) -> None:
    """Where the configuration says both."""
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.beat("x")
        await a.tell("x", range(100))
        await a.writer.rename("x", "kitchen", who="", now=1)
        a.writer.memory.catalog.reclaim("x")
        assert await a.beat("x", "kitchen") == {"x", "kitchen"}
        await a.tell("x", range(1000, 1100))
        await b.beat("y")
        for one in (a, b):
            assert await one.sees("kitchen") == list(range(100))
            assert await one.sees("x") == list(range(1000, 1100))


@pytest.mark.usefixtures("elsewhere")
async def test_renamed_by_a_meterd_that_is_alone(tmp_path: Path) -> None:
    await test_renames.test_history_goes_where_the_name_goes(tmp_path, to_file=False)
