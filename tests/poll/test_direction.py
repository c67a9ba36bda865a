"""The rule for signs: by hand, over the whole catalogue, and with every shipped map on a roof."""

import pytest

from meterd.drivers.map_library import load_map, shipped
from meterd.drivers.options import ModbusOptions
from meterd.drivers.planner import plan
from meterd.model.columns import Columns
from meterd.model.quantity import CATALOGUE, Kind
from meterd.model.sample import Poll, Reading
from meterd.poll.counters import Counters
from meterd.poll.direction import mirrored, opposite
from meterd.poll.normalise import Normaliser, Terms
from meterd.sim.household import HOUR
from meterd.sim.meter import solar_meter
from meterd.sim.register_bank import MeterBank, Strictness
from meterd.testing import FakeClock

NOON = 12 * HOUR
POWERS = ("active_power", "active_power.l1", "active_power.l2", "active_power.l3")


@pytest.mark.parametrize(
    ("name", "value", "there", "seen"),
    [
        ("active_power", 500.0, "active_power", -500.0),
        ("active_power.l2", -500.0, "active_power.l2", 500.0),
        ("active_power.ch3", 7.0, "active_power.ch3", -7.0),
        ("active_power.import", 500.0, "active_power.export", 500.0),
        ("active_power.export.l1", 20.0, "active_power.import.l1", 20.0),
        ("reactive_power", 30.0, "reactive_power", -30.0),
        ("reactive_power.inductive", 30.0, "reactive_power.inductive", 30.0),
        ("reactive_power.capacitive.l1", 30.0, "reactive_power.capacitive.l1", 30.0),
        ("apparent_power", 510.0, "apparent_power", 510.0),
        ("power_factor", 0.98, "power_factor", -0.98),
        ("power_factor.displacement.l1", -0.5, "power_factor.displacement.l1", 0.5),
        ("demand.active_power", 400.0, "demand.active_power", -400.0),
        ("demand.active_power.max", 400.0, "demand.active_power.min", -400.0),
        ("demand.active_power.min", -900.0, "demand.active_power.max", 900.0),
        ("demand.active_power.import", 400.0, "demand.active_power.export", 400.0),
        ("demand.active_power.export.max", 400.0, "demand.active_power.import.max", 400.0),
        ("demand.reactive_power", 40.0, "demand.reactive_power", -40.0),
        ("demand.current.l1", 4.0, "demand.current.l1", 4.0),
        ("active_power.max", 4000.0, "active_power.min", -4000.0),
        ("active_energy.import.t2", 9.0, "active_energy.export.t2", 9.0),
        ("active_energy.net", 9.0, "active_energy.net", -9.0),
        ("apparent_energy.net", 9.0, "apparent_energy.net", -9.0),
        ("active_energy.total", 9.0, "active_energy.total", 9.0),
        ("reactive_energy.q1", 1.0, "reactive_energy.q3", 1.0),
        ("reactive_energy.q2.l1", 2.0, "reactive_energy.q4.l1", 2.0),
        ("reactive_energy.q3", 3.0, "reactive_energy.q1", 3.0),
        ("reactive_energy.q4", 4.0, "reactive_energy.q2", 4.0),
        ("reactive_energy.inductive", 4.0, "reactive_energy.inductive", 4.0),
        ("reactive_energy.capacitive.import", 4.0, "reactive_energy.capacitive.export", 4.0),
        ("phase_angle", 30.0, "phase_angle", -150.0),
        ("phase_angle.l1", -30.0, "phase_angle.l1", 150.0),
        ("phase_angle.l2", 0.0, "phase_angle.l2", 180.0),
        ("current_angle.l3", 240.0, "current_angle.l3", 60.0),
        ("voltage_angle.l2", 240.0, "voltage_angle.l2", 240.0),
        ("power_factor.angle", 20.0, "power_factor.angle", -160.0),
        ("current.l1", 4.0, "current.l1", 4.0),
        ("current.dc", 4.0, "current.dc", -4.0),
        ("voltage.l1", 230.0, "voltage.l1", 230.0),
        ("battery.current", -4.0, "battery.current", -4.0),
        ("x.pv.import", 5.0, "x.pv.import", 5.0),
    ],
)
def test_what_a_meter_shows_that_is_mounted_the_other_way_round(
    name: str, value: float, there: str, seen: float
) -> None:
    unit = CATALOGUE[name].unit if name in CATALOGUE else "W"
    poll = Normaliser("m", swapped=True).poll([Reading(name, value, unit)], 1, 0.1)
    assert list(poll.layout.quantities) == [there, "device.up"]
    assert poll.value(there) == seen
    assert poll.doubts == {}


def test_what_comes_by_the_slow_way_is_the_same() -> None:
    readings = [Reading("phase_angle", 30.0, "°"), Reading("voltage.l1", None, "V")]
    poll = Normaliser("m", swapped=True).poll(readings, 1, 0.1)
    assert poll.value("phase_angle") == -150.0


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_quantity_has_another_side_and_comes_back(name: str) -> None:
    there = mirrored(name)
    assert there.name in CATALOGUE
    back = mirrored(there.name)
    assert (back.name, back.sign, back.turned) == (name, there.sign, there.turned)
    assert (CATALOGUE[name].kind, CATALOGUE[name].unit) == (
        CATALOGUE[there.name].kind,
        CATALOGUE[there.name].unit,
    )
    if CATALOGUE[name].kind is Kind.COUNTER:
        assert there.sign == 1


@pytest.mark.parametrize("angle", [-179.0, -90.0, 0.0, 1.0, 90.0, 180.0])
def test_an_angle_turned_twice_is_the_same(angle: float) -> None:
    assert opposite(opposite(angle)) % 360 == angle % 360
    assert -180 <= opposite(angle) <= 180


class Roof:
    """A meter of one model behind solar cells at noon, read through its registers."""

    def __init__(self, name: str, *, swapped: bool) -> None:
        self.map = load_map(name)
        self.clock = FakeClock()
        meter = solar_meter(self.map, NOON)
        self.bank = MeterBank(
            self.map, meter.values, clock=self.clock, strictness=Strictness.ANY, refresh=0
        )
        sizes = ModbusOptions(map=name).sizes
        self.normaliser = Normaliser(name, terms=Terms(swapped=swapped, sizes=sizes))
        self.counters = Counters(name)

    def _data(self, function: int, address: int, words: int) -> bytes:
        bank = self.bank.image().words.get(function, {})
        return b"".join(bank.get(a, 0).to_bytes(2, "big") for a in range(address, address + words))

    def poll(self) -> Poll:
        far = {}
        for function, register in {place for row in self.map.rows for place in row.remote_places()}:
            far[function, register] = int.from_bytes(self._data(function, register, 1), "big")
        rows = [row for row in self.map.rows if row.function in (3, 4)]
        said = [
            block.columns(self._data(block.function, block.address, block.words), far)
            for block in plan(self.map, rows)
        ]
        now = self.clock.monotonic()
        poll = self.normaliser.poll(Columns.joined(said), round(now * 1000), 0.1)
        return self.counters.step(poll, now=now)[0]


def rises(before: Poll, after: Poll, quantity: str) -> float | None:
    first, last = before.value(quantity), after.value(quantity)
    return None if first is None or last is None else last - first


@pytest.mark.parametrize("reversed_", [False, True])
@pytest.mark.parametrize("name", shipped())
def test_power_and_energy_of_every_map_agree_while_the_house_feeds_in(
    name: str, reversed_: bool
) -> None:
    """In the direction that its remark asks for; in the other one, it seems to take as much."""
    register_map = load_map(name)
    assert register_map.turned is ("give the device the reversed direction" in register_map.remark)
    roof = Roof(name, swapped=reversed_)
    polls = []
    for _ in range(5):
        polls.append(roof.poll())
        roof.clock.pass_by(1800)
    gives = reversed_ is register_map.turned
    given, taken = ("export", "import") if gives else ("import", "export")
    last = polls[-1]
    types = {mirrored(row.quantity).name: row.type for row in register_map.rows}
    for quantity in POWERS:
        value = last.value(quantity)
        if value is not None and types[quantity][0] not in "ub":
            assert (value < -10) if gives else (value > 10), (quantity, value)
        for way, lowest in ((given, 10), (taken, 0)):
            one_way = quantity.replace("active_power", f"active_power.{way}")
            if (seen := last.value(one_way)) is not None:
                assert seen >= lowest
                assert way == given or seen == 0
    for prefix in ("", "guarded."):
        rise = rises(polls[2], last, f"{prefix}active_energy.{given}")
        assert rise is None or rise > 500
        rise = rises(polls[2], last, f"{prefix}active_energy.{taken}")
        assert rise is None or rise < 5
