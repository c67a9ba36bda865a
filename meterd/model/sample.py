"""Readings as devices give them, normalised samples and polls, and the Sink protocol.

Drivers, which give readings, are in model/driver.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from meterd.model.quantity import DEVICE_UP

# Larger values are no measurements; sums of a lifetime of values up to it do not overflow.
LARGEST = 1e300


class Quality(StrEnum):
    """The quality of a value."""

    GOOD = "good"
    ESTIMATED = "estimated"
    SUSPECT = "suspect"
    STALE = "stale"
    INVALID = "invalid"


class Reading(NamedTuple):
    """One value as the device gave it, in the device's unit.

    A text is the value of an `info.` quantity. A missing value is None, with the reason. Without a
    unit it is a plain number (1), never a percentage.
    (A tuple, not a dataclass: thousands are made per second.)
    """

    quantity: str
    value: float | str | None
    unit: str = ""
    reason: str = ""
    quality: Quality = Quality.GOOD


class CounterRegister(NamedTuple):
    """How a counter register counts.

    `step` is the canonical units per raw step (None where the device can change it), `wrap` the
    raw value at which it restarts from 0, `rate` the largest increase per hour in canonical units
    (None: as the device's power or the unit allows). `source` identifies the register: its
    address and decoding; where it changes, it is another counter.
    """

    quantity: str
    type: str
    step: float | None = None
    wrap: int | None = None
    rate: float | None = None
    source: str = ""


class QualityFlag(NamedTuple):
    """The quality of a value that is not good, and the reason."""

    quality: Quality
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series at one time (Unix ms UTC); canonical unit, import is positive."""

    device: str
    quantity: str
    time: int
    value: float | None
    unit: str
    quality: Quality = Quality.GOOD
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a poll failed: a stable code and a sentence."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a poll; shared by all polls with the same columns. `index`: by quantity."""

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
    """The result of one poll of one device, in columns; the last column is `device.up`.

    `values[i]` belongs to `layout.quantities[i]`. `doubts` has the quality flags of the columns
    that are not good, by index. `time` is Unix ms UTC, `took` the poll's duration in seconds.
    (Without missing values they may be an array of doubles: a third of the memory, and nothing
    for the garbage collector to traverse.)
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
        """The value of a quantity; None where it is absent or has no value."""
        column = self.layout.index.get(quantity)
        return None if column is None else self.values[column]

    def samples(self) -> Iterator[Sample]:
        """One Sample per column."""
        good = QualityFlag(Quality.GOOD, "")
        columns = zip(self.layout.quantities, self.layout.units, self.values, strict=True)
        for column, (quantity, unit, value) in enumerate(columns):
            quality, reason = self.doubts.get(column, good)
            yield Sample(self.device, quantity, self.time, value, unit, quality, reason)


DOWN = Layout.of([(DEVICE_UP, "1")])


def failed(device: str, time: int, fault: Fault, took: float = 0.0) -> Poll:
    """The poll of a device that did not answer: `device.up` is 0, there are no other columns."""
    return Poll(device, time, DOWN, (0.0,), fault=fault, took=took)


class Sink(Protocol):
    """A consumer of polls. `take` never blocks: slow work has a queue of its own."""

    def take(self, poll: Poll) -> None:
        """Takes one poll, successful or failed."""


def finite(value: float) -> float | None:
    """The value; None for NaN, infinities and magnitudes beyond LARGEST."""
    return value if abs(value) <= LARGEST else None
