"""NUT's own driver sends the same bytes for the same commands, and the UPS obeys it, too."""

import asyncio
from pathlib import Path

import pytest

from meterd.drivers.megatec.commands import instant_commands
from meterd.sim.megatec import UpsServer
from meterd.sim.ups import Ups
from tests.drivers.megatec.units import options
from tests.sim.clock import StoppedClock
from tests.sim.nut import NAME, nut

pytestmark = pytest.mark.needs("nutdrv_qx", "upsd", "upsc")

QUERIES = ("Q1", "F", "I")


class Listener(UpsServer):
    """Remembers what it was sent."""

    def __init__(self, ups: Ups) -> None:
        super().__init__(ups)
        self.heard: list[str] = []

    def _command(self, command: str) -> None:
        self.heard.append(command)
        super()._command(command)

    async def heard_order(self) -> str:
        """The next one that is no query."""
        async with asyncio.timeout(60):
            while not (found := [text for text in self.heard if text not in QUERIES]):
                await asyncio.sleep(0.02)
        self.heard.clear()
        return found[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "keys"),
    [("", {}), ("offdelay = 120\nondelay = 3600", {"offdelay": "2m", "ondelay": "1h"})],
)
async def test_nut_sends_the_same_bytes(
    settings: str, keys: dict[str, str], tmp_path: Path
) -> None:
    server = Listener(Ups(clock=StoppedClock()))
    server.start()
    try:
        async with nut(server.path, tmp_path / "nut", settings) as running:
            await running.wait_for("ups.status", "OL")
            _, driver = await asyncio.open_unix_connection(tmp_path / "nut" / f"nutdrv_qx-{NAME}")
            server.heard.clear()
            heard = {}
            for name in instant_commands(options()):
                driver.write(f"INSTCMD {name}\n".encode())
                heard[name] = await server.heard_order()
            driver.close()
    finally:
        server.stop()
    assert heard == {
        name: order.command for name, order in instant_commands(options(**keys)).items()
    }
