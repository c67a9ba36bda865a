"""Units that devices speak, and what makes the house's units of them."""

import pytest

from meterd.model.quantity import UNIT_WORDS
from meterd.model.units import base_of, conversion, factor, fitting, suggest


@pytest.mark.parametrize(
    ("unit", "base", "expected"),
    [
        ("kWh", "Wh", 1e3),
        ("MWh", "Wh", 1e6),
        ("kvarh", "varh", 1e3),
        ("mA", "A", 1e-3),
        ("mHz", "Hz", 1e-3),
        ("min", "s", 60),
        ("h", "s", 3600),
        ("V", "V", 1),
        ("1", "1", 1),
        ("", "1", 1),
        ("l/h", "l/h", 1),
        ("%", "1", 1e-2),
        ("1", "%", 1e2),
        ("‰", "%", 0.1),
        ("‰", "1", 1e-3),
    ],
)
def test_a_unit_converts_to_its_base(unit: str, base: str, expected: float) -> None:
    assert factor(unit, base) == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize(
    ("unit", "base"),
    [("kWh", "W"), ("kW", "VA"), ("%", "°"), ("kwh", "Wh"), ("m³", "Wh"), ("°F", "K")],
)
def test_what_is_not_the_same_does_not_convert(unit: str, base: str) -> None:
    assert factor(unit, base) is None


def test_every_unit_leads_to_a_base_unit() -> None:
    units = {unit for base in UNIT_WORDS for unit in fitting(base)}
    assert {"kWh", "gal", "°F", "MJ"} <= units
    assert {base_of(unit) for unit in units} <= UNIT_WORDS.keys()


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "expected"),
    [
        (212.0, "°F", "°C", 100.0),
        (-40.0, "°F", "°C", -40.0),
        (0.0, "K", "°C", -273.15),
        (1.0, "gal", "l", 3.785411784),
        (1.0, "gal", "m³", 0.003785411784),
        (3412.1416331, "BTU", "Wh", 1000.0),
        (1.0, "MMBTU", "Wh", 293071.0701722),
        (3.6, "MJ", "Wh", 1000.0),
        (2.0, "l", "m³", 0.002),
        (1.0, "hp", "W", 745.6998716),
    ],
)
def test_units_of_other_places_convert(
    value: float, unit: str, wanted: str, expected: float
) -> None:
    found = conversion(unit, wanted)
    assert found is not None
    assert value * found.factor + found.offset == pytest.approx(expected)


def test_a_difference_of_temperatures_stays_one() -> None:
    """In a unit of its own accord K becomes no °C: 5 K of flow less return are not -268 °C."""
    assert base_of("K") == "K"
    assert base_of("°F") == "°C"
    assert base_of("bar") == "bar"


@pytest.mark.parametrize(
    ("unit", "base", "meant"),
    [("kw", "W", "kW"), ("KWH", "Wh", "kWh"), ("degF", "°C", "°F"), ("C", "°C", "°C")],
)
def test_a_unit_that_is_nearly_right_is_guessed(unit: str, base: str, meant: str) -> None:
    assert suggest(unit, base) == f"did you mean {meant}?"
