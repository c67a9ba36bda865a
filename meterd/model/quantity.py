"""The catalogue of quantities: name, unit, kind, OBIS code, NUT name and Prometheus name.

Names are dotted lower case with the phase last: `voltage.l1`, `active_energy.import`.
"""

import difflib
import re
from dataclasses import replace
from functools import lru_cache

from meterd.model.family import (
    LINES,
    PHASES,
    UNIT_WORDS,
    Kind,
    Quantity,
    at_place,
    prometheus_name,
    stems,
    with_ordered_places,
)
from meterd.model.meter_quantities import meters
from meterd.model.ups_quantities import upses

__all__ = [
    "CATALOGUE",
    "COUNTED_UNITS",
    "DEVICE_UP",
    "FOREIGN_TRAFFIC",
    "GUARDED",
    "INFO",
    "LINES",
    "PHASES",
    "UNIT_WORDS",
    "Kind",
    "Quantity",
    "declare",
    "describe",
    "is_known",
    "is_own",
    "prometheus_name",
    "suggest",
]

DEVICE_UP = "device.up"
FOREIGN_TRAFFIC = "device.foreign_traffic"

# Name prefix of a counter's running total, which glitches do not raise and rollovers and resets
# do not lower. poll/counters.py computes it; no meter has such a register.
GUARDED = "guarded."
COUNTED_UNITS = ("Wh", "varh", "VAh")

_MEASURED = (*meters(), *upses())
_STEMS = stems(
    quantity
    for quantity in _MEASURED
    if not quantity.nut or quantity.name.startswith(("input.", "output."))
)
# Cached lookups of names that are not listed: a site has a few per model of meter.
_PLACE_CACHE_SIZE = 10_000


def _has_guarded_total(quantity: Quantity) -> bool:
    return quantity.kind is Kind.COUNTER and quantity.unit in COUNTED_UNITS


def _guarded(quantity: Quantity) -> Quantity:
    text = f"{quantity.text}, running total"
    return replace(quantity, name=GUARDED + quantity.name, text=text, obis="")


_GUARDED = tuple(_guarded(quantity) for quantity in _MEASURED if _has_guarded_total(quantity))

CATALOGUE: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        *_MEASURED,
        *_GUARDED,
        Quantity(DEVICE_UP, "1", Kind.GAUGE, "The device answered its last poll", high=1),
        Quantity(
            FOREIGN_TRAFFIC,
            "1",
            Kind.GAUGE,
            "Somebody else asks on its bus; given once that was noticed",
            high=1,
        ),
    )
}

# Texts that describe a device; they are attributes of it, no samples.
INFO = (
    "info.manufacturer",
    "info.model",
    "info.name",
    "info.options",
    "info.serial_number",
    "info.firmware",
    "info.hardware",
    "info.protocol",
)

_USER_NAME = re.compile(r"x(\.[a-z0-9_]+)+")
_GUARDED_USER_PREFIX = f"{GUARDED}x."

# Unit and kind of users' own quantities (`x.` names): maps, drivers and the store declare them,
# in that order of precedence.
_DECLARED: dict[str, tuple[str, Kind]] = {}


def is_own(name: str) -> bool:
    """Whether the name is that of a user's own quantity: `x.` and lower case words."""
    return _USER_NAME.fullmatch(name) is not None


def declare(name: str, unit: str, kind: Kind, *, stored: bool = False) -> None:
    """Declares unit and kind of a user's own quantity.

    A name is one quantity in the whole process: where two maps disagree, it is a counter.
    `stored`: as the store has it; a declaration by a map or driver takes precedence.
    """
    declared = _DECLARED.get(name)
    if declared is None or (kind is Kind.COUNTER and not stored):
        _DECLARED[name] = unit, kind


def describe(name: str, unit: str | None = None) -> Quantity | None:
    """The quantity of a name; None where the catalogue has none.

    A user's own name (`x.`) has the unit and kind declared for it, else it is a gauge in `unit`;
    its guarded total is a counter in the same unit. A family may be measured at any place, listed
    or not: `frequency.l2`, `active_energy.export.ch13`, `active_energy.import.t5.l1`.
    """
    if (quantity := CATALOGUE.get(name)) is not None:
        return quantity
    user_name = name.removeprefix(GUARDED) if name.startswith(_GUARDED_USER_PREFIX) else name
    if not is_own(user_name):
        return _at_place(name)
    declared, kind = _DECLARED.get(user_name, (None, Kind.GAUGE))
    unit = unit or declared or "1"
    if user_name is not name:
        return Quantity(name, unit, Kind.COUNTER, "User's own quantity, running total")
    return Quantity(name, unit, kind, "User's own quantity")


def is_known(name: str) -> bool:
    """Whether the catalogue has the name, at any place."""
    return name in CATALOGUE or _at_place(name) is not None


@lru_cache(maxsize=_PLACE_CACHE_SIZE)
def _at_place(name: str) -> Quantity | None:
    quantity = at_place(name.removeprefix(GUARDED), _STEMS)
    if quantity is None or not name.startswith(GUARDED):
        return quantity
    return _guarded(quantity) if _has_guarded_total(quantity) else None


def suggest(name: str) -> str:
    """The hint of an error about a name that is not in the catalogue."""
    if is_known(with_ordered_places(name)):
        return f"did you mean {with_ordered_places(name)}?"
    matches = difflib.get_close_matches(name, CATALOGUE, n=3)
    if matches:
        return f"did you mean {' or '.join(matches)}?"
    return "see `meterd maps --quantities`; a quantity of your own starts with 'x.'"
