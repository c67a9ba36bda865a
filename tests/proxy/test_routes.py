"""The way to a device is looked up in the running site, so a reload needs no word."""

import asyncio
from collections import Counter
from typing import cast

import pytest

from meterd.daemon.site import Site
from meterd.drivers.map_library import load_map
from meterd.drivers.registers import RegisterMap
from meterd.model.clock import Clock
from meterd.model.sample import Fault, failed
from meterd.poll.latest import Latest
from meterd.proxy.frames import RegisterSpan
from meterd.proxy.proxied_meter import Lane, ProxiedMeter
from meterd.proxy.routes import route_finder
from meterd.proxy.server import Proxy
from meterd.testing import FakeClock
from meterd.wire.modbus import ModbusClient
from tests.proxy.test_proxied_meter import FakeClient


class FakeLink:
    def __init__(self, framer: str) -> None:
        self.url = "tcp://h:502"
        self.options = {"framer": framer}


class FakeMeter:
    def __init__(self, clock: FakeClock) -> None:
        self.map: RegisterMap = load_map("carlo-gavazzi_em340")
        self.client = FakeClient(clock)


class FakeSite:
    def __init__(self) -> None:
        self.latest = Latest(["main"])
        self.meters: dict[str, tuple[FakeMeter, FakeLink, asyncio.Lock]] = {}

    def modbus(self, device: str) -> tuple[FakeMeter, FakeLink, asyncio.Lock] | None:
        return self.meters.get(device)


def fake(framer: str = "socket") -> tuple[FakeSite, FakeMeter, Clock]:
    clock = FakeClock()
    site, meter = FakeSite(), FakeMeter(clock)
    site.meters["main"] = (meter, FakeLink(framer), asyncio.Lock())
    return site, meter, clock


@pytest.mark.parametrize(("framer", "told_apart"), [("socket", 1), ("rtu", 0), ("ascii", 0)])
def test_a_way_carries_the_maps_limits_and_the_links_kind(framer: str, told_apart: int) -> None:
    site, meter, _ = fake(framer)
    way = route_finder(cast("Site", site))("main")
    assert way is not None
    assert way.client is cast("ModbusClient", meter.client)
    assert (way.link, way.most, way.unreadable) == ("tcp://h:502", 50, meter.map.unreadable)
    assert way.told_apart == bool(told_apart)
    assert route_finder(cast("Site", site))("other") is None


def test_up_follows_the_polls() -> None:
    site, _, _ = fake()
    way = route_finder(cast("Site", site))("main")
    assert way is not None
    assert way.up()
    site.latest.take(failed("main", 0, Fault("timeout", "no answer")))
    assert not way.up()
    site.latest.keep_only([])
    assert way.up()


async def test_after_a_reload_the_new_client_is_watched_and_asked() -> None:
    site, old, clock = fake()
    proxy = Proxy({1: "main"}, route_finder(cast("Site", site)), clock=clock, max_age=2)
    await proxy.start("127.0.0.1", 0)
    await old.client.read(4, 0, 4)
    new, _, _ = fake()
    site.meters = new.meters
    fresh = new.meters["main"][0].client
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(bytes.fromhex("0001 0000 0006 01 04 0001 0001"))
    assert await reader.readexactly(11) == bytes.fromhex("0001 0000 0005 01 04 02 0001")
    assert isinstance(fresh, FakeClient)
    assert fresh.asked == [RegisterSpan(4, 1, 1)]
    site.meters = {}
    writer.write(bytes.fromhex("0002 0000 0006 01 04 0001 0001"))
    assert await reader.readexactly(9) == bytes.fromhex("0002 0000 0003 01 84 0A")
    writer.close()
    await writer.wait_closed()
    await proxy.close()


async def test_a_guest_of_a_map_with_limits_is_held_to_them() -> None:
    site, meter, clock = fake()
    way = route_finder(cast("Site", site))("main")
    assert way is not None
    guest = ProxiedMeter(way, Lane(), clock, 2, Counter())
    assert len(await guest.read(RegisterSpan(4, 0, 50))) == 100
    with pytest.raises(Exception, match="exception 3"):
        await guest.read(RegisterSpan(4, 0, 51))
    assert meter.client.asked == [RegisterSpan(4, 0, 50)]
