"""Units that devices speak, and what makes the house's units of them."""

import pytest

from meterd.model.units import BASE_UNITS, TO_BASE, factor


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
    ],
)
def test_a_unit_converts_to_its_base(unit: str, base: str, expected: float) -> None:
    assert factor(unit, base) == expected


@pytest.mark.parametrize(
    ("unit", "base"), [("kWh", "W"), ("kW", "VA"), ("%", "1"), ("kwh", "Wh"), ("K", "°C")]
)
def test_what_is_not_the_same_does_not_convert(unit: str, base: str) -> None:
    assert factor(unit, base) is None


def test_every_unit_leads_to_a_base_unit() -> None:
    assert {base for base, _ in TO_BASE.values()} <= set(BASE_UNITS)
