"""Instant vectors over all steps of a query: one row a label set, with a presence mask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Values

Labels = tuple[tuple[str, str], ...]  # sorted by name, no empty value
Mask = NDArray[np.bool_]

NAME = "__name__"
_METADATA_LABELS = frozenset((NAME, "__type__", "__unit__"))  # dropped together with the name
SAME_LABELS = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True, slots=True)
class InstantVector:
    """labels: n; values: n x steps; present: n x steps, False where the row has no value."""

    labels: list[Labels]
    values: Values
    present: Mask

    def rows(self, indices: Sequence[int]) -> "InstantVector":
        rows = list(indices)
        return InstantVector(
            [self.labels[row] for row in rows], self.values[rows], self.present[rows]
        )


def pack_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def label_value(labels: Labels, name: str) -> str:
    for key, value in labels:
        if key == name:
            return value
    return ""


def drop_name(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in _METADATA_LABELS)


def keep_labels(labels: Labels, names: frozenset[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def drop_labels(labels: Labels, names: frozenset[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def label_text(labels: Labels) -> str:
    """A label set as Prometheus prints it in messages: {a="b", c="d"}."""
    quoted = (f'{name}="{value}"' for name, value in labels)
    return "{" + ", ".join(quoted) + "}"


def empty_vector(steps: int) -> InstantVector:
    return InstantVector([], np.empty((0, steps)), np.empty((0, steps), dtype=np.bool_))


def single_row(values: Values, labels: Labels = ()) -> InstantVector:
    """One row that is present at every step."""
    return InstantVector([labels], values[None, :], np.ones((1, len(values)), dtype=np.bool_))


def map_values(vector: InstantVector, change: Callable[[Values], Values]) -> InstantVector:
    """An elementwise function of the values; metric names are dropped."""
    with np.errstate(all="ignore"):
        values = change(vector.values)
    return merge_rows([drop_name(labels) for labels in vector.labels], values, vector.present)


def merge_rows(labels: list[Labels], values: Values, present: Mask) -> InstantVector:
    """Merges rows with equal label sets, such as after the metric name was dropped.

    Raises QueryError (execution) where two of them have a value at the same step.
    """
    if len(set(labels)) == len(labels):
        return InstantVector(labels, values, present)
    groups: dict[Labels, list[int]] = {}
    for row, row_labels in enumerate(labels):
        groups.setdefault(row_labels, []).append(row)
    shape = (len(groups), values.shape[1])
    merged, merged_present = np.empty(shape), np.empty(shape, dtype=np.bool_)
    for group, rows in enumerate(groups.values()):
        rows_present = present[rows]
        if (rows_present.sum(axis=0) > 1).any():
            raise QueryError(PromErrorType.EXECUTION, SAME_LABELS)
        merged_present[group] = rows_present.any(axis=0)
        merged[group] = np.take_along_axis(
            values[rows], rows_present.argmax(axis=0)[None, :], axis=0
        )[0]
    return InstantVector(list(groups), merged, merged_present)
