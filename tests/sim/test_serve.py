import asyncio
from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map
from meterd.errors import ConfigError
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import MeterBank, SimulatedRefusal
from meterd.sim.serve import meter_bank, serve_meter
from meterd.sim.site import DemoSite
from meterd.sim.ups import UpsState
from tests.sim.clock import StoppedClock
from tests.sim.raw import RawClient

READ_ONE = bytes.fromhex("0001 0000 0006 01 04 0000 0002")


async def test_a_meter_tells_its_url_and_leaves_when_the_block_ends() -> None:
    async with serve_meter("eastron_sdm630", framer="rtu", port=0) as server:
        assert server.url == f"tcp://127.0.0.1:{server.port}?framer=rtu"
        client = RawClient(server)
        await client.open()
        await client.close()
    with pytest.raises(ConnectionRefusedError):
        await client.open()


async def test_what_cannot_be_served_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="no register map"):
        async with serve_meter("eastron_sdm631x"):
            pass
    with pytest.raises(ConfigError, match="framer 'ascii'"):
        async with serve_meter("eastron_sdm630", framer="ascii"):  # type: ignore[arg-type]
            pass


async def test_a_map_of_ones_own_is_served(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "source: myself\nconfidence: low\nmaker: Me\nmodel: Mine\n"
        "rows:\n  voltage.l1: {function: 4, address: 0, type: u32, unit: V, scale: 0.1}\n"
    )
    async with serve_meter(str(own)) as server:
        client = RawClient(server)
        await client.open()
        heard = await client.ask(READ_ONE)
        await client.close()
    assert 2200 < int.from_bytes(heard.data[-4:], "big") < 2600


def test_two_meters_of_the_same_second_hold_the_same() -> None:
    one, other = (meter_bank("schneider_iem3155", clock=StoppedClock()) for _ in range(2))
    assert one.image() == other.image()


async def test_the_demo_site_has_three_meters_and_a_ups() -> None:
    clock = StoppedClock()
    site = DemoSite(clock=clock)
    addresses = await site.start()
    try:
        assert {meter.map for meter in addresses.meters} == {
            "eastron_sdm630",
            "schneider_iem3155",
            "eastron_sdm120",
        }
        assert sum("framer=rtu" in meter.url for meter in addresses.meters) == 1
        assert addresses.ups.startswith("serial:///dev/pts/")
        await _connects(site.tcp)
        await _connects(site.rtu)
        _follows_its_script(clock, site)
    finally:
        await site.stop()


async def _connects(server: ModbusServer) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.close()
    await writer.wait_closed()


def _follows_its_script(clock: StoppedClock, site: DemoSite) -> None:
    start, states = clock.now, {}
    for at in (5, 20, 40, 200, 240):
        clock.now = start + at
        states[at] = site.ups.ups.state()
    on, off = UpsState.ONLINE, UpsState.ON_BATTERY
    assert states == {5: on, 20: off, 40: on, 200: off, 240: on}


def test_the_demo_begins_in_sunshine() -> None:
    site = DemoSite(clock=StoppedClock())
    solar = site.rtu.banks[1]
    assert isinstance(solar, MeterBank)
    (row,) = (r for r in load_map("eastron_sdm120").rows if r.quantity == "active_power")
    # The sign bit of the float.
    assert solar.read(row.function, row.address, 2)[0] & 0x8000
    with pytest.raises(SimulatedRefusal):
        solar.read(row.function, 60_000, 2)
