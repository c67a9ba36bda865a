"""From readings to samples: canonical units, the house's signs, plausibility."""

import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, SupportsFloat

from meterd.model.columns import Columns, Shape
from meterd.model.event import EventKind, Notice
from meterd.model.quantity import DEVICE_UP, GUARDED, Quantity, describe, suggest
from meterd.model.sample import Doubt, Layout, Poll, Quality, Reading
from meterd.model.units import base_of, conversion
from meterd.model.units import suggest as suggest_unit

# Products such as 0.29 kW * 1000 carry a rounding error; a millionth is finer than any meter.
_FINEST = 1e6
_EXACT = 2**53 / _FINEST
# What changes its sign, and what changes places, when a meter is mounted the other way round.
_SIGNED = ("active_power", "reactive_power", "active_energy.net", "reactive_energy.net")
_GOOD = Quality.GOOD
# A site has a few shapes for each model of meter that it polls.
_MOST_FORMS = 2000
# Common to all polls that have none: nobody changes a poll.
NO_DOUBTS: Mapping[int, Doubt] = {}
NO_TEXTS: Mapping[str, str] = {}


class _Column(NamedTuple):
    """How a reading becomes a value: times `factor`, plus `offset`; both hold unit and sign.

    `low` and `high` bound the plausible magnitude, infinity excluded.
    """

    quantity: Quantity
    factor: float
    offset: float
    low: float
    high: float


class _Form:
    """How readings of one shape become a poll; devices that read alike share it.

    `mistakes` tells of the readings that become nothing, by name.
    """

    __slots__ = ("columns", "converted", "layout", "limits", "mistakes", "texts")

    def __init__(self, columns: Sequence["_Column | str"], names: Sequence[str]) -> None:
        self.columns = [one if isinstance(one, _Column) else None for one in columns]
        self.texts = any(_is_text(name) for name in names)
        self.mistakes = {
            str(name): one
            for name, one in zip(names, columns, strict=True)
            if isinstance(one, str) and one
        }
        known = [column for column in self.columns if column is not None]
        self.layout = Layout.of(
            [*((c.quantity.name, c.quantity.unit) for c in known), (DEVICE_UP, "1")]
        )
        # Places and factors of what comes in another unit, and the limits of all, where every
        # column becomes a value: else each one is looked at.
        self.converted = [
            (i, c.factor, c.offset) for i, c in enumerate(known) if c.factor != 1 or c.offset
        ]
        whole = len(known) == len(columns) and not self.texts
        self.limits = [(c.low, c.high) for c in known] if whole else None


@lru_cache(maxsize=_MOST_FORMS)
def _form(shape: Shape, swapped: bool) -> _Form:
    seen: set[str] = set()
    columns: list[_Column | str] = []
    for name, unit in zip(shape.quantities, shape.units, strict=True):
        twice = f"{name} comes twice in one poll: the second is left out"
        columns.append(twice if name in seen else _column(name, unit, swapped))
        seen.add(name)
    return _Form(columns, shape.quantities)


def _column(name: object, unit: object, swapped: bool) -> _Column | str:
    """Else why it becomes no value; nothing where that is as it should be."""
    if not isinstance(name, str) or not isinstance(unit, str):
        return f"{name!r} in {unit!r} is left out: a quantity and its unit are texts"
    if _is_text(name):
        return ""
    if name == DEVICE_UP or name.startswith(GUARDED):
        return f"{name} is left out: it is meterd's own"
    if swapped:
        name = other_way(name)
    quantity = describe(name, base_of(unit))
    if quantity is None:
        return f"{name} is left out: no quantity of that name is known; {suggest(name)}"
    found = conversion(unit, quantity.unit)
    if found is None:
        hint = suggest_unit(unit, quantity.unit)
        return f"{name} is left out: {unit!r} does not convert to {quantity.unit}; {hint}"
    sign = -1.0 if swapped and name.startswith(_SIGNED) else 1.0
    limits = quantity.low, min(quantity.high, sys.float_info.max)
    return _Column(quantity, sign * found.factor, sign * found.offset, *limits)


def _is_text(name: object) -> bool:
    return isinstance(name, str) and name.startswith("info.")


_NOTHING = _Form((), ())


class Normaliser:
    """Turns one device's readings into polls; remembers which columns they had last time.

    `swapped`: the meter is mounted the other way round, so power changes its sign, and import
    and export change places.
    """

    __slots__ = ("_device", "_last", "_mistakes", "_shape", "_swapped", "notices")

    def __init__(self, device: str, *, swapped: bool = False) -> None:
        self._device = device
        self._swapped = swapped
        self._shape: Shape | None = None
        self._last: _Form = _NOTHING
        self._mistakes: set[str] = set()
        self.notices: list[Notice] = []
        """What the driver gave that cannot be kept, each name once; who reads it empties it."""

    def poll(self, readings: Sequence[Reading], time: int, took: float) -> Poll:
        """The poll of a device that answered. What has no known name or unit is left out."""
        said = Columns.of(readings)
        if said.shape is not self._shape:
            self._shape, self._last = said.shape, _form(said.shape, self._swapped)
            self._complain(self._last)
        form = self._last
        values = None if said.remarks else _good(form, said.values)
        if values is not None:
            return Poll(self._device, time, form.layout, values, NO_DOUBTS, NO_TEXTS, None, took)
        doubts: dict[int, Doubt] = {}
        found: list[float | None] = []
        for reading, column in zip(said, form.columns, strict=True):
            if column is None:
                continue
            value = _value(reading, column)
            if (doubt := _doubt(reading, column.quantity, value)) is not None:
                doubts[len(found)] = doubt
            found.append(value)
        texts = _told(said) if form.texts else NO_TEXTS
        return Poll(self._device, time, form.layout, (*found, 1.0), doubts, texts, took=took)

    def _complain(self, form: _Form) -> None:
        for name, text in form.mistakes.items():
            if name not in self._mistakes:
                self._mistakes.add(name)
                data = {"quantity": name}
                self.notices.append(Notice(EventKind.DRIVER_MISTAKE, text, data))


def _good(form: _Form, raws: Sequence[float]) -> "array[float] | None":
    """The values, `device.up` behind them, if all are plausible, as in nearly every poll."""
    if form.limits is None:
        return None
    values = [*raws, 1.0]
    for i, scale, offset in form.converted:
        values[i] = _rounded(values[i] * scale + offset)
    # NaN fails every comparison.
    for value, (low, high) in zip(values, form.limits, strict=False):
        if not (low <= value <= high or low <= -value <= high or not value):
            return None
    return array("d", values)


def _told(readings: Sequence[Reading]) -> dict[str, str]:
    """What the device says of itself."""
    return {r[0]: r[1] for r in readings if isinstance(r[1], str) and r[0].startswith("info.")}


def other_way(name: str) -> str:
    """Import is export, seen from the other side."""
    places = {"import": "export", "export": "import"}
    return ".".join(places.get(part, part) for part in name.split("."))


def _value(reading: Reading, column: _Column) -> float | None:
    raw: object = reading.value
    # A plug-in may give a Decimal, or a number of another library's.
    if isinstance(raw, str) or not isinstance(raw, SupportsFloat):
        return None
    raw = float(raw)
    if not math.isfinite(raw):
        return None
    if column.factor == 1 and not column.offset:
        return raw
    return _rounded(raw * column.factor + column.offset)


def _rounded(value: float) -> float:
    """Six digits. A whole number divided once is as exact as round(), at half its price."""
    if -_EXACT < value < _EXACT:
        return round(value * _FINEST) / _FINEST
    return round(value, 6)


def _no_number(value: object) -> str:
    known = isinstance(value, float) or value is None
    return f"the device gives no number{'' if known else f', but {value!r:.40}'}"


def _doubt(reading: Reading, quantity: Quantity, value: float | None) -> Doubt | None:
    """What is wrong with a value; None if nothing is."""
    if value is None:
        return Doubt(Quality.INVALID, reading.reason or _no_number(reading.value))
    if not quantity.plausible(value):
        text = f"{value:g} {quantity.unit} is beyond what is plausible for {quantity.name}"
        return Doubt(Quality.SUSPECT, text)
    if reading.quality is not _GOOD:
        return Doubt(reading.quality, reading.reason)
    return None
