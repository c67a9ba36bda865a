"""From readings to samples: canonical units, the house's signs, plausibility."""

import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from meterd.model.columns import Columns, Shape
from meterd.model.quantity import DEVICE_UP, Quantity, describe
from meterd.model.sample import Doubt, Layout, Poll, Quality, Reading
from meterd.model.units import TO_BASE, factor

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
    """How the reading at one place of a poll becomes a value; `factor` holds unit and sign.

    `low` and `high` bound the plausible magnitude, infinity excluded.
    """

    quantity: Quantity
    factor: float
    low: float
    high: float


class _Form:
    """How readings of one shape become a poll; devices that read alike share it."""

    __slots__ = ("columns", "converted", "layout", "limits", "texts")

    def __init__(self, columns: Sequence[_Column | None], texts: bool) -> None:
        self.columns = columns
        self.texts = texts
        known = [column for column in columns if column is not None]
        self.layout = Layout.of(
            [*((c.quantity.name, c.quantity.unit) for c in known), (DEVICE_UP, "1")]
        )
        # Places and factors of what comes in another unit, and the limits of all, where every
        # column becomes a value: else each one is looked at.
        self.converted = [(i, c.factor) for i, c in enumerate(known) if c.factor != 1]
        whole = len(known) == len(columns) and not texts
        self.limits = [(c.low, c.high) for c in known] if whole else None


@lru_cache(maxsize=_MOST_FORMS)
def _form(shape: Shape, swapped: bool) -> _Form:
    pairs = zip(shape.quantities, shape.units, strict=True)
    texts = any(name.startswith("info.") for name in shape.quantities)
    return _Form([_column(name, unit, swapped) for name, unit in pairs], texts)


def _column(name: str, unit: str, swapped: bool) -> _Column | None:
    """None for what has no known unit."""
    if swapped:
        name = other_way(name)
    base = TO_BASE.get(unit, (unit, 1.0))[0]
    if (quantity := describe(name, base)) is None:
        return None
    scale = factor(unit, quantity.unit)
    if scale is None:
        return None
    turned = swapped and name.startswith(_SIGNED)
    limits = quantity.low, min(quantity.high, sys.float_info.max)
    return _Column(quantity, -scale if turned else scale, *limits)


_NOTHING = _Form((), texts=False)


class Normaliser:
    """Turns one device's readings into polls; remembers which columns they had last time.

    `swapped`: the meter is mounted the other way round, so power changes its sign, and import
    and export change places.
    """

    __slots__ = ("_device", "_last", "_shape", "_swapped")

    def __init__(self, device: str, *, swapped: bool = False) -> None:
        self._device = device
        self._swapped = swapped
        self._shape: Shape | None = None
        self._last: _Form = _NOTHING

    def poll(self, readings: Sequence[Reading], time: int, took: float) -> Poll:
        """The poll of a device that answered. What has no known unit is left out."""
        said = Columns.of(readings)
        if said.shape is not self._shape:
            self._shape, self._last = said.shape, _form(said.shape, self._swapped)
        form = self._last
        values = None if said.remarks else _good(form, said.values)
        if values is not None:
            return Poll(self._device, time, form.layout, values, NO_DOUBTS, NO_TEXTS, None, took)
        doubts: dict[int, Doubt] = {}
        found: list[float | None] = []
        for reading, column in zip(said, form.columns, strict=True):
            if column is None:
                continue
            value = _value(reading, column.factor)
            if (doubt := _doubt(reading, column.quantity, value)) is not None:
                doubts[len(found)] = doubt
            found.append(value)
        texts = _told(said) if form.texts else NO_TEXTS
        return Poll(self._device, time, form.layout, (*found, 1.0), doubts, texts, took=took)


def _good(form: _Form, raws: Sequence[float]) -> "array[float] | None":
    """The values, `device.up` behind them, if all are plausible, as in nearly every poll."""
    if form.limits is None:
        return None
    values = [*raws, 1.0]
    for i, scale in form.converted:
        values[i] = _rounded(values[i] * scale)
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


def _value(reading: Reading, scale: float) -> float | None:
    raw = reading.value
    if not isinstance(raw, int | float) or not math.isfinite(raw):
        return None
    return float(raw) if scale == 1 else _rounded(raw * scale)


def _rounded(value: float) -> float:
    """Six digits. A whole number divided once is as exact as round(), at half its price."""
    if -_EXACT < value < _EXACT:
        return round(value * _FINEST) / _FINEST
    return round(value, 6)


def _doubt(reading: Reading, quantity: Quantity, value: float | None) -> Doubt | None:
    """What is wrong with a value; None if nothing is."""
    if value is None:
        return Doubt(Quality.INVALID, reading.reason or "the device gives no number")
    if not quantity.plausible(value):
        text = f"{value:g} {quantity.unit} is beyond what is plausible for {quantity.name}"
        return Doubt(Quality.SUSPECT, text)
    if reading.quality is not _GOOD:
        return Doubt(reading.quality, reading.reason)
    return None
