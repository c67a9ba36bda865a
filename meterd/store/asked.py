"""What a reader is asked for, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from meterd.model.quantity import Kind
from meterd.store.buckets import FOLDS

Name = tuple[str, str, str]
"""Device, quantity, unit: together they name a series."""


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """One series that holds samples. Times are Unix ms UTC of the oldest and newest sample.

    Once old samples were deleted, `first` is the earliest that the oldest can be.
    """

    device: str
    quantity: str
    unit: str
    kind: Kind
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SeriesPoints:
    """One series' points, (Unix ms, value) in time order."""

    device: str
    quantity: str
    unit: str
    points: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A window start <= time < end in Unix ms; None asks for all names."""

    devices: frozenset[str] | None
    quantities: frozenset[str] | None
    start: int
    end: int
    step: int
    agg: str

    @classmethod
    def of(
        cls,
        devices: Sequence[str] | None,
        quantities: Sequence[str] | None,
        start: int,
        end: int,
        step: int,
        agg: str,
    ) -> "Asked":
        """Raises ValueError for a negative step and an aggregate that is none."""
        if step < 0:
            raise ValueError(f"step must be 0 (raw) or more ms, not {step}")
        if agg not in FOLDS:
            raise ValueError(f"agg must be one of {' '.join(FOLDS)}, not {agg!r}")
        return cls(
            None if devices is None else frozenset(devices),
            None if quantities is None else frozenset(quantities),
            # No sample is older than 1970, and SQL's remainder of negatives is another one.
            max(0, start),
            end,
            step,
            agg,
        )

    def wants_device(self, name: str) -> bool:
        return self.devices is None or name in self.devices

    def wants_quantity(self, name: str) -> bool:
        return self.quantities is None or name in self.quantities
