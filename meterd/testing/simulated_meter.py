"""A Modbus meter on loopback that has the registers of a map: for the tests of maps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def simulated_meter(register_map: str, *, unit: int = 1) -> AsyncIterator[str]:
    """Serves a map, by its name or path, as a house's meter; gives the link's URL.

    Its registers hold what the map says that they mean, so a map that reads back right may still
    differ from the device: compare it with the device's display. Raises ConfigError with every
    mistake of the map.
    """
    from meterd.sim.serve import serve_meter

    async with serve_meter(register_map, unit=unit) as server:
        yield server.url
