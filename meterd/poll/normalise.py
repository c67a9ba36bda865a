"""From readings to samples: canonical units, the house's signs, plausibility."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meterd.model.quantity import DEVICE_UP, Quantity, describe
from meterd.model.sample import DOWN, Doubt, Layout, Poll, Quality, Reading
from meterd.model.units import TO_BASE, factor

# Products such as 0.29 kW * 1000 carry a rounding error; a millionth is finer than any meter.
_DIGITS = 6
# What changes its sign, and what changes places, when a meter is mounted the other way round.
_SIGNED = ("active_power", "reactive_power", "active_energy.net", "reactive_energy.net")
_GOOD = Quality.GOOD


@dataclass(frozen=True, slots=True)
class _Column:
    """How the reading at one place of a poll becomes a value; `factor` holds unit and sign."""

    quantity: Quantity
    factor: float


class Normaliser:
    """Turns one device's readings into polls; remembers the layout they had last time.

    `swapped`: the meter is mounted the other way round, so power changes its sign, and import
    and export change places.
    """

    def __init__(self, device: str, *, swapped: bool = False) -> None:
        self._device = device
        self._swapped = swapped
        self._shape: list[tuple[str, str]] = []
        self._columns: list[_Column | None] = []
        self._layout = DOWN

    def poll(self, readings: Sequence[Reading], time: int, took: float) -> Poll:
        """The poll of a device that answered. What has no known unit is left out."""
        numbers = [reading for reading in readings if not reading[0].startswith("info.")]
        shape = [(reading[0], reading[2]) for reading in numbers]
        if shape != self._shape:
            self._learn(shape)
        values: list[float | None] = []
        doubts: dict[int, Doubt] = {}
        for reading, column in zip(numbers, self._columns, strict=True):
            if column is None:
                continue
            value = _value(reading, column.factor)
            if (doubt := _doubt(reading, column.quantity, value)) is not None:
                doubts[len(values)] = doubt
            values.append(value)
        values.append(1.0)
        texts = {r[0]: r[1] for r in readings if isinstance(r[1], str) and r[0][:5] == "info."}
        return Poll(self._device, time, self._layout, tuple(values), doubts, texts, took=took)

    def _learn(self, shape: list[tuple[str, str]]) -> None:
        self._shape = shape
        self._columns = [self._column(name, unit) for name, unit in shape]
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
        return _Column(quantity, -scale if turned else scale)


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
