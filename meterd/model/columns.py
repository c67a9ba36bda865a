"""Readings as columns: what a driver says each time in the same order, no object a value."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

from meterd.model.sample import Quality, Reading

_GOOD = Quality.GOOD
# A site has a few shapes for each model of meter that it polls.
_MOST_SHAPES = 2000


class Shape:
    """Which quantities in which units. Two of them are the same only if they are one object."""

    __slots__ = ("quantities", "units")

    def __init__(self, quantities: tuple[str, ...], units: tuple[str, ...]) -> None:
        self.quantities = quantities
        self.units = units


class Remark(NamedTuple):
    """What a value that is not simply a good float has with it."""

    reason: str
    quality: Quality


NO_REMARKS: Mapping[int, Remark] = {}


class Columns(Sequence[Reading]):
    """Readings, held as columns; reads as a sequence of Reading.

    `values[i]` belongs to `shape.quantities[i]`. A column without a remark holds a float, and
    it is good; every other one has its remark. Not to be changed once it is made.
    """

    __slots__ = ("remarks", "shape", "values")

    def __init__(
        self,
        shape: Shape,
        values: Sequence[Any],
        remarks: Mapping[int, Remark] = NO_REMARKS,
    ) -> None:
        self.shape = shape
        self.values = values
        self.remarks = remarks

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> "Columns":
        """From single readings."""
        if isinstance(readings, Columns):
            return readings
        names = tuple(reading.quantity for reading in readings)
        shape = shape_of(names, tuple(reading.unit for reading in readings))
        remarks = {
            i: Remark(reading.reason, reading.quality)
            for i, reading in enumerate(readings)
            if reading.quality is not _GOOD or reading.value.__class__ is not float
        }
        return cls(shape, [reading.value for reading in readings], remarks)

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """All of the parts' columns, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        values: list[Any] = []
        remarks: dict[int, Remark] = {}
        for part in parts:
            if part.remarks:
                remarks |= {len(values) + i: remark for i, remark in part.remarks.items()}
            values += part.values
        return cls(_joined(*[part.shape for part in parts]), values, remarks)

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Reading: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reading]: ...
    def __getitem__(self, index: int | slice) -> Reading | Sequence[Reading]:
        places = range(len(self.values))[index]
        return self._at(places) if isinstance(places, int) else [self._at(i) for i in places]

    def __iter__(self) -> Iterator[Reading]:
        return map(self._at, range(len(self.values)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as lists: what can be equal to one has no hash

    def __repr__(self) -> str:
        return f"Columns({list(self)!r})"

    def _at(self, i: int) -> Reading:
        reason, quality = self.remarks.get(i, ("", _GOOD))
        return Reading(
            self.shape.quantities[i], self.values[i], self.shape.units[i], reason, quality
        )


@lru_cache(maxsize=_MOST_SHAPES)
def shape_of(quantities: tuple[str, ...], units: tuple[str, ...]) -> Shape:
    """The one shape with these columns."""
    return Shape(quantities, units)


@lru_cache(maxsize=_MOST_SHAPES)
def _joined(*shapes: Shape) -> Shape:
    quantities = tuple(name for shape in shapes for name in shape.quantities)
    return shape_of(quantities, tuple(unit for shape in shapes for unit in shape.units))
