"""A device is renamed while it is polled: no gap, no second series, whatever its file says."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import serve_meter
from tests.cli.command import meterd
from tests.e2e.running import Daemon, daemon, eventually
from tests.ports import free_port
from tests.store.rigs import rows

MODEL = "eastron_sdm120"


@pytest.fixture
async def meter() -> AsyncIterator[ModbusServer]:
    async with serve_meter(MODEL) as server:
        yield server


def configure(folder: Path, name: str, url: str, port: int) -> Path:
    file = folder / "meterd.yaml"
    file.write_text(
        f'devices:\n  {name}: {{driver: modbus, map: {MODEL}, link: "{url}", interval: 100ms}}\n'
        f'store: {{url: "sqlite:///{folder / "store.db"}", commit: 1s}}\n'
        f"api: {{listen: '127.0.0.1:{port}'}}\n"
        f"alerts: {{rules: {{gone: {{device: {name}, quantity: device.up, equals: 0}}}}}}\n"
    )
    return file


async def count(running: Daemon, device: str) -> float:
    """How many of its voltages PromQL knows."""
    question = f'count_over_time(meterd_voltage_volts{{device="{device}"}}[1h])'
    async with running._session.get(
        f"{running.url}/prometheus/api/v1/query", params={"query": question}
    ) as answer:
        found = (await answer.json())["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


async def more(running: Daemon, device: str, than: float) -> float:
    async def look() -> float | None:
        found = await count(running, device)
        return found if found > than else None

    return await eventually(look, f"more polls of {device} than {than}")


async def test_renamed_while_it_is_polled(tmp_path: Path, meter: ModbusServer) -> None:
    file = configure(tmp_path, "main", meter.url, free_port())
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        before = await more(running, "main", 5)
        connections = set(meter.lines)
        done = await meterd("devices", "rename", "main", "kitchen", "-c", file)
        assert done.code == 0, done.err
        assert f"{file}:2:3: write kitchen here instead of main" in done.err
        assert f"{file}:5:" in done.err
        # What was polled as main, and what comes, is one series under its new label.
        now = await more(running, "kitchen", before + 5)
        assert await count(running, "main") == 0
        assert meter.lines == connections
        # The file still says main.
        running.signal(signal.SIGHUP)
        await running.says("reloaded")
        now = await more(running, "kitchen", now + 5)
        configure(tmp_path, "kitchen", meter.url, int(running.url.rpartition(":")[2]))
        running.signal(signal.SIGHUP)
        now = await more(running, "kitchen", now + 5)
        assert meter.lines == connections
        found = await running.get("devices")
        assert ([one["id"] for one in found["devices"]], found["stored"]) == (["kitchen"], [])
        await running.stop()
    assert rows(tmp_path / "store.db", "SELECT id, name FROM device") == [(1, "kitchen")]
    done = await meterd("energy", "main", "-c", file)
    assert (done.code, "it is called kitchen now" in done.err) == (2, True)
    # Nobody runs: renamed back, on the store itself.
    done = await meterd("devices", "rename", "kitchen", "main", "-c", file)
    assert done.code == 0, done.err
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        await running.says("kitchen was renamed: it is polled as main")
        await more(running, "main", now)
        await running.stop()
    assert rows(tmp_path / "store.db", "SELECT id, name FROM device") == [(1, "main")]
