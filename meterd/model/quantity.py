"""The catalogue: every quantity's name, unit, kind, OBIS code, NUT name and Prometheus name.

Names are dotted lower case with the phase last: `voltage.l1`, `active_energy.import`.
"""

import difflib
import re
from dataclasses import replace

from meterd.model.family import LINES, PHASES, UNIT_WORDS, Kind, Quantity, prometheus_name
from meterd.model.meters import meters
from meterd.model.upses import upses

__all__ = [
    "CATALOGUE",
    "COUNTED_UNITS",
    "DEVICE_UP",
    "GUARDED",
    "INFO",
    "LINES",
    "PHASES",
    "UNIT_WORDS",
    "Kind",
    "Quantity",
    "declare",
    "describe",
    "is_own",
    "prometheus_name",
    "suggest",
]

DEVICE_UP = "device.up"

# In front of a counter's name: meterd's own running total of it, which glitches do not raise and
# rollovers and resets do not stop (poll/counters.py makes it; no meter has such a register).
GUARDED = "guarded."
COUNTED_UNITS = ("Wh", "varh", "VAh")

_MEASURED = (*meters(), *upses())
_GUARDED = (
    replace(q, name=GUARDED + q.name, text=f"{q.text}, running total", obis="")
    for q in _MEASURED
    if q.kind is Kind.COUNTER and q.unit in COUNTED_UNITS
)

CATALOGUE: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        *_MEASURED,
        *_GUARDED,
        Quantity(DEVICE_UP, "1", Kind.GAUGE, "The device answered its last poll", high=1),
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
    """
    if (known := CATALOGUE.get(name)) is not None:
        return known
    own = name.removeprefix(GUARDED) if name.startswith(_GUARDED_OWN) else name
    if not is_own(own):
        return None
    declared, kind = _DECLARED.get(own, (None, Kind.GAUGE))
    unit = unit or declared or "1"
    if own is not name:
        return Quantity(name, unit, Kind.COUNTER, "User's own quantity, running total")
    return Quantity(name, unit, kind, "User's own quantity")


def suggest(name: str) -> str:
    """A hint for a name that is not in the catalogue."""
    near = difflib.get_close_matches(name, CATALOGUE, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "see `meterd maps --quantities`; a quantity of your own starts with 'x.'"
