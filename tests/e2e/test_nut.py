"""NUT's own driver and `meterd poll` say the same of one simulated UPS, under the same names."""

from pathlib import Path

import pytest

from meterd.sim.megatec import UpsServer
from meterd.sim.ups import Ups
from tests.cli.command import meterd, samples
from tests.sim.clock import StoppedClock
from tests.sim.nut import nut

pytestmark = pytest.mark.needs("nutdrv_qx", "upsd", "upsc")

MEASURED = (
    "input.voltage",
    "input.voltage.fault",
    "output.voltage",
    "ups.load",
    "battery.voltage",
    "ups.temperature",
)
RATED = (
    "input.voltage.nominal",
    "input.current.nominal",
    "battery.voltage.nominal",
    "input.frequency.nominal",
)
# How NUT writes what is 1 in meterd, for the letters that a Megatec UPS tells.
LETTERS = ("ol", "ob", "lb", "cal", "bypass", "trim", "boost", "off", "alarm", "over", "fsd")


@pytest.fixture
def clock() -> StoppedClock:
    """Time stands still, so that nobody reads the UPS earlier than another."""
    return StoppedClock()


@pytest.fixture
def ups(clock: StoppedClock) -> Ups:
    return Ups(clock=clock, load=41.0)


async def compare(ups: Ups, folder: Path, state: str) -> dict[str, str]:
    """Both read the same model, each on a port of its own. Returns what NUT says."""
    ups.view()  # The fault voltage is the outage's for one look only.
    ports = [UpsServer(ups, link_path=folder / f"{state}-{n}") for n in (1, 2)]
    for port in ports:
        port.start()
    try:
        async with nut(ports[0].path, folder / state) as running:
            nuts = await running.wait_for("ups.status", state)
        polled = await meterd("poll", f"megatec@serial://{ports[1].path}", "--format", "json")
    finally:
        for port in ports:
            port.stop()
    ours = samples(polled)
    # On battery this UPS shows what it makes itself there, so meterd does not call it the input's.
    names = (*MEASURED, *RATED, *(("input.frequency",) if state == "OL" else ()))
    for name in names:
        assert float(nuts[name]) == ours[name], name
    said = {letter for letter in LETTERS if ours.get(f"ups.status.{letter}") == 1}
    assert {word.lower() for word in nuts["ups.status"].split()} == said
    (device,) = polled.document["devices"]
    assert device["info"]["info.manufacturer"] == nuts["device.mfr"]
    assert device["info"]["info.model"] == nuts["device.model"]
    assert device["info"]["info.firmware"] == nuts["ups.firmware"]
    return nuts


async def test_on_mains(ups: Ups, tmp_path: Path) -> None:
    found = await compare(ups, tmp_path, "OL")
    assert float(found["input.voltage"]) > 200


async def test_on_battery_and_on_low_battery(ups: Ups, clock: StoppedClock, tmp_path: Path) -> None:
    ups.outage(3600)
    clock.now += 30
    full = await compare(ups, tmp_path, "OB")
    assert "LB" not in full["ups.status"].split()
    while not ups.view().battery_low:
        clock.now += 5
    low = await compare(ups, tmp_path, "LB")
    assert float(low["battery.voltage"]) < float(full["battery.voltage"])
