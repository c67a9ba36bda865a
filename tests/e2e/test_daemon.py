"""`meterd run` from its start to its end: signals, reloads, and what stops it from starting."""

import asyncio
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import serve_meter
from tests.cli.command import meterd
from tests.e2e.running import Daemon, daemon, eventually, files_in
from tests.e2e.stored import points, shown, stored

MODEL = "eastron_sdm120"
RUNNING, CONFIGURATION = 75, 78
GONE_WITHIN = 5.0


@pytest.fixture
async def meter() -> AsyncIterator[ModbusServer]:
    async with serve_meter(MODEL) as server:
        yield server


def configure(folder: Path, meters: Mapping[str, str], *, more: str = "") -> Path:
    """A configuration of these meters, by name and URL, that commits only when it must."""
    lines = (
        f'  {name}: {{driver: modbus, map: {MODEL}, link: "{url}", interval: 100ms}}\n'
        for name, url in meters.items()
    )
    file = folder / "meterd.yaml"
    file.write_text(
        f"devices:\n{''.join(lines)}"
        f'store: {{url: "sqlite:///{folder / "store.db"}", commit: 60s}}\n'
        f'api: {{listen: "127.0.0.1:0"}}\n{more}'
    )
    return file


async def devices(running: Daemon) -> dict[str, bool]:
    """Whether each is up."""
    return {one["id"]: one["up"] for one in (await running.get("devices"))["devices"]}


async def polls(running: Daemon, device: str, times: int = 5) -> None:
    """Until it has been polled so often from now on."""
    seen: set[str] = set()

    async def look() -> bool | None:
        seen.add((await running.latest())[device, "device.up"]["time"])
        return len(seen) > times or None

    await eventually(look, f"{times} polls of {device}")


async def test_sigterm_commits_all_that_the_api_showed(tmp_path: Path, meter: ModbusServer) -> None:
    file = configure(tmp_path, {"main": meter.url})
    said = {}
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        await running.ready()
        for _ in range(20):
            said.update(shown((await running.latest()).values()))
            await asyncio.sleep(0.05)
        history = points(await running.get("range", step="raw", start="now-1m"))
        # The next commit is a minute away: all of this is only in memory.
        assert (await running.metrics())["meterd_store_committed_samples_total"] == 0
        assert await running.stop() < GONE_WITHIN
        assert "Traceback" not in running.said
    found = stored(tmp_path / "store.db")
    assert len({time for _, _, time in said}) > 3
    assert {sample: found.get(sample) for sample in said} == said
    assert len(history) > 3 * 20
    assert {sample: found.get(sample) for sample in history} == history


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_two_signals_within_microseconds_are_one_orderly_stop(
    tmp_path: Path, meter: ModbusServer, second: signal.Signals
) -> None:
    file = configure(tmp_path, {"main": meter.url})
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        await running.ready()
        await polls(running, "main")
        said = shown((await running.latest()).values())
        running.signal(signal.SIGTERM)
        running.signal(second)
        await running.stop()
        assert "Traceback" not in running.said
    found = stored(tmp_path / "store.db")
    assert {sample: found.get(sample) for sample in said} == said


async def test_a_reload_that_cannot_listen_leaves_the_devices_alone(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = configure(tmp_path, {"main": meter.url, "second": meter.url})
    async with daemon("run", "-c", file, folder=tmp_path) as running, serve_meter(MODEL) as other:
        await running.ready()
        configure(tmp_path, {"main": meter.url})
        taken = f"127.0.0.1:{other.port}"
        file.write_text(file.read_text().replace("127.0.0.1:0", taken))
        for _ in range(2):
            running.signal(signal.SIGHUP)
        await running.says(f"not reloaded, all goes on as before:\\n.*{taken}")
        await polls(running, "second")
        assert await devices(running) == {"main": True, "second": True}
        await running.stop()


async def test_sighup_adds_a_device_and_leaves_the_others_connection_alone(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = configure(tmp_path, {"main": meter.url})
    async with daemon("run", "-c", file, folder=tmp_path) as running, serve_meter(MODEL) as other:
        await running.ready()
        connections = set(meter.lines)
        assert len(connections) == 1
        configure(tmp_path, {"main": meter.url, "second": other.url})
        running.signal(signal.SIGHUP)

        async def second_is_up() -> bool | None:
            return (await devices(running)).get("second")

        await eventually(second_is_up, "the second device")
        await polls(running, "main")
        assert await devices(running) == {"main": True, "second": True}
        assert meter.lines == connections
        assert len(other.lines) == 1

        configure(tmp_path, {"second": other.url})
        running.signal(signal.SIGHUP)

        async def left() -> bool | None:
            return not meter.lines or None

        await eventually(left, "the first device's connection is closed")
        assert await devices(running) == {"second": True}
        await running.stop()
    assert {device for device, _, _ in stored(tmp_path / "store.db")} == {"main", "second"}


async def test_sighup_with_a_bad_file_changes_nothing_and_says_the_line(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = configure(tmp_path, {"main": meter.url})
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        await running.ready()
        connections = set(meter.lines)
        configure(tmp_path, {"second": "tcp://127.0.0.1:9"}, more="apy: {}\n")
        running.signal(signal.SIGHUP)
        await running.says(rf"{re.escape(str(file))}:5:1: error\[\w+\]: .*apy")
        await polls(running, "main")
        assert await devices(running) == {"main": True}
        assert meter.lines == connections

        configure(tmp_path, {"main": meter.url, "again": meter.url})
        running.signal(signal.SIGHUP)

        async def again_is_there() -> bool | None:
            return (await devices(running)).get("again")

        await eventually(again_is_there, "a good file works after a bad one")
        await running.stop()


async def test_a_second_daemon_on_the_same_store_names_the_first(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = configure(tmp_path, {"main": meter.url})
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        await running.ready()
        connections = set(meter.lines)
        second = await meterd("run", "-c", file)
        assert second.code == RUNNING
        assert f"pid {running.process.pid}" in second.err
        assert "Traceback" not in second.err
        await polls(running, "main")
        assert meter.lines == connections
        await running.stop()
    # The lock went with its owner.
    async with daemon("run", "-c", file, folder=tmp_path) as third:
        await third.ready()
        await third.stop()


async def test_sighup_with_another_address_says_what_becomes_of_it(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = configure(tmp_path, {"main": meter.url})
    async with daemon("run", "-c", file, folder=tmp_path) as running:
        await running.ready()
        file.write_text(file.read_text().replace("127.0.0.1:0", "127.0.0.1:8421"))
        running.signal(signal.SIGHUP)
        await running.says("reloaded")
        assert "listen" in running.said
        await running.stop()


async def test_a_port_that_is_taken_is_said_and_the_store_is_left_sound(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = configure(tmp_path, {"main": meter.url})
    file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{meter.port}"))
    ended = await meterd("run", "-c", file)
    assert ended.code in (1, CONFIGURATION)
    assert f"127.0.0.1:{meter.port}" in ended.err
    assert "Traceback" not in ended.err
    stored(tmp_path / "store.db")


BAD = """\
devices:
  main: {driver: modbus, map: eastron_sdm631, link: "METER", intervall: 1s}
  ups: {driver: megatek, link: serial:///dev/ttyUSB0}
store: {url: "sqlite:///STORE", commit: 10}
api: {listen: 0.0.0.0:8420}
"""


async def test_a_bad_configuration_shows_every_mistake_and_starts_nothing(
    tmp_path: Path, meter: ModbusServer
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD.replace("METER", meter.url).replace("STORE", str(tmp_path / "store.db")))
    for command in ("run", "check"):
        ended = await meterd(command, "-c", file)
        assert ended.code == CONFIGURATION
        assert ended.out == ""
        places = re.findall(rf"^{re.escape(str(file))}:(\d+):\d+: error\[", ended.err, re.MULTILINE)
        assert places == ["2", "2", "3", "4", "5"]
        assert len(ended.err.splitlines()) == len(places)
        assert "did you mean interval" in ended.err
    assert meter.requests == 0
    assert files_in(tmp_path) == [file.name]


async def test_a_store_from_the_future_is_left_alone(tmp_path: Path, meter: ModbusServer) -> None:
    file = configure(tmp_path, {"main": meter.url})
    store = tmp_path / "store.db"
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    before = store.read_bytes()
    ended = await meterd("run", "-c", file)
    assert ended.code == CONFIGURATION
    assert "9999" in ended.err
    assert "Traceback" not in ended.err
    assert store.read_bytes() == before
    assert meter.requests == 0
