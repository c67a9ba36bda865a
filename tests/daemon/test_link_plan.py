"""What the settings of a device make of its values, from registers to guarded totals."""

from pathlib import Path

import pytest

from meterd.config.load import load
from meterd.config.settings import DeviceSettings, Settings
from meterd.daemon.link_plan import Letting, bare, devices, guards, link_plans, max_power, polled
from meterd.drivers import registry
from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.driver import CounterRegisters
from meterd.model.sample import Poll, Quality, Reading

MAP = """\
source: a test of this
maker: Acme
model: Old
rows:
  current.l1:           {function: 3, address: 0, type: u16, scale: 0.01, unit: A}
  active_power:         {function: 3, address: 1, type: s32, unit: W}
  active_energy.import: {function: 3, address: 4, type: u32, unit: Wh, wrap: 1000000}
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.yaml"
    path.write_text(MAP)
    return path


def settled(old: Path, keys: str, *, own: str = "") -> Settings:
    path = old.with_name("meterd.yaml")
    text = f"{{driver: modbus, map: ./old.yaml, link: {own or 'tcp://192.0.2.1:502'}, {keys}}}"
    links = "links: {bus: {url: tcp://192.0.2.1, keep_open: false}}\n"
    path.write_text(f"{links}devices: {{m: {text}}}\n")
    names = registry.names()
    return load(path, driver_names=names, options_of=registry.options_of, environ={})


def of(old: Path, keys: str) -> DeviceSettings:
    return settled(old, keys).devices["m"]


def read(device: DeviceSettings, amperes: float, watts: float, wh: float) -> Poll:
    readings = [
        Reading("current.l1", amperes, "A"),
        Reading("active_power", watts, "W"),
        Reading("active_energy.import", wh, "Wh"),
    ]
    return polled("m", Fake(), device).normaliser.poll(readings, 1, 0.1)


class Fake:
    async def read(self) -> list[Reading]:
        return []


def test_a_transformer_multiplies_values_and_how_counters_count(old: Path) -> None:
    device = of(old, "ct: 200/5")
    poll = read(device, 2.5, -4000.0, 999_990.0)
    assert list(poll.values) == [100.0, -160_000.0, 39_999_600.0, 1.0]
    meter = ModbusMeter.__new__(ModbusMeter)
    meter.map, meter._unit = device.options.register_map, 1
    counters = guards("m", meter, device, None)
    for n, wh in enumerate((999_990, 999_990, 999_990, 4, 5, 6), 1):
        poll, notices = counters.step(read(device, 1.0, 1.0, wh), now=10.0 * n)
    assert [notice.kind for notice in notices] == ["rollover"]
    # 10 Wh to the end and 6 behind it, forty times.
    assert poll.value("guarded.active_energy.import") == (1_000_000 + 6) * 40


def test_a_meter_that_lets_go_of_its_link_counts_the_same(old: Path) -> None:
    (plan,) = link_plans(settled(old, "unit: 1", own="bus")).values()
    ((_, driver, _),) = devices(plan, plan.open())
    assert isinstance(driver, Letting)
    meter = bare(driver)
    assert isinstance(meter, CounterRegisters)
    assert [register.wrap for register in meter.counters()] == [1_000_000]


@pytest.mark.parametrize(
    ("keys", "watts"),
    [
        ("unit: 1", 10e6),
        ("max_power: 5000", 5000.0),
        ("max_power: 5000, ct: 200/5", 5000.0),
        ("ct: 200/5", 286_827.9),
        ("ct: 200/5, vt: 400/100", 166_276.9),
        ("vt: 400/100", 10e6),
    ],
)
def test_what_can_flow(old: Path, keys: str, watts: float) -> None:
    device = of(old, keys)
    assert max_power(device) == pytest.approx(watts)
    poll = read(device, 1.0, watts * 2, 1.0)
    assumed = keys in ("unit: 1", "vt: 400/100")
    assert poll.doubts[1].quality is (Quality.SUSPECT if assumed else Quality.INVALID)
    assert (poll.value("active_power") is None) is not assumed


def test_the_map_says_it_where_the_device_does_not() -> None:
    options = ModbusOptions(map="eastron_sdm630")
    device = DeviceSettings(driver="modbus", link="tcp://192.0.2.1", options=options)
    assert max_power(device) == 82_800.0
    assert read(device, 1.0, 90_000.0, 1.0).doubts


def test_a_reversed_meter_behind_a_transformer(old: Path) -> None:
    device = of(old, "ct: 200/5, direction: reversed, offset: {active_power: -10}")
    poll = read(device, 1.0, 500.0, 7.0)
    assert poll.value("active_power") == -(500.0 * 40 - 10)
    assert poll.value("active_energy.export") == 280.0


def test_equal_settings_are_equal_plans_after_they_were_used(old: Path) -> None:
    one, other = settled(old, "ct: 200/5"), settled(old, "ct: 200/5")
    read(one.devices["m"], 1.0, 1.0, 1.0)
    assert link_plans(one) == link_plans(other)
    assert link_plans(one) != link_plans(settled(old, "ct: 100/5"))
