"""From readings to samples: canonical units, the house's signs, plausibility."""

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

# Products such as 0.29 kW * 1000 carry a rounding error; a millionth is finer than any meter.
_FINEST = 1e6
_EXACT = 2**53 / _FINEST
_GOOD = Quality.GOOD
# A site has a few shapes for each model of meter that it polls.
_MOST_FORMS = 2000
# Names that one driver got wrong and that are told; a foreign one may make them of what it reads.
_MOST_MISTAKES = 200
# Common to all polls that have none: nobody changes a poll.
NO_DOUBTS: Mapping[int, QualityFlag] = {}
NO_TEXTS: Mapping[str, str] = {}


class Terms(NamedTuple):
    """What is said of a device, so that its readings are understood.

    `swapped`: it is mounted the other way round (poll/direction.py has the rule). `max_power`: the
    most that can flow, in W: what is more is no value. None where nobody says it: then what is more
    than DEFAULT_POWER is suspect. `sizes`: quantities that its registers give without a sign though
    its power has one; they keep theirs.
    """

    swapped: bool = False
    max_power: float | None = None
    calibration: Calibration = NO_CALIBRATION
    sizes: frozenset[str] = frozenset()


class _NormalisedColumn(NamedTuple):
    """How the reading at one place of a poll becomes a value.

    `factor` holds unit, transformer and sign; so does `offset`, which is added then. `turned`: an
    angle to turn by 180°. `bound` is the largest magnitude that is a value at all, `plausible` the
    largest that is not suspect; both are LARGEST at most.
    """

    quantity: Quantity
    factor: float
    offset: float
    turned: bool
    bound: float
    plausible: float

    @property
    def limits(self) -> tuple[float, float, float]:
        """What is good and more than 0 lies between the first two; less: between the third and
        the first with its sign changed."""
        high = min(self.bound, self.plausible)
        return self.quantity.low, high, math.inf if self.counts else -high

    @property
    def counts(self) -> bool:
        """Whether it is a counter, which is never negative."""
        return self.quantity.kind is Kind.COUNTER

    def value(self, raw: object) -> float | None:
        """None where the reading is no number."""
        if not isinstance(raw, float) and not _counts_as_number(raw):
            return None
        value = float(raw)
        if not math.isfinite(value):
            return None
        if self.factor != 1 or self.offset:
            value = _rounded(value * self.factor + self.offset)
        return opposite(value) if self.turned else value

    def flaw(self, value: float) -> str:
        """Why this is no value of the device; empty if it may be one."""
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


class _Form:
    """How readings of one shape become a poll; devices that read alike share it.

    `mistakes` tells of the readings that become nothing, by name.
    """

    __slots__ = ("columns", "converted", "layout", "limits", "mistakes", "texts", "turned")

    def __init__(self, columns: Sequence["_NormalisedColumn | str"], names: Sequence[str]) -> None:
        self.columns = [one if isinstance(one, _NormalisedColumn) else None for one in columns]
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
        self.turned = [i for i, c in enumerate(known) if c.turned]
        whole = len(known) == len(columns) and not self.texts
        self.limits = [c.limits for c in known] if whole else None


@lru_cache(maxsize=_MOST_FORMS)
def _form(shape: Shape, terms: Terms) -> _Form:
    seen: set[str] = set()
    columns: list[_NormalisedColumn | str] = []
    for name, unit in zip(shape.quantities, shape.units, strict=True):
        twice = f"{name} comes twice in one poll: the second is left out"
        columns.append(twice if name in seen else _column(name, unit, terms))
        seen.add(name)
    return _Form(columns, shape.quantities)


def _column(name: object, unit: object, terms: Terms) -> _NormalisedColumn | str:
    """Else why it becomes no value; nothing where that is as it should be."""
    if not isinstance(name, str) or not isinstance(unit, str):
        return f"{name!r} in {unit!r} is left out: a quantity and its unit are texts"
    if _is_text(name):
        return ""
    if name == DEVICE_UP or name.startswith(GUARDED):
        return f"{name} is left out: it is meterd's own"
    there = mirrored(name) if terms.swapped else Mirrored(name)
    quantity = describe(there.name, base_of(unit))
    if quantity is None:
        return f"{name} is left out: no quantity of that name is known; {suggest(name)}"
    found = conversion(unit, quantity.unit)
    if found is None:
        hint = suggest_unit(unit, quantity.unit)
        return f"{name} is left out: {unit!r} does not convert to {quantity.unit}; {hint}"
    sign = 1 if name in terms.sizes else there.sign
    scale = sign * terms.calibration.factor(name)
    return _NormalisedColumn(
        quantity,
        scale * found.factor,
        scale * found.offset + sign * terms.calibration.offset(name),
        there.turned,
        min(_bound(quantity, terms.max_power), LARGEST),
        min(_plausible(quantity, terms.max_power), LARGEST),
    )


def _bound(quantity: Quantity, max_power: float | None) -> float:
    """The largest magnitude that is a value of a device where so much can flow."""
    kind = kind_of(quantity)
    if kind == "power":
        return math.inf if max_power is None else max_power
    if kind == "energy" and quantity.kind is Kind.COUNTER:
        return largest_count(max_power or DEFAULT_POWER)
    return math.inf


def _plausible(quantity: Quantity, max_power: float | None) -> float:
    """The largest magnitude that raises no doubt."""
    assumed = max_power is None and kind_of(quantity) == "power"
    return min(quantity.high, DEFAULT_POWER) if assumed else quantity.high


def _is_text(name: object) -> bool:
    return isinstance(name, str) and name.startswith("info.")


_NOTHING = _Form((), ())


class Normaliser:
    """Turns one device's readings into polls; remembers which columns they had last time.

    `terms` are what is said of the device; `swapped` alone: it is mounted the other way round.
    `origin` names the driver to its author, where one gives what cannot be kept.
    """

    __slots__ = ("_last", "_mistakes", "_origin", "_shape", "_terms", "device", "notices")

    def __init__(
        self, device: str, *, swapped: bool = False, terms: Terms | None = None, origin: str = ""
    ) -> None:
        self.device = device
        self._origin = origin
        self._terms = Terms(swapped) if terms is None else terms
        self._shape: Shape | None = None
        self._last: _Form = _NOTHING
        self._mistakes: set[str] = set()
        self.notices: list[Notice] = []
        """What the driver gave that cannot be kept, each name once; who reads it empties it."""

    def poll(self, readings: Sequence[Reading], time: int, took: float) -> Poll:
        """The poll of a device that answered. What has no known name or unit is left out."""
        said = Columns.of(readings)
        if said.shape is not self._shape:
            self._shape, self._last = said.shape, _form(said.shape, self._terms)
            self._complain(self._last)
        form = self._last
        values = None if said.remarks else _good(form, said.values)
        if values is not None:
            return Poll(self.device, time, form.layout, values, NO_DOUBTS, NO_TEXTS, None, took)
        doubts: dict[int, QualityFlag] = {}
        found: list[float | None] = []
        for reading, column in zip(said, form.columns, strict=True):
            if column is None:
                continue
            value, doubt = _judged(reading, column)
            if doubt is not None:
                doubts[len(found)] = doubt
            found.append(value)
        texts = _told(said) if form.texts else NO_TEXTS
        return Poll(self.device, time, form.layout, (*found, 1.0), doubts, texts, took=took)

    def _complain(self, form: _Form) -> None:
        by = {"driver": self._origin} if self._origin else {}
        for name, mistake in form.mistakes.items():
            if name not in self._mistakes and len(self._mistakes) < _MOST_MISTAKES:
                self._mistakes.add(name)
                text = f"{mistake}; {self._origin}" if by else mistake
                data = {"quantity": name, **by}
                self.notices.append(Notice(EventKind.DRIVER_MISTAKE, text, data))


def _good(form: _Form, raws: Sequence[float]) -> "array[float] | None":
    """The values, `device.up` behind them, if all are plausible, as in nearly every poll."""
    if form.limits is None:
        return None
    values = [*raws, 1.0]
    for i, scale, offset in form.converted:
        values[i] = _rounded(values[i] * scale + offset)
    for i in form.turned:
        values[i] = opposite(values[i])
    # NaN fails every comparison.
    for value, (low, high, below) in zip(values, form.limits, strict=False):
        if not (low <= value <= high or below <= value <= -low or not value):
            return None
    return array("d", values)


def _told(readings: Sequence[Reading]) -> dict[str, str]:
    """What the device says of itself."""
    return {r[0]: r[1] for r in readings if isinstance(r[1], str) and r[0].startswith("info.")}


def _rounded(value: float) -> float:
    """Six digits. A whole number divided once is as exact as round(), at half its price."""
    if -_EXACT < value < _EXACT:
        return round(value * _FINEST) / _FINEST
    return round(value, 6)


def _counts_as_number(raw: object) -> TypeGuard[SupportsFloat]:
    """A plug-in may give a Decimal, or a number of another library's."""
    return isinstance(raw, SupportsFloat) and not isinstance(raw, str)


def _no_number(value: object) -> str:
    known = isinstance(value, float) or value is None
    return f"the device gives no number{'' if known else f', but {value!r:.40}'}"


def _judged(reading: Reading, column: _NormalisedColumn) -> tuple[float | None, QualityFlag | None]:
    """The value, and what is wrong with it; None if nothing is."""
    value = column.value(reading.value)
    if value is None:
        return None, QualityFlag(Quality.INVALID, reading.reason or _no_number(reading.value))
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
