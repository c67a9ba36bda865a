"""The keys of a Modbus device: transformers, factors, offsets, shifts, circuits, power."""

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from meterd.drivers.options import ModbusOptions
from meterd.errors import ConfigError

SDM = "eastron_sdm630"
CIRCUITS = """\
source: a test of twelve circuits
maker: Acme
model: Twelve
max_power: 5000
limits: {bridge: 0, unreadable: [[6, 9]]}
instances: {count: 12, step: 20}
wake:
  - {function: 6, address: 4096, values: [1]}
  - {function: 16, address: 4100, values: [0xCAFE, 7]}
rows:
  voltage.l1:           {function: 3, address: 300, type: u16, scale: 0.1, unit: V, common: true}
  current.l1:           {function: 3, address: 0, type: u16, scale: '@10', unit: A}
  active_power:         {function: 3, address: 1, type: s32, unit: W}
  active_energy.import: {function: 3, address: 4, type: u32, unit: Wh, wrap: 1000000}
"""


@pytest.fixture
def circuits(tmp_path: Path) -> str:
    path = tmp_path / "twelve.yaml"
    path.write_text(CIRCUITS)
    return str(path)


def factors(**keys: object) -> dict[str, float]:
    calibration = ModbusOptions(map=SDM, **keys).calibration  # type: ignore[arg-type]
    names = ("voltage.l1", "current.l2", "active_power", "demand.active_power")
    more = ("active_energy.import", "reactive_energy.export", "frequency", "thd.current.l1")
    return {name: calibration.factor(name) for name in (*names, *more)}


@pytest.mark.parametrize(
    ("keys", "volts", "amperes", "watts", "hours"),
    [
        ({"ct": "200/5"}, 1, 40, 40, 40),
        ({"ct": "200:5"}, 1, 40, 40, 40),
        ({"ct": "200 A / 1 A"}, 1, 200, 200, 200),
        ({"vt": "10000/100"}, 100, 1, 100, 100),
        ({"ct": "600/5", "vt": "20000/100"}, 200, 120, 24_000, 24_000),
        ({"scale": {"current": 40, "power": 40, "energy": 40}}, 1, 40, 40, 40),
        ({"scale": {"energy": 0.5}}, 1, 1, 1, 0.5),
        ({"vt": "400/100", "scale": {"current": 2}}, 4, 2, 4, 4),
    ],
)
def test_transformers_and_factors_multiply_kinds(
    keys: dict[str, object], volts: float, amperes: float, watts: float, hours: float
) -> None:
    assert list(factors(**keys).values()) == [
        volts,
        amperes,
        watts,
        watts,
        hours,
        hours,
        1,
        1,
    ]


def test_a_quantity_goes_before_its_kind() -> None:
    found = ModbusOptions(map=SDM, ct="200/5", scale={"current.n": 1, "active_power.l1": -40})
    assert found.calibration.factor("current.n") == 1
    assert found.calibration.factor("active_power.l1") == -40
    assert found.calibration.factor("active_power.l2") == 40


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"ct": "200"}, "ratio such as 200/5"),
        ({"ct": 40}, "ratio such as 200/5"),
        ({"ct": "0/5"}, "ratio such as 200/5"),
        ({"ct": "200/5", "scale": {"power": 3}}, "ct and scale both say what power"),
        ({"vt": "200/5", "scale": {"voltage": 3}}, "vt and scale both say what voltage"),
        ({"scale": {"curent": 3}}, "curent is no quantity of the map"),
        ({"scale": {"voltage.dc": 3}}, "the map has no such row"),
        ({"scale": {"power": 0}}, "more than 0"),
        ({"scale": {"power": -1}}, "more than 0"),
        ({"scale": {"active_energy.import": -1}}, "more than 0"),
        ({"scale": {"power": "40"}}, "must be a number"),
        ({"scale": {"power": True}}, "must be a number"),
        ({"scale": {"power": math.nan}}, "must be a number"),
        ({"offset": {"power": 1}}, "power is no quantity"),
        ({"offset": {"active_energy.import": 5}}, "is a counter"),
        ({"instance": 2}, "no instances: use shift"),
        ({"shift": 65_300}, "registers further on"),
        ({"shift": -1}, "would be at register -1"),
        ({"allow_wake": "yes"}, "valid boolean"),
        ({"max_power": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_meant_is_told(keys: dict[str, object], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        ModbusOptions(map=SDM, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [{"shift": 2}, {"instance": 1}, {"allow_wake": True}])
def test_a_sunspec_device_has_its_own_registers(keys: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="belong to maps"):
        ModbusOptions(map="sunspec", **keys)  # type: ignore[arg-type]
    assert ModbusOptions(map="sunspec", ct="200/5").calibration.factor("current.l1") == 40


@pytest.mark.parametrize("instance", [1, 2, 12])
def test_a_circuit_is_the_map_so_many_registers_further_on(circuits: str, instance: int) -> None:
    found = ModbusOptions(map=circuits, instance=instance).register_map
    move = 20 * (instance - 1)
    rows = {row.quantity: (row.address, row.scale_register) for row in found.rows}
    assert rows == {
        "voltage.l1": (300, None),
        "current.l1": (move, 10 + move),
        "active_power": (1 + move, None),
        "active_energy.import": (4 + move, None),
    }
    assert (6 + move, 9 + move) in found.unreadable


def test_shift_and_instance_add_up(circuits: str) -> None:
    assert ModbusOptions(map=circuits, instance=3, shift=-40).registers == 0
    with pytest.raises(ValidationError, match="has 12 of them"):
        ModbusOptions(map=circuits, instance=13)


def test_who_says_what_can_flow(circuits: str) -> None:
    def limit(name: str, **keys: object) -> tuple[float, str] | None:
        return ModbusOptions(map=name, **keys).power_limit  # type: ignore[arg-type]

    assert limit(circuits) == (5000.0, "as rated in the map")
    assert limit(circuits, scale={"power": 3}) == (15_000.0, "as rated in the map, x 3")
    assert limit(circuits, max_power=7000) == (7000.0, "as the device says")
    watts, why = limit(circuits, ct="200/5") or (0.0, "")
    # 690 V between lines, and a fifth more than what is named.
    assert watts == pytest.approx(3 * 690 / math.sqrt(3) * 200 * 1.2)
    assert why == "from ct 200/5"
    watts, why = limit(circuits, ct="200/5", vt="10000/100") or (0.0, "")
    assert watts == pytest.approx(math.sqrt(3) * 10_000 * 200 * 1.2)
    assert limit("sunspec") is None


def test_what_is_done_is_told(circuits: str) -> None:
    found = ModbusOptions(map=circuits, ct="200/5", offset={"voltage.l1": -0.5}, instance=3)
    assert list(found.notes()) == [
        "currents, powers and energies × 40 (ct 200/5)",
        "voltage.l1 -0.5 V",
        "registers +40 (instance 3)",
        "wake: 2 writes to unlock it, not sent: allow_wake is not set",
    ]
    awake = ModbusOptions(map=circuits, allow_wake=True)
    assert list(awake.notes()) == ["wake: 2 writes to unlock it, sent"]
    assert list(ModbusOptions(map=SDM).notes()) == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("max_power: -1", "number of watts"),
        ("positive: up", "one of import, export"),
        ("instances: 12", "count: 12, step: 20"),
        ("instances: {count: 0, step: 1}", "allowed 1..1000"),
        ("wake: [5]", "list of writes"),
        ("wake: [{function: 3, address: 0, values: [1]}]", "allowed 6..16"),
        ("wake: [{function: 7, address: 0, values: [1]}]", "function 6 writes one register"),
        ("wake: [{function: 6, address: 0, values: [1, 2]}]", "function 6 writes one register"),
        ("wake: [{function: 16, address: 0, values: [65536]}]", "values are 0 to 65535"),
        ("wake: [{function: 16, address: 65535, values: [1, 2]}]", "function 6 writes one"),
    ],
)
def test_a_map_that_says_them_wrong_is_told(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        f"{line}\nrows:\n  frequency: {{function: 3, address: 0, type: u16, unit: Hz}}\n"
    )
    with pytest.raises(ConfigError, match=what):
        ModbusOptions(map=str(path))
