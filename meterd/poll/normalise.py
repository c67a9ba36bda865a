"""From readings to samples: canonical units, the house's signs, plausibility."""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from meterd.model.quantity import DEVICE_UP, Quantity, describe
from meterd.model.sample import DOWN, Doubt, Layout, Poll, Quality, Reading
from meterd.model.units import TO_BASE, factor

# Products such as 0.29 kW * 1000 carry a rounding error; a millionth is finer than any meter.
_DIGITS = 6
# What changes its sign, and what changes places, when a meter is mounted the other way round.
_SIGNED = ("active_power", "reactive_power", "active_energy.net", "reactive_energy.net")
_GOOD = Quality.GOOD


class _Column(NamedTuple):
    """How the reading at one place of a poll becomes a value; `factor` holds unit and sign.

    `low` and `high` bound the plausible magnitude, infinity excluded.
    """

    quantity: Quantity
    factor: float
    low: float
    high: float


class Normaliser:
    """Turns one device's readings into polls; remembers the layout they had last time.

    `swapped`: the meter is mounted the other way round, so power changes its sign, and import
    and export change places.
    """

    def __init__(self, device: str, *, swapped: bool = False) -> None:
        self._device = device
        self._swapped = swapped
        self._names: list[str] = []
        self._units: list[str] = []
        self._columns: list[_Column | None] = []
        self._layout = DOWN
        self._texts = False

    def poll(self, readings: Sequence[Reading], time: int, took: float) -> Poll:
        """The poll of a device that answered. What has no known unit is left out."""
        names = [reading[0] for reading in readings]
        units = [reading[2] for reading in readings]
        if names != self._names or units != self._units:
            self._learn(names, units)
        values: list[float | None] = []
        doubts: dict[int, Doubt] = {}
        for reading, column in zip(readings, self._columns, strict=True):
            if column is None:
                continue
            raw = reading[1]
            # The hot path: a good, finite, plausible float. NaN fails every comparison.
            if raw.__class__ is float and reading[4] is _GOOD:
                value = raw if column[1] == 1 else round(raw * column[1], _DIGITS)
                if column[2] <= value <= column[3] or column[2] <= -value <= column[3] or not value:
                    values.append(value)
                    continue
            found = _value(reading, column.factor)
            if (doubt := _doubt(reading, column.quantity, found)) is not None:
                doubts[len(values)] = doubt
            values.append(found)
        values.append(1.0)
        texts = _told(readings) if self._texts else {}
        return Poll(self._device, time, self._layout, tuple(values), doubts, texts, took=took)

    def _learn(self, names: list[str], units: list[str]) -> None:
        self._names, self._units = names, units
        pairs = zip(names, units, strict=True)
        self._columns = [self._column(name, unit) for name, unit in pairs]
        self._texts = any(name.startswith("info.") for name in names)
        known = [column.quantity for column in self._columns if column is not None]
        columns = [(quantity.name, quantity.unit) for quantity in known]
        self._layout = Layout.of([*columns, (DEVICE_UP, "1")])

    def _column(self, name: str, unit: str) -> _Column | None:
        if self._swapped:
            name = other_way(name)
        base = TO_BASE.get(unit, (unit, 1.0))[0]
        if (quantity := describe(name, base)) is None:
            return None
        scale = factor(unit, quantity.unit)
        if scale is None:
            return None
        turned = self._swapped and name.startswith(_SIGNED)
        limits = quantity.low, min(quantity.high, sys.float_info.max)
        return _Column(quantity, -scale if turned else scale, *limits)


def _told(readings: Sequence[Reading]) -> dict[str, str]:
    """What the device says of itself."""
    return {r[0]: r[1] for r in readings if isinstance(r[1], str) and r[0].startswith("info.")}


def other_way(name: str) -> str:
    """Import is export, seen from the other side."""
    places = {"import": "export", "export": "import"}
    return ".".join(places.get(part, part) for part in name.split("."))


def _value(reading: Reading, scale: float) -> float | None:
    raw = reading[1]
    if not isinstance(raw, int | float) or not math.isfinite(raw):
        return None
    return float(raw) if scale == 1 else round(raw * scale, _DIGITS)


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
