"""Readings in columnar form: quantities and units once per layout, values per poll."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

from meterd.model.sample import Quality, Reading

_GOOD = Quality.GOOD
# A site has a few shapes per model of meter.
_SHAPE_CACHE_SIZE = 2000


class Shape:
    """The quantities and units of Columns, by index; compared by identity (see `shape_of`)."""

    __slots__ = ("quantities", "units")

    def __init__(self, quantities: tuple[str, ...], units: tuple[str, ...]) -> None:
        self.quantities = quantities
        self.units = units


class Remark(NamedTuple):
    """The reason and quality of a value that is not a good float."""

    reason: str
    quality: Quality


NO_REMARKS: Mapping[int, Remark] = {}


class Columns(Sequence[Reading]):
    """Readings in columnar form; a Sequence of Reading. Immutable by convention.

    `values[i]` belongs to `shape.quantities[i]`. A column without a remark holds a float of
    quality good; every other column has a remark.
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
        """Columns of single readings; Columns are returned as they are."""
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
        """The concatenation of the parts."""
        if len(parts) == 1:
            return parts[0]
        values: list[Any] = []
        remarks: dict[int, Remark] = {}
        for part in parts:
            if part.remarks:
                remarks |= {len(values) + i: remark for i, remark in part.remarks.items()}
            values += part.values
        return cls(_join_shapes(*[part.shape for part in parts]), values, remarks)

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Reading: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reading]: ...
    def __getitem__(self, index: int | slice) -> Reading | Sequence[Reading]:
        columns = range(len(self.values))[index]
        return (
            self._reading(columns)
            if isinstance(columns, int)
            else [self._reading(i) for i in columns]
        )

    def __iter__(self) -> Iterator[Reading]:
        return map(self._reading, range(len(self.values)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have no hash either

    def __repr__(self) -> str:
        return f"Columns({list(self)!r})"

    def _reading(self, i: int) -> Reading:
        reason, quality = self.remarks.get(i, ("", _GOOD))
        return Reading(
            self.shape.quantities[i], self.values[i], self.shape.units[i], reason, quality
        )


@lru_cache(maxsize=_SHAPE_CACHE_SIZE)
def shape_of(quantities: tuple[str, ...], units: tuple[str, ...]) -> Shape:
    """The Shape of these columns, the same object for equal arguments."""
    return Shape(quantities, units)


@lru_cache(maxsize=_SHAPE_CACHE_SIZE)
def _join_shapes(*shapes: Shape) -> Shape:
    quantities = tuple(name for shape in shapes for name in shape.quantities)
    return shape_of(quantities, tuple(unit for shape in shapes for unit in shape.units))
