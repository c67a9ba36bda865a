"""Counters go on where they stood when their device comes back; another counter does not."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import BaseModel

from meterd.config.load import load
from meterd.config.settings import DeviceSettings
from meterd.daemon.counter_state import CounterState
from meterd.daemon.link_plan import devices, guards, link_plans
from meterd.drivers import registry
from meterd.drivers.modbus import ModbusOptions
from meterd.model.sample import Reading
from meterd.poll.counters import Counters
from meterd.poll.normalise import Normaliser

IMPORT = "active_energy.import"
GUARDED = f"guarded.{IMPORT}"
MAP = """\
source: a test of this
maker: Acme
model: One
rows:
  active_energy.import: {function: 3, address: 4, type: u32, unit: kWh}
"""


@dataclass
class Notes:
    """Texts that outlive the process."""

    texts: dict[str, str] = field(default_factory=dict)
    started: dict[str, str] = field(default_factory=dict)

    def remember(self, name: str, body: str) -> None:
        self.texts[name] = body

    def recall(self, name: str) -> str | None:
        return self.started.get(name)


class House:
    """One meter whose configuration changes, by reloads or restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = Notes()
        self.memory = CounterState()
        self.now = 100.0
        self.kinds: list[str] = []
        self.counters: Counters

    def start(self, keys: str = "unit: 1", rows: str = MAP, link: str = "tcp://192.0.2.1") -> None:
        (self.folder / "one.yaml").write_text(rows)
        (self.folder / "two.yaml").write_text(rows)
        path = self.folder / "meterd.yaml"
        chosen = "" if "map:" in keys else "map: ./one.yaml, "
        path.write_text(f"devices: {{m: {{driver: modbus, {chosen}link: '{link}', {keys}}}}}\n")
        names = registry.names()
        settings = load(path, driver_names=names, options_of=registry.options_of, environ={})
        (plan,) = link_plans(settings).values()
        ((name, driver, device),) = devices(plan, plan.open())
        state = self.memory.state(name, self.notes)
        self.counters = guards(name, driver, device, state, plan.key)
        self.memory.add(name, self.counters)

    def restart(self) -> None:
        self.memory.save(self.notes)
        self.notes.started, self.memory = dict(self.notes.texts), CounterState()

    def read(self, *values: float, unit: str = "kWh") -> float | None:
        """A poll each 10 s for each value; the last guarded total in Wh."""
        normaliser = Normaliser("m")
        for value in values:
            self.now += 10
            time = 1_800_000_000_000 + round(self.now * 1000)
            read = normaliser.poll([Reading(IMPORT, value, unit)], time, 0.1)
            poll, notices = self.counters.step(read, now=self.now)
            self.kinds += [str(notice.kind) for notice in notices]
        return poll.value(GUARDED)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    house.start()
    assert house.read(967, 967, 967) == 967_000
    return house


def test_a_device_that_is_removed_and_added_again_goes_on(house: House) -> None:
    house.memory.keep_only([])
    house.now += 600
    house.start()
    assert house.read(968, 968, 968) == 968_000
    house.memory.keep_only([])
    house.restart()  # It is away while meterd starts anew, too.
    house.start()
    assert house.read(968, 969, 969, 969) == 969_000
    assert set(house.kinds) <= {"guard_waits", "guard_resolved"}


@pytest.mark.parametrize("raw", [5_001_934.0, 0.967, 3.0])
def test_no_energy_from_a_counter_that_cannot_be_the_same(house: House, raw: float) -> None:
    house.memory.keep_only([])
    house.start()
    total = house.read(raw, raw, raw, raw)
    assert total is not None
    # From 3 kWh it can have come since: that is booked when it moves, and not before.
    assert total == 967_000
    assert house.kinds == ["guard_waits", "reset"]


@pytest.mark.parametrize(
    "change",
    [
        {"keys": "unit: 2"},
        {"keys": "unit: 1, map: ./two.yaml"},
        {"keys": "unit: 1, ct: 200/5"},
        {"keys": "unit: 1, scale: {energy: 1000}"},
        {"keys": "unit: 1, shift: 10"},
        {"rows": MAP.replace("kWh", "Wh")},
        {"rows": MAP.replace("address: 4", "address: 6")},
        {"rows": MAP.replace("u32", "s32")},
        {"rows": MAP.replace("unit: kWh", "unit: kWh, scale: 0.1")},
        {"link": "tcp://192.0.2.2"},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["reload", "restart", "away"])
def test_what_makes_it_another_counter_is_a_new_segment(
    house: House, change: dict[str, str], way: str
) -> None:
    if way == "restart":
        house.restart()
    elif way == "away":
        house.memory.keep_only([])
    house.start(**change)
    # So little more that no guard would doubt it.
    assert house.read(967.5, 967.5, 967.5, 967.501) == 967_001
    assert house.kinds == ["swap"]


def test_what_changes_no_counter_goes_on(house: House) -> None:
    house.restart()
    house.start("unit: 1, interval: 5s, slow: 5s, labels: {a: b}, max_power: 1000000000")
    assert house.read(967.5, 967.5, 967.5) == 967_500
    assert house.kinds == []


def test_what_another_meterd_polls_now_goes_on_where_that_leaves_it(house: House) -> None:
    house.memory.keep_only([], elsewhere=["m"])
    assert house.memory.state("m", house.notes) is None


class Choosing(BaseModel):
    channel: int = 1
    note: str = ""


def test_any_key_of_a_driver_that_is_not_ours_may_choose_another_counter() -> None:
    memory = CounterState()
    for channel, kinds in ((1, []), (1, []), (2, ["swap"])):
        device = DeviceSettings(
            driver="acme", link="tcp://192.0.2.1", options=Choosing(channel=channel)
        )
        counters = guards("m", Fake(), device, memory.state("m", Notes()), "tcp://192.0.2.1:502")
        memory.add("m", counters)
        found = []
        for _ in range(3):
            read = Normaliser("m").poll([Reading(IMPORT, 5, "kWh")], 1_800_000_000_000, 0.1)
            found += [notice.kind for notice in counters.step(read, now=1.0)[1]]
        assert found == kinds


def test_parts_of_a_sunspec_device_are_counters_of_their_own() -> None:
    def origin(**keys: object) -> dict[str, str]:
        options = ModbusOptions(map="sunspec", **keys)  # type: ignore[arg-type]
        device = DeviceSettings(driver="modbus", link="tcp://192.0.2.1", options=options)
        return dict(guards("m", Fake(), device, None).state().origin.settings)

    whole, second = origin(part="meter"), origin(part="meter", index=2)
    assert whole != second
    assert whole != origin(part="inverter")
    assert whole == origin(part="meter", slow="10s")


class Fake:
    async def read(self) -> list[Reading]:
        return []
