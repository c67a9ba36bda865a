"""Context managers that serve a simulated meter of any register map, or a UPS."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from meterd.drivers.map_library import load_map
from meterd.model.clock import Clock
from meterd.sim.faults import SimulatedFault
from meterd.sim.megatec import UpsServer
from meterd.sim.meter import house_meter, solar_meter
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import REFRESH_S, MeterBank, Strictness
from meterd.sim.transports import Framer
from meterd.sim.ups import Script, Ups

PROFILES = {"house": house_meter, "solar": solar_meter}


def meter_bank(
    map_name: str,
    *,
    profile: Literal["house", "solar"] = "house",
    offset: float = 0.0,
    strictness: Strictness = Strictness.SPANS,
    refresh: float = REFRESH_S,
    clock: Clock | None = None,
) -> MeterBank:
    """The register bank of a meter: a shipped map's name or a path to one, and its power source.

    `offset`: the time of day at which the simulation begins, in seconds.
    """
    register_map = load_map(map_name)
    meter = PROFILES[profile](register_map, offset)
    return MeterBank(
        register_map, meter.values, clock=clock, strictness=strictness, refresh=refresh
    )


@asynccontextmanager
async def serve_meter(
    map_name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    unit: int = 1,
    framer: Framer = "socket",
    faults: Iterable[SimulatedFault] = (),
    seed: int = 0,
    profile: Literal["house", "solar"] = "house",
    offset: float = 0.0,
    strictness: Strictness = Strictness.SPANS,
    refresh: float = REFRESH_S,
    clock: Clock | None = None,
) -> AsyncIterator[ModbusServer]:
    """Serve one meter on TCP; see `server.url`, `server.port` and `server.banks[unit]`.

    Raises ConfigError for an invalid map, fault or address.
    """
    bank = meter_bank(
        map_name,
        profile=profile,
        offset=offset,
        strictness=strictness,
        refresh=refresh,
        clock=clock,
    )
    server = ModbusServer({unit: bank}, framer=framer, faults=faults, seed=seed)
    await server.start_tcp(host, port)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def serve_ups(
    *,
    link_path: Path | None = None,
    faults: Iterable[SimulatedFault] = (),
    script: Script | None = None,
    seed: int = 0,
    baud: int | None = None,
    load: float = 28.0,
    drain: float = 1.0,
    clock: Clock | None = None,
) -> AsyncIterator[UpsServer]:
    """Serve a UPS on a pty; `server.url` is its link, `server.ups` the model, for outages."""
    ups = Ups(clock=clock, script=script, load=load, drain=drain)
    server = UpsServer(ups, link_path=link_path, faults=faults, seed=seed, baud=baud)
    server.start()
    try:
        yield server
    finally:
        server.stop()
