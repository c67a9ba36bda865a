"""What a bus carries: by what is said, assumed or measured; the daemon tells of too much."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meterd.cli.demo import settings
from meterd.daemon.busload import BusLoad, RateSource, load_of
from meterd.daemon.counter_state import CounterState
from meterd.daemon.events import EventLog
from meterd.daemon.link_manager import LinkManager
from meterd.daemon.link_plan import Built, bare, build, link_plans
from meterd.daemon.site import Site
from meterd.drivers.modbus import ModbusMeter
from meterd.model.clock import SystemClock
from meterd.model.event import EventKind
from meterd.testing import FakeClock


def text(link: str, count: int, interval: str, more: str = "") -> str:
    return "devices:\n" + "".join(
        f"  m{unit}: {{driver: modbus, map: eastron_sdm630, link: '{link}', unit: {unit}, "
        f"interval: {interval}{more}}}\n"
        for unit in range(1, count + 1)
    )


def built(said: str) -> Built:
    (plan,) = link_plans(settings(said)).values()
    return build(plan)


def load(said: str) -> BusLoad:
    return load_of(built(said))


def measure(one: Built, exchange: float) -> None:
    """As if each device had been asked twenty times, `exchange` seconds each."""
    for _, driver, _ in one.drivers:
        meter: Any = bare(driver)
        assert isinstance(meter, ModbusMeter)
        for _ in range(20):
            meter.learner.add(80, exchange)


def test_a_rate_that_is_said_costs_the_same_behind_a_gateway_and_the_network_beside() -> None:
    serial = load(text("serial:///dev/ttyS0?baud=9600", 2, "10s"))
    gateway = load(text("tcp://192.0.2.7?framer=rtu&baud=9600", 2, "10s"))
    assert (serial.ground, gateway.ground) == (RateSource.SAID, RateSource.SAID)
    assert serial.share < gateway.share < serial.share * 1.2


def test_of_meters_that_come_with_different_rates_most_are_followed() -> None:
    said = text("tcp://192.0.2.7?framer=rtu", 3, "10s").replace(
        "map: eastron_sdm630, link: 'tcp://192.0.2.7?framer=rtu', unit: 3",
        "map: eastron_sdm120, link: 'tcp://192.0.2.7?framer=rtu', unit: 3",
    )
    assert load(said).baud == 9600


def test_a_ups_behind_a_serial_server_is_on_a_line_of_its_own_rate() -> None:
    ups = "devices:\n  ups: {driver: megatec, link: 'tcp://192.0.2.7:4001', interval: 100ms}\n"
    found = load(ups)
    assert (found.ground, found.baud, found.is_over) == (RateSource.ASSUMED, 2400, True)


def test_one_url_may_say_what_the_other_leaves_out() -> None:
    said = text("tcp://192.0.2.7?framer=rtu", 2, "10s")
    said = said.replace("framer=rtu', unit: 2", "framer=rtu&baud=19200', unit: 2")
    assert load(said).baud == 19200


def test_what_is_measured_counts_for_more_than_what_is_assumed() -> None:
    one = built(text("tcp://192.0.2.7?framer=rtu", 3, "1s"))
    assumed = load_of(one)
    assert (assumed.ground, assumed.is_over, assumed.is_certain) == (
        RateSource.ASSUMED,
        True,
        False,
    )
    # Nothing is known yet.
    assert load_of(one, measured=True) == assumed
    measure(one, 0.02)
    fast = load_of(one, measured=True)
    assert (fast.ground, fast.is_over) == (RateSource.MEASURED, False)
    slow = built(text("tcp://192.0.2.7?framer=rtu", 3, "10s"))
    measure(slow, 2.0)
    found = load_of(slow, measured=True)
    assert found.is_over
    assert found.is_certain
    assert "as measured" in found.text()


async def test_the_daemon_runs_and_tells_once_of_a_bus_that_is_too_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = "tcp://192.0.2.7?framer=rtu"
    clock = FakeClock()
    events = EventLog(clock)
    lines = LinkManager(clock, [], CounterState(), events)
    (one,) = lines.prepare(settings(text(link, 12, "1s"))).built
    lines.start(one, Memos())
    await lines.weigh()
    (event,) = events.newest()
    assert event.kind is EventKind.BUS_OVERLOADED
    assert event.data["link"] == one.plan.key
    assert isinstance(event.data["percent"], float)
    assert event.data["percent"] > 400
    assert "polls will be skipped" in caplog.text
    await lines.weigh()
    assert len(events.newest()) == 1
    # What is learned of the line says that it is faster than was assumed.
    measure(one, 0.01)
    await lines.weigh()
    await lines.weigh()
    assert [event.kind for event in events.newest()][:1] == [EventKind.BUS_RELIEVED]
    assert len(events.newest()) == 2
    await lines.stop()


class Memos:
    def remember(self, name: str, body: str) -> None: ...

    def recall(self, name: str) -> str | None:
        return None


async def test_a_site_tells_of_it_as_soon_as_it_runs(tmp_path: Path) -> None:
    site = Site(SystemClock())
    store = f"store: {{url: 'sqlite:///{tmp_path}/m.db'}}\n"
    await site.apply(settings(store + text("tcp://127.0.0.1:1?framer=rtu&baud=9600", 12, "1s")))
    async with asyncio.timeout(20):
        while not site.event_counts().get(("", "bus_overloaded")):
            await asyncio.sleep(0)
    await site.close()
