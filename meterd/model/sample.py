"""What a device said (Reading), what is held to be true (Sample, Poll), and who takes it (Sink).

Drivers, which give readings, are in model/driver.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from meterd.model.quantity import DEVICE_UP

# No quantity of any unit is measured beyond it, and sums of a lifetime of such values are numbers.
LARGEST = 1e300


class Quality(StrEnum):
    """How far a value may be trusted."""

    GOOD = "good"
    ESTIMATED = "estimated"
    SUSPECT = "suspect"
    STALE = "stale"
    INVALID = "invalid"


class Reading(NamedTuple):
    """One value as the device said it, in the device's unit.

    A text is an `info.` quantity. A value that is not there is None, with the reason. Without a
    unit it is a plain number (1), and never a share of 100.
    (A tuple, unlike the house's other values: thousands are made a second.)
    """

    quantity: str
    value: float | str | None
    unit: str = ""
    reason: str = ""
    quality: Quality = Quality.GOOD


class CounterRegister(NamedTuple):
    """How a register counts: its type, canonical units per raw step (None where the device can
    change it), the raw value at which it starts again, and the most that it rises by in an hour,
    in canonical units (None: what the device's power or its unit allows). `source` tells it from
    any other: where it is and how its words become a number; where that changes, so does the
    counter."""

    quantity: str
    type: str
    step: float | None = None
    wrap: int | None = None
    rate: float | None = None
    source: str = ""


class QualityFlag(NamedTuple):
    """Why a value is not simply good."""

    quality: Quality
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series at one time: canonical unit, house sign, Unix ms UTC."""

    device: str
    quantity: str
    time: int
    value: float | None
    unit: str
    quality: Quality = Quality.GOOD
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a poll failed: a stable code and a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a poll. One object serves all polls that have the same columns."""

    quantities: tuple[str, ...]
    units: tuple[str, ...]
    index: Mapping[str, int] = field(repr=False, compare=False, default_factory=dict)

    @classmethod
    def of(cls, columns: Sequence[tuple[str, str]]) -> "Layout":
        """From (quantity, unit) pairs."""
        names = tuple(name for name, _ in columns)
        return cls(names, tuple(unit for _, unit in columns), {n: i for i, n in enumerate(names)})


@dataclass(frozen=True, slots=True)
class Poll:
    """All that one poll of one device gave, as columns; the last column is `device.up`.

    `values[i]` belongs to `layout.quantities[i]`. `doubts` names only the columns that are
    not simply good, so a healthy poll carries none. `took` is in seconds.
    (A poll whose values are all there may hold them as an array of doubles: a third of the memory,
    and nothing in it for the collector to look at.)
    """

    device: str
    time: int
    layout: Layout
    values: Sequence[float | None]
    doubts: Mapping[int, QualityFlag] = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    took: float = 0.0

    @property
    def up(self) -> bool:
        return self.fault is None

    def value(self, quantity: str) -> float | None:
        """The value of one quantity; None where it is absent or not known."""
        column = self.layout.index.get(quantity)
        return None if column is None else self.values[column]

    def samples(self) -> Iterator[Sample]:
        """One Sample a column."""
        good = QualityFlag(Quality.GOOD, "")
        columns = zip(self.layout.quantities, self.layout.units, self.values, strict=True)
        for column, (quantity, unit, value) in enumerate(columns):
            quality, reason = self.doubts.get(column, good)
            yield Sample(self.device, quantity, self.time, value, unit, quality, reason)


DOWN = Layout.of([(DEVICE_UP, "1")])


def failed(device: str, time: int, fault: Fault, took: float = 0.0) -> Poll:
    """The poll of a device that did not answer: `device.up` is 0 and nothing else is known."""
    return Poll(device, time, DOWN, (0.0,), fault=fault, took=took)


class Sink(Protocol):
    """Who wants polls. Takes them at once and never waits: slow work has its own queue."""

    def take(self, poll: Poll) -> None:
        """One poll, good or failed."""


def finite(value: float) -> float | None:
    """The value, or None for NaN, infinities and what is beyond LARGEST: no measurements."""
    return value if abs(value) <= LARGEST else None
