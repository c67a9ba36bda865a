"""Sign convention: conversion of the values of a meter that is wired in the opposite direction.

Positive is what is taken from the grid (import). A meter wired in the opposite direction measures
every current turned by 180°:

signed: powers, their demands, net energies, power factors, DC current    the sign changes
the same, as a maximum or a minimum                                       and each is the other
one direction only: import and export of powers, energies, demands        they change places
reactive energy of the quadrants                                          Q1 and Q3, Q2 and Q4 do
angles of a current, and of the power factor                              turned by 180°
sizes (voltage, current, apparent power, inductive, capacitive, total)    stay
batteries, states, texts, own quantities (`x.`)                           stay
"""

from typing import NamedTuple

_PLACES = {
    "import": "export",
    "export": "import",
    "q1": "q3",
    "q2": "q4",
    "q3": "q1",
    "q4": "q2",
}
_EXTREMES = {"max": "min", "min": "max"}
_SIGNED = ("active_power", "reactive_power", "power_factor")
_NETS = ("active_energy", "reactive_energy", "apparent_energy")
_SIZES = ("inductive", "capacitive")
_ANGLES = ("phase_angle", "current_angle")


class Mirrored(NamedTuple):
    """The quantity in the opposite direction, and how its value changes: `sign` 1 or -1;
    `turned`: an angle that turns by 180°."""

    name: str
    sign: int = 1
    turned: bool = False


def mirrored(name: str) -> Mirrored:
    """The quantity that a meter's quantity becomes in the opposite direction."""
    parts = name.removeprefix("guarded.").removeprefix("demand.").split(".")
    family = parts[0]
    if family in ("x", "info", "battery"):
        return Mirrored(name)
    if not _PLACES.keys().isdisjoint(parts):
        return Mirrored(_replaced(name, _PLACES))
    if family in _ANGLES or parts[:2] == ["power_factor", "angle"]:
        return Mirrored(name, turned=True)
    signed = family in _SIGNED and set(parts).isdisjoint(_SIZES)
    if signed or (family in _NETS and "net" in parts) or name == "current.dc":
        return Mirrored(_replaced(name, _EXTREMES), -1)
    return Mirrored(name)


def other_way(name: str) -> str:
    """The name of the quantity in the opposite direction: import becomes export."""
    return mirrored(name).name


def opposite(angle: float) -> float:
    """An angle turned by 180°, between -180° and 180°."""
    return angle - 180.0 if angle > 0 else angle + 180.0


def _replaced(name: str, places: dict[str, str]) -> str:
    return ".".join(places.get(part, part) for part in name.split("."))
