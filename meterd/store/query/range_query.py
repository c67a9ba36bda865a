"""Requests to the reader for ranges, and the shapes of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from meterd.model.quantity import Kind
from meterd.store.blocks.rollup import QUARTER_MS
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Name

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
class SeriesRequest:
    """A window start <= time < end in Unix ms; None asks for all names.

    `edges`, where there are any, are where buckets begin, the first at or before `start`; else
    they begin at multiples of `step`.
    """

    devices: frozenset[str] | None
    quantities: frozenset[str] | None
    start: int
    end: int
    step: int
    agg: str
    edges: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        devices: Sequence[str] | None,
        quantities: Sequence[str] | None,
        start: int,
        end: int,
        step: int,
        agg: str,
        edges: Sequence[int] = (),
    ) -> "SeriesRequest":
        """Raises ValueError for a negative step, no aggregate, and edges that do not fit."""
        if step < 0:
            raise ValueError(f"step must be 0 (raw) or more ms, not {step}")
        if agg not in AGGREGATES:
            raise ValueError(f"agg must be one of {' '.join(AGGREGATES)}, not {agg!r}")
        if edges and (step == 0 or edges[0] > max(0, start) or list(edges) != sorted(set(edges))):
            raise ValueError("edges must rise from start, and need a step")
        return cls(
            None if devices is None else frozenset(devices),
            None if quantities is None else frozenset(quantities),
            max(0, start),
            end,
            step,
            agg,
            tuple(edges),
        )

    @property
    def is_of_quarters(self) -> bool:
        """Whether each bucket is made of whole quarter hours of UTC."""
        return all(edge % QUARTER_MS == 0 for edge in self.edges or (self.step,))

    @property
    def is_of_days(self) -> bool:
        """Whether each bucket is made of whole days of UTC."""
        return all(edge % DAY == 0 for edge in self.edges or (self.step,))

    def wants(self, name: Name) -> bool:
        return (self.devices is None or name[0] in self.devices) and (
            self.quantities is None or name[1] in self.quantities
        )
