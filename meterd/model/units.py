"""Units of devices, and their conversion to the canonical units of the store and API."""

import difflib
from typing import NamedTuple


class Conversion(NamedTuple):
    """value in the other unit = value * factor + offset."""

    factor: float
    offset: float = 0.0


class _Unit(NamedTuple):
    """A unit in terms of its base unit: base = value * factor + offset."""

    base: str
    factor: float
    offset: float = 0.0


_PREFIXES = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_PREFIXED = ("V", "A", "W", "var", "VA", "Hz", "Wh", "varh", "VAh", "s", "J")

# 1 BTU (International Table) is 1055.05585262 J (ISO 31-4), a therm 100,000 of them.
_BTU_WH = 1055.05585262 / 3600
# A US liquid gallon is 231 cubic inches, an imperial one 4.54609 l by law; a foot is 0.3048 m.
_GALLON_L = 3.785411784
_CUBIC_FOOT_M3 = 0.3048**3

# Prefixed units first; other units by their factor to the base unit.
_UNITS: dict[str, _Unit] = {
    prefix + unit: _Unit(unit, factor) for unit in _PREFIXED for prefix, factor in _PREFIXES.items()
} | {
    "%": _Unit("%", 1.0),
    "‰": _Unit("%", 0.1),
    "°C": _Unit("°C", 1.0),
    "°F": _Unit("°C", 5 / 9, -160 / 9),
    # A base unit of its own, as temperature differences are in K, too.
    "K": _Unit("K", 1.0),
    "°": _Unit("°", 1.0),
    "1": _Unit("1", 1.0),
    "": _Unit("1", 1.0),
    "min": _Unit("s", 60.0),
    "h": _Unit("s", 3600.0),
    "d": _Unit("s", 86400.0),
    "l": _Unit("l", 1.0),
    "gal": _Unit("l", _GALLON_L),
    "gal_uk": _Unit("l", 4.54609),
    "m³": _Unit("m³", 1.0),
    "m3": _Unit("m³", 1.0),
    "ft³": _Unit("m³", _CUBIC_FOOT_M3),
    "ft3": _Unit("m³", _CUBIC_FOOT_M3),
    "BTU": _Unit("Wh", _BTU_WH),
    "kBTU": _Unit("Wh", _BTU_WH * 1e3),
    "MMBTU": _Unit("Wh", _BTU_WH * 1e6),
    "therm": _Unit("Wh", _BTU_WH * 1e5),
    "kcal": _Unit("Wh", 4186.8 / 3600),
    "BTU/h": _Unit("W", _BTU_WH),
    "hp": _Unit("W", 745.69987158227022),
}

# Conversions between base units of the same dimension.
_BASES = {
    ("J", "Wh"): Conversion(1 / 3600),
    ("Wh", "J"): Conversion(3600.0),
    ("l", "m³"): Conversion(1e-3),
    ("m³", "l"): Conversion(1e3),
    ("K", "°C"): Conversion(1.0, -273.15),
    ("%", "1"): Conversion(1e-2),
    ("1", "%"): Conversion(1e2),
}


def base_of(unit: str) -> str:
    """The base unit of a unit; an unknown unit is its own."""
    return _UNITS[unit].base if unit in _UNITS else unit


def conversion(unit: str, target: str) -> Conversion | None:
    """The conversion from `unit` to `target`; None where they do not convert."""
    if unit == target:
        return Conversion(1.0)
    definition = _UNITS.get(unit)
    if definition is None:
        return None
    if definition.base == target:
        return Conversion(definition.factor, definition.offset)
    between_bases = _BASES.get((definition.base, target))
    # Without a unit the scale is ambiguous: 5 may be 5 % or 500 %.
    if between_bases is None or not unit:
        return None
    return Conversion(
        definition.factor * between_bases.factor,
        definition.offset * between_bases.factor + between_bases.offset,
    )


def factor(unit: str, base: str) -> float | None:
    """The factor from `unit` to `base`; None where they do not convert.

    For differences and rates: absolute temperatures have an offset, too (see `conversion`).
    """
    converted = conversion(unit, base)
    return None if converted is None else converted.factor


def fitting(base: str) -> list[str]:
    """The units that convert to `base`, with itself first."""
    others = [unit for unit in _UNITS if unit and unit != base and conversion(unit, base)]
    return [base, *others]


def suggest(unit: str, base: str) -> str:
    """The hint of an error about a unit that does not convert to `base`."""
    candidates = fitting(base)
    word = unit.lower().removeprefix("deg").strip(" °.")
    matches = [candidate for candidate in candidates if candidate.lower().strip("°") == word]
    if not matches and unit not in _UNITS:
        matches = difflib.get_close_matches(unit, candidates, n=1, cutoff=0.75)
    return f"did you mean {matches[0]}?" if matches else f"one of {' '.join(candidates)}"
