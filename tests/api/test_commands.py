"""Commands to a UPS end to end: a daemon of its own, its API, and a UPS on a pty that obeys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from meterd.sim.megatec import UpsServer
from meterd.sim.serve import serve_ups
from meterd.sim.ups import UpsState
from tests.api.locked import token
from tests.e2e.running import Daemon, daemon, eventually
from tests.sim.clock import StoppedClock

QUICK = "test.battery.start.quick"


@dataclass(frozen=True, slots=True)
class Rack:
    """A daemon, its UPS, the clock that the UPS lives by, and two tokens."""

    daemon: Daemon
    server: UpsServer
    clock: StoppedClock
    operator: str
    reader: str

    async def send(self, command: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to the operator, or to whoever has `key`."""
        headers = {"Authorization": self.operator if key is None else key}
        url = f"{self.daemon.url}/api/v1/devices/rack-ups/commands"
        async with (
            aiohttp.ClientSession(headers=headers if key != "" else {}) as session,
            session.post(url, json={"command": command}) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def shows(self, quantity: str, value: float) -> None:
        """Until a poll has said so."""

        async def look() -> bool | None:
            found = (await self.daemon.latest()).get(("rack-ups", quantity))
            return (found is not None and found["value"] == value) or None

        await eventually(look, f"{quantity} {value:g}")


@asynccontextmanager
async def rack(folder: Path, commands: str) -> AsyncIterator[Rack]:
    clock = StoppedClock()
    async with serve_ups(clock=clock) as server:
        file = folder / "meterd.yaml"
        file.write_text(
            "devices:\n  rack-ups:\n    driver: megatec\n    interval: 200ms\n"
            f"    link: {server.url}&timeout=300ms\n    commands: [{commands}]\n"
            "    offdelay: 12s\n    ondelay: 1m\n"
            f'store: {{url: "sqlite:///{folder / "meterd.db"}"}}\napi: {{listen: "127.0.0.1:0"}}\n'
        )
        keys = token(folder, "operator", "read", "command"), token(folder, "reader", "read")
        async with daemon("run", "-c", file, folder=folder) as running:
            await running.ready()
            yield Rack(running, server, clock, *keys)
            await running.stop()


async def test_an_allowed_command_is_done_and_seen_in_the_polls(tmp_path: Path) -> None:
    async with rack(tmp_path, QUICK) as found:
        await found.shows("ups.status.test", 0)
        status, done = await found.send(QUICK)
        assert (status, done["device"], done["command"]) == (200, "rack-ups", QUICK)
        await found.shows("ups.status.test", 1)
        found.clock.now += 11
        await found.shows("ups.status.test", 0)
        assert f"rack-ups is sent the command {QUICK}" in found.daemon.said
        assert "is down" not in found.daemon.said


async def test_who_may_not_and_what_may_not_changes_nothing(tmp_path: Path) -> None:
    async with rack(tmp_path, f"{QUICK}, load.cycle") as found:
        status, refused = await found.send(QUICK, key=found.reader)
        assert status == 403, refused
        assert (await found.send(QUICK, key=""))[0] == 401
        status, refused = await found.send("load.off")
        assert (status, refused["code"]) == (409, "command_not_allowed")
        assert refused["allowed"] == [QUICK, "load.cycle"]
        status, refused = await found.send("load.cycle")
        assert (status, refused["code"]) == (409, "no_such_command")
        view = found.server.ups.view()
        assert (view.testing, view.shutting_down) == (False, False)
        assert "is sent the command" not in found.daemon.said


async def test_a_shutdown_cuts_and_returns_and_can_be_stopped(tmp_path: Path) -> None:
    names = "shutdown.return, shutdown.stop"
    async with rack(tmp_path, names) as found:
        assert (await found.send("shutdown.return"))[0] == 200
        await found.shows("ups.status.fsd", 1)
        assert (await found.send("shutdown.stop"))[0] == 200
        await found.shows("ups.status.fsd", 0)
        found.clock.now += 60
        assert found.server.ups.state() is UpsState.ONLINE
        assert (await found.send("shutdown.return"))[0] == 200
        found.clock.now += 13
        await found.shows("ups.status.off", 1)
        found.clock.now += 61
        await found.shows("ups.status.off", 0)


async def test_what_the_ups_cannot_do_now_is_said_and_not_done(tmp_path: Path) -> None:
    async with rack(tmp_path, QUICK) as found:
        found.server.ups.outage(60)
        found.clock.now += 1
        status, refused = await found.send(QUICK)
        assert (status, refused["code"]) == (503, "command_failed")
        assert "wait for the mains" in refused["detail"]
        assert not found.server.ups.view().testing
