"""The catalogue: every quantity's name, unit, kind, OBIS code, NUT name and Prometheus name.

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
    ordered,
    prometheus_name,
    stems,
)
from meterd.model.meters import meters
from meterd.model.upses import upses

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

# In front of a counter's name: meterd's own running total of it, which glitches do not raise and
# rollovers and resets do not stop (poll/counters.py makes it; no meter has such a register).
GUARDED = "guarded."
COUNTED_UNITS = ("Wh", "varh", "VAh")

_MEASURED = (*meters(), *upses())
_STEMS = stems(
    one for one in _MEASURED if not one.nut or one.name.startswith(("input.", "output."))
)
# Names that were asked for and are in no list: a site has a few for each model of meter.
_MOST_PLACES = 10_000


def _is_guarded(quantity: Quantity) -> bool:
    return quantity.kind is Kind.COUNTER and quantity.unit in COUNTED_UNITS


def _guarded(quantity: Quantity) -> Quantity:
    text = f"{quantity.text}, running total"
    return replace(quantity, name=GUARDED + quantity.name, text=text, obis="")


_GUARDED = tuple(_guarded(one) for one in _MEASURED if _is_guarded(one))

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

# Texts that name a device; they belong to it and are not samples.
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

_OWN_NAME = re.compile(r"x(\.[a-z0-9_]+)+")
_GUARDED_OWN = f"{GUARDED}x."

# What is known of the users' own quantities (`x.` names), by name: maps, drivers and the store
# declare it, in that order of precedence.
_DECLARED: dict[str, tuple[str, Kind]] = {}


def is_own(name: str) -> bool:
    """Whether it is a name that users give to quantities which the catalogue lacks."""
    return _OWN_NAME.fullmatch(name) is not None


def declare(name: str, unit: str, kind: Kind, *, stored: bool = False) -> None:
    """Of a user's own quantity: the unit in which it is kept, and how it counts.

    One name is one quantity for the whole process: where two maps disagree, it is a counter.
    `stored`: that is how the store has it from before; whoever reads it now knows better.
    """
    known = _DECLARED.get(name)
    if known is None or (kind is Kind.COUNTER and not stored):
        _DECLARED[name] = unit, kind


def describe(name: str, unit: str | None = None) -> Quantity | None:
    """The catalogue's row; for an `x.` name of the user's own, what was declared of it.

    Such a name is a gauge in `unit` where nothing was. Its guarded total is described like it.
    What is measured at a place is in the catalogue for every place, listed or not: `frequency.l2`,
    `active_energy.export.ch13`, `active_energy.import.t5.l1`.
    """
    if (known := CATALOGUE.get(name)) is not None:
        return known
    own = name.removeprefix(GUARDED) if name.startswith(_GUARDED_OWN) else name
    if not is_own(own):
        return _at_place(name)
    declared, kind = _DECLARED.get(own, (None, Kind.GAUGE))
    unit = unit or declared or "1"
    if own is not name:
        return Quantity(name, unit, Kind.COUNTER, "User's own quantity, running total")
    return Quantity(name, unit, kind, "User's own quantity")


def is_known(name: str) -> bool:
    """Whether the catalogue has it, at whatever place."""
    return name in CATALOGUE or _at_place(name) is not None


@lru_cache(maxsize=_MOST_PLACES)
def _at_place(name: str) -> Quantity | None:
    found = at_place(name.removeprefix(GUARDED), _STEMS)
    if found is None or not name.startswith(GUARDED):
        return found
    return _guarded(found) if _is_guarded(found) else None


def suggest(name: str) -> str:
    """A hint for a name that is not in the catalogue."""
    if is_known(ordered(name)):
        return f"did you mean {ordered(name)}?"
    near = difflib.get_close_matches(name, CATALOGUE, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "see `meterd maps --quantities`; a quantity of your own starts with 'x.'"
