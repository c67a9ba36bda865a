"""Normalisation of readings to polls: canonical units, sign convention, plausibility limits."""

import math
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, SupportsFloat, TypeGuard

from meterd.model.calibration import NO_CALIBRATION, Calibration, kind_of
from meterd.model.columns import Columns, Shape
from meterd.model.event import EventKind, Notice
from meterd.model.quantity import DEVICE_UP, GUARDED, Kind, Quantity, describe, suggest
from meterd.model.sample import LARGEST, Layout, Poll, Quality, QualityFlag, Reading
from meterd.model.units import base_of, conversion
from meterd.model.units import suggest as suggest_unit
from meterd.poll.counter_guard import DEFAULT_POWER, largest_count
from meterd.poll.direction import Mirrored, mirrored, opposite

# Values are rounded to six decimals: 0.29 kW * 1000 has a rounding error, and no meter is finer.
_DECIMALS_SCALE = 1e6
_EXACT_BELOW = 2**53 / _DECIMALS_SCALE
_GOOD = Quality.GOOD
# Cache size: a site has a few shapes of readings per model of meter.
_CONVERSIONS_CACHED_MAX = 2000
# Names reported as a driver's mistakes at most; a plug-in may generate names without end.
_MISTAKES_REPORTED_MAX = 200
# Shared by all polls without flags or texts; polls are immutable.
NO_DOUBTS: Mapping[int, QualityFlag] = {}
NO_TEXTS: Mapping[str, str] = {}


class Terms(NamedTuple):
    """Configuration of a device that its readings are normalised by.

    `swapped`: it is wired in the opposite direction (poll/direction.py). `max_power` in W: larger
    powers are invalid; if None, those above DEFAULT_POWER are suspect. `sizes`: quantities that its
    registers give without sign although the quantity has one; `swapped` leaves them as they are.
    """

    swapped: bool = False
    max_power: float | None = None
    calibration: Calibration = NO_CALIBRATION
    sizes: frozenset[str] = frozenset()


class _NormalisedColumn(NamedTuple):
    """Conversion of the readings of one column.

    value = reading * `factor` + `offset`, which include unit, transformer and sign. `turned`: an
    angle to turn by 180°. Magnitudes above `bound` are invalid, above `plausible` suspect; both are
    LARGEST at most.
    """

    quantity: Quantity
    factor: float
    offset: float
    turned: bool
    bound: float
    plausible: float

    @property
    def limits(self) -> tuple[float, float, float]:
        """(low, high, below): good values are 0, low to high, or (negative) below to -low."""
        high = min(self.bound, self.plausible)
        return self.quantity.low, high, math.inf if self.counts else -high

    @property
    def counts(self) -> bool:
        """Whether it is a counter, which is never negative."""
        return self.quantity.kind is Kind.COUNTER

    def value(self, raw: object) -> float | None:
        """The converted value; None if the reading is no finite number."""
        if not isinstance(raw, float) and not _is_number(raw):
            return None
        value = float(raw)
        if not math.isfinite(value):
            return None
        if self.factor != 1 or self.offset:
            value = _rounded(value * self.factor + self.offset)
        return opposite(value) if self.turned else value

    def flaw(self, value: float) -> str:
        """Why this value is invalid; empty if it is not."""
        if self.counts and value < 0:
            return f"{value:g} {self.quantity.unit} is no count: a counter is never negative"
        if abs(value) <= self.bound:
            return ""
        if abs(value) > LARGEST:
            return f"{value:g} {self.quantity.unit} is no number that can be measured"
        what = f"{value:g} {self.quantity.unit} is more than"
        if self.counts:
            return f"{what} any counter of such a device has reached"
        return f"{what} can flow here: max_power is {self.bound:.12g} W"


class _Conversion:
    """Conversion of readings of one shape to a poll; shared by devices with equal readings.

    `mistakes`: by name, why readings of the shape are left out.
    """

    __slots__ = ("columns", "converted", "layout", "limits", "mistakes", "texts", "turned")

    def __init__(self, columns: Sequence["_NormalisedColumn | str"], names: Sequence[str]) -> None:
        self.columns = [
            column if isinstance(column, _NormalisedColumn) else None for column in columns
        ]
        self.texts = any(_is_text(name) for name in names)
        self.mistakes = {
            str(name): column
            for name, column in zip(names, columns, strict=True)
            if isinstance(column, str) and column
        }
        converted = [column for column in self.columns if column is not None]
        self.layout = Layout.of(
            [*((c.quantity.name, c.quantity.unit) for c in converted), (DEVICE_UP, "1")]
        )
        # For the fast path `_good`: index, factor and offset of columns to convert, and the limits
        # of all columns; None where some column gives no value.
        self.converted = [
            (i, c.factor, c.offset) for i, c in enumerate(converted) if c.factor != 1 or c.offset
        ]
        self.turned = [i for i, c in enumerate(converted) if c.turned]
        is_complete = len(converted) == len(columns) and not self.texts
        self.limits = [c.limits for c in converted] if is_complete else None


@lru_cache(maxsize=_CONVERSIONS_CACHED_MAX)
def _conversion(shape: Shape, terms: Terms) -> _Conversion:
    names: set[str] = set()
    columns: list[_NormalisedColumn | str] = []
    for name, unit in zip(shape.quantities, shape.units, strict=True):
        mistake = f"{name} comes twice in one poll: the second is left out"
        columns.append(mistake if name in names else _column(name, unit, terms))
        names.add(name)
    return _Conversion(columns, shape.quantities)


def _column(name: object, unit: object, terms: Terms) -> _NormalisedColumn | str:
    """The conversion of a reading, or why it is left out (an empty text for texts)."""
    if not isinstance(name, str) or not isinstance(unit, str):
        return f"{name!r} in {unit!r} is left out: a quantity and its unit are texts"
    if _is_text(name):
        return ""
    if name == DEVICE_UP or name.startswith(GUARDED):
        return f"{name} is left out: it is meterd's own"
    target = mirrored(name) if terms.swapped else Mirrored(name)
    quantity = describe(target.name, base_of(unit))
    if quantity is None:
        return f"{name} is left out: no quantity of that name is known; {suggest(name)}"
    factors = conversion(unit, quantity.unit)
    if factors is None:
        hint = suggest_unit(unit, quantity.unit)
        return f"{name} is left out: {unit!r} does not convert to {quantity.unit}; {hint}"
    sign = 1 if name in terms.sizes else target.sign
    scale = sign * terms.calibration.factor(name)
    return _NormalisedColumn(
        quantity,
        scale * factors.factor,
        scale * factors.offset + sign * terms.calibration.offset(name),
        target.turned,
        min(_bound(quantity, terms.max_power), LARGEST),
        min(_plausible(quantity, terms.max_power), LARGEST),
    )


def _bound(quantity: Quantity, max_power: float | None) -> float:
    """The largest valid magnitude for a device with this maximum power in W."""
    kind = kind_of(quantity)
    if kind == "power":
        return math.inf if max_power is None else max_power
    if kind == "energy" and quantity.kind is Kind.COUNTER:
        return largest_count(max_power or DEFAULT_POWER)
    return math.inf


def _plausible(quantity: Quantity, max_power: float | None) -> float:
    """The largest magnitude that is not suspect."""
    is_default = max_power is None and kind_of(quantity) == "power"
    return min(quantity.high, DEFAULT_POWER) if is_default else quantity.high


def _is_text(name: object) -> bool:
    return isinstance(name, str) and name.startswith("info.")


_EMPTY_CONVERSION = _Conversion((), ())


class Normaliser:
    """Converts one device's readings to polls; caches the conversion of their last shape.

    `terms` is the device's configuration; `swapped` alone stands for Terms(swapped). `origin` names
    the driver in notices of its mistakes, for its author.
    """

    __slots__ = ("_last", "_mistakes", "_origin", "_shape", "_terms", "device", "notices")

    def __init__(
        self, device: str, *, swapped: bool = False, terms: Terms | None = None, origin: str = ""
    ) -> None:
        self.device = device
        self._origin = origin
        self._terms = Terms(swapped) if terms is None else terms
        self._shape: Shape | None = None
        self._last: _Conversion = _EMPTY_CONVERSION
        self._mistakes: set[str] = set()
        self.notices: list[Notice] = []
        """Notices of readings left out, each name once; the caller takes and clears them."""

    def poll(self, readings: Sequence[Reading], time: int, took: float) -> Poll:
        """The poll of a device that answered; readings of unknown name or unit are left out."""
        columns = Columns.of(readings)
        if columns.shape is not self._shape:
            self._shape, self._last = columns.shape, _conversion(columns.shape, self._terms)
            self._report_mistakes(self._last)
        conversion = self._last
        values = None if columns.remarks else _good(conversion, columns.values)
        if values is not None:
            return Poll(
                self.device, time, conversion.layout, values, NO_DOUBTS, NO_TEXTS, None, took
            )
        doubts: dict[int, QualityFlag] = {}
        numbers: list[float | None] = []
        for reading, column in zip(columns, conversion.columns, strict=True):
            if column is None:
                continue
            value, doubt = _value_and_flag(reading, column)
            if doubt is not None:
                doubts[len(numbers)] = doubt
            numbers.append(value)
        texts = _info_texts(columns) if conversion.texts else NO_TEXTS
        return Poll(self.device, time, conversion.layout, (*numbers, 1.0), doubts, texts, took=took)

    def _report_mistakes(self, conversion: _Conversion) -> None:
        origin = {"driver": self._origin} if self._origin else {}
        for name, mistake in conversion.mistakes.items():
            if name not in self._mistakes and len(self._mistakes) < _MISTAKES_REPORTED_MAX:
                self._mistakes.add(name)
                text = f"{mistake}; {self._origin}" if origin else mistake
                data = {"quantity": name, **origin}
                self.notices.append(Notice(EventKind.DRIVER_MISTAKE, text, data))


def _good(conversion: _Conversion, raws: Sequence[float]) -> "array[float] | None":
    """Fast path: the values with `device.up` appended if all are plausible, else None."""
    if conversion.limits is None:
        return None
    values = [*raws, 1.0]
    for i, scale, offset in conversion.converted:
        values[i] = _rounded(values[i] * scale + offset)
    for i in conversion.turned:
        values[i] = opposite(values[i])
    # NaN fails every comparison.
    for value, (low, high, below) in zip(values, conversion.limits, strict=False):
        if not (low <= value <= high or below <= value <= -low or not value):
            return None
    return array("d", values)


def _info_texts(readings: Sequence[Reading]) -> dict[str, str]:
    """The texts (`info.`) among the readings."""
    return {r[0]: r[1] for r in readings if isinstance(r[1], str) and r[0].startswith("info.")}


def _rounded(value: float) -> float:
    """Round to six decimals.

    Rounding to a whole number and one division are exact, and take half of round()'s time.
    """
    if -_EXACT_BELOW < value < _EXACT_BELOW:
        return round(value * _DECIMALS_SCALE) / _DECIMALS_SCALE
    return round(value, 6)


def _is_number(raw: object) -> TypeGuard[SupportsFloat]:
    """Whether float() takes it: plug-ins may give Decimal, or numbers of other libraries."""
    return isinstance(raw, SupportsFloat) and not isinstance(raw, str)


def _no_number_text(value: object) -> str:
    is_float = isinstance(value, float) or value is None
    return f"the device gives no number{'' if is_float else f', but {value!r:.40}'}"


def _value_and_flag(
    reading: Reading, column: _NormalisedColumn
) -> tuple[float | None, QualityFlag | None]:
    """The value (None if invalid), and its quality flag if it is not good."""
    value = column.value(reading.value)
    if value is None:
        return None, QualityFlag(Quality.INVALID, reading.reason or _no_number_text(reading.value))
    if flaw := column.flaw(value):
        return None, QualityFlag(Quality.INVALID, flaw)
    quantity = column.quantity
    if not (value == 0 or quantity.low <= abs(value) <= column.plausible):
        text = f"{value:g} {quantity.unit} is beyond what is plausible for {quantity.name}"
        if column.plausible == DEFAULT_POWER < abs(value):
            text += "; set max_power, or ct, where it is right"
        return value, QualityFlag(Quality.SUSPECT, text)
    if reading.quality is not _GOOD:
        return value, QualityFlag(reading.quality, reading.reason)
    return value, None
