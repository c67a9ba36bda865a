"""A vector over all steps: one row of values a label set, and where it has a value at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Values

Labels = tuple[tuple[str, str], ...]  # sorted by name, no empty value
Mask = NDArray[np.bool_]

NAME = "__name__"
_ABOUT_NAME = frozenset((NAME, "__type__", "__unit__"))  # go where the name goes
SAME_LABELS = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True, slots=True)
class InstantVector:
    """labels: n; values: n x steps; here: n x steps, False where the row has no value."""

    labels: list[Labels]
    values: Values
    here: Mask

    def rows(self, places: Sequence[int]) -> "InstantVector":
        picked = list(places)
        return InstantVector(
            [self.labels[row] for row in picked], self.values[picked], self.here[picked]
        )


def pack(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def get(labels: Labels, name: str) -> str:
    for key, value in labels:
        if key == name:
            return value
    return ""


def nameless(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in _ABOUT_NAME)


def kept(labels: Labels, names: frozenset[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def left_out(labels: Labels, names: frozenset[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def text(labels: Labels) -> str:
    """As Prometheus prints a label set in its messages."""
    quoted = (f'{name}="{value}"' for name, value in labels)
    return "{" + ", ".join(quoted) + "}"


def empty(steps: int) -> InstantVector:
    return InstantVector([], np.empty((0, steps)), np.empty((0, steps), dtype=np.bool_))


def single(values: Values, labels: Labels = ()) -> InstantVector:
    """One row that is there at every step."""
    return InstantVector([labels], values[None, :], np.ones((1, len(values)), dtype=np.bool_))


def mapped(frame: InstantVector, change: Callable[[Values], Values]) -> InstantVector:
    """Values changed one by one; the name goes."""
    with np.errstate(all="ignore"):
        values = change(frame.values)
    return united([nameless(each) for each in frame.labels], values, frame.here)


def united(labels: list[Labels], values: Values, here: Mask) -> InstantVector:
    """Rows that got one label set become one row, if never two of them have a value at once.

    Raises QueryError (execution) if they have.
    """
    if len(set(labels)) == len(labels):
        return InstantVector(labels, values, here)
    groups: dict[Labels, list[int]] = {}
    for row, each in enumerate(labels):
        groups.setdefault(each, []).append(row)
    shape = (len(groups), values.shape[1])
    out, there = np.empty(shape), np.empty(shape, dtype=np.bool_)
    for place, rows in enumerate(groups.values()):
        present = here[rows]
        if (present.sum(axis=0) > 1).any():
            raise QueryError(PromErrorType.EXECUTION, SAME_LABELS)
        there[place] = present.any(axis=0)
        out[place] = np.take_along_axis(values[rows], present.argmax(axis=0)[None, :], axis=0)[0]
    return InstantVector(list(groups), out, there)
