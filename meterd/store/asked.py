"""What a reader is asked for, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from meterd.model.quantity import Kind
from meterd.store.catalog import Name

AGGREGATES = ("avg", "min", "max", "last", "sum", "count")


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """One series that holds samples. Times are Unix ms UTC of the oldest and newest sample."""

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
        if agg not in AGGREGATES:
            raise ValueError(f"agg must be one of {' '.join(AGGREGATES)}, not {agg!r}")
        return cls(
            None if devices is None else frozenset(devices),
            None if quantities is None else frozenset(quantities),
            max(0, start),
            end,
            step,
            agg,
        )

    def wants(self, name: Name) -> bool:
        return (self.devices is None or name[0] in self.devices) and (
            self.quantities is None or name[1] in self.quantities
        )
