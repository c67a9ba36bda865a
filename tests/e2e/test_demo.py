"""`meterd demo` as a stranger sees it: page, values, history, and an outage that is alerted on."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Daemon, daemon, eventually, files_in

DEMO = ("demo", "--listen", "127.0.0.1:0")
DEVICES = {"main", "workshop", "solar", "rack-ups"}
# The mains fail 15 s after the start for 20 s; a loaded machine may be late.
OUTAGE = 90.0
GONE_WITHIN = 5.0


async def everything_is_up(demo: Daemon) -> None:
    async def look() -> bool | None:
        latest = await demo.latest()
        up = {device for device, quantity in latest if quantity == "device.up"}
        return (up == DEVICES and all(latest[one, "device.up"]["value"] == 1 for one in up)) or None

    await eventually(look, "all four devices up")
    latest = await demo.latest()
    assert 200 < latest["main", "voltage.l1"]["value"] < 260
    assert latest["rack-ups", "ups.status.ol"]["value"] in (0, 1)
    # It is late morning: the sun gives.
    assert latest["solar", "active_power"]["value"] < 0


async def pages_answer(demo: Daemon) -> None:
    for path in ("/", "/api/v1/devices", "/openapi.json", "/metrics", "/healthz"):
        status, body = await demo.text(path)
        assert status == 200, path
        assert body
    assert "<title>meterd" in (await demo.text("/"))[1]


async def history_grows(demo: Daemon) -> None:
    async def points(more_than: int) -> int:
        async def look() -> int | None:
            query = {"device": "main", "quantity": "active_power", "step": "raw"}
            (series,) = (await demo.get("range", **query))["series"]
            count = len(series["points"])
            return count if count > more_than else None

        return await eventually(look, f"more than {more_than} points")

    assert await points(await points(0)) >= 2


async def alert(demo: Daemon, state: str) -> dict[str, Any]:
    """The on-battery alert, once it is in this state."""

    async def look() -> dict[str, Any] | None:
        for one in (await demo.get("alerts"))["alerts"]:
            if one["rule"] == "on-battery" and one["state"] == state:
                return dict(one)
        return None

    return await eventually(look, f"on-battery {state}", OUTAGE)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo may leave what it leaves."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


async def test_it_shows_all_that_meterd_does_and_leaves_nothing(
    tmp_path: Path, temporary: Path
) -> None:
    async with daemon(*DEMO, folder=tmp_path, env={"TMPDIR": str(temporary)}) as demo:
        assert [name for name in files_in(temporary) if name.startswith("meterd-demo-")]
        await everything_is_up(demo)
        await pages_answer(demo)
        await history_grows(demo)
        fired = await alert(demo, "firing")
        assert (fired["device"], fired["severity"]) == ("rack-ups", "critical")
        assert (await demo.latest())["rack-ups", "ups.status.ob"]["value"] == 1
        assert (await alert(demo, "resolved"))["id"] == fired["id"]
        assert (await demo.latest())["rack-ups", "ups.status.ol"]["value"] == 1
        assert await demo.stop() < GONE_WITHIN
        assert "Traceback" not in demo.said
    assert files_in(temporary) == []


async def test_it_ends_with_its_terminal(tmp_path: Path, temporary: Path) -> None:
    async with daemon(*DEMO, folder=tmp_path, env={"TMPDIR": str(temporary)}) as demo:
        demo.signal(signal.SIGHUP)
        async with asyncio.timeout(GONE_WITHIN):
            await demo.process.wait()
    assert files_in(temporary) == []
