"""Every example is a configuration, with the real drivers and their register maps."""

from pathlib import Path

import pytest

from meterd.config.load import load
from meterd.config.settings import SECTIONS, Settings, keys_at
from meterd.drivers import registry

TOP = Path(__file__).parents[2]
EXAMPLES = [*sorted((TOP / "config").glob("*.yaml")), TOP / "docker" / "meterd.yaml"]


def settings(path: Path) -> Settings:
    return load(path, options_of=registry.options_of, driver_names=registry.names(), environ={})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_and_its_maps_are_shipped(path: Path) -> None:
    made = settings(path)
    assert made.devices
    for device in made.devices.values():
        if device.driver == "modbus":
            assert (TOP / "meterd" / "drivers" / "maps" / f"{device.options.map}.yaml").is_file()


def test_the_commented_example_shows_every_key() -> None:
    text = (TOP / "config" / "meterd.yaml").read_text()
    missing = [key for path in SECTIONS for key in keys_at(path) if f"{key}:" not in text]
    assert missing == []


def test_the_commented_example_has_a_bus_a_serial_ups_and_alerts() -> None:
    made = settings(TOP / "config" / "meterd.yaml")
    assert [d.link for d in made.devices.values()].count("basement") == 2
    assert made.devices["rack-ups"].link.startswith("serial://")
    assert made.devices["solar"].direction == "reversed"
    assert set(made.alerts.rules) >= {"on-battery", "overvoltage", "gone"}


def test_the_example_of_the_contract_loads(tmp_path: Path) -> None:
    path = tmp_path / "meterd.yaml"
    path.write_text(CONTRACT)
    made = settings(path)
    assert made.links["basement"].gap == 0.05
    assert made.store.keep.raw == 400 * 86400
    assert made.alerts.rules["overvoltage"].clear_below == 250
    assert made.alerts.rules["on-battery"].for_ == 5.0


CONTRACT = """\
site: {name: Home, timezone: Australia/Brisbane}
links:
  basement: {url: "tcp://192.0.2.7:4196?framer=rtu", gap: 50ms, timeout: 1s}
devices:
  main:
    driver: modbus
    map: eastron_sdm630
    link: basement
    unit: 1
    interval: 5s
    labels: {building: A}
  rack-ups:
    driver: megatec
    link: serial:///dev/ttyUSB0?baud=2400
    interval: 2s
    battery: {nominal: 12V, packs: 1}
store: {url: "sqlite:///var/lib/meterd/meterd.db", commit: 10s, keep: {raw: 400d}}
api: {listen: 127.0.0.1:8420}
alerts:
  rules:
    on-battery:
      {device: rack-ups, quantity: ups.status.ob, equals: 1,
       for: 5s, severity: critical, notify: [ops]}
    overvoltage:
      {quantity: voltage.l1, above: 253, clear_below: 250,
       for: 1m, severity: warning, notify: [ops]}
    gone: {quantity: device.up, equals: 0, for: 2m, notify: [ops]}
  hooks:
    ops: {type: webhook, url: "http://127.0.0.1:9000/alert"}
"""
