"""Aggregation operators (sum, avg, topk, quantile, count_values …) over instant vectors.

Rows are grouped by the labels of `by` or `without`; each group becomes one row, or keeps some
of its rows (topk, bottomk, limitk, limit_ratio).
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.encode import number
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    Mask,
    drop_labels,
    empty_vector,
    keep_labels,
    pack_labels,
)
from meterd.promql.nodes import Aggregate
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Values
from meterd.promql.stats import mean, quantiles, total, variance

_INT64 = 2.0**63

Groups = dict[Labels, list[int]]
# (values with 0 where absent, presence mask, number of present rows at each step) -> one row
Fold = Callable[[Values, Mask, np.ndarray], Values]


def _extreme(pick: Callable[..., Values], values: Values, present: Mask) -> Values:
    return pick(np.where(present, values, np.nan), axis=0)


FOLDS: dict[str, Fold] = {
    "sum": lambda values, present, count: total(values),
    "avg": mean,
    "min": lambda values, present, count: _extreme(np.fmin.reduce, values, present),
    "max": lambda values, present, count: _extreme(np.fmax.reduce, values, present),
    "count": lambda values, present, count: count.astype(np.float64),
    "group": lambda values, present, count: np.ones(len(count)),
    "stdvar": variance,
    "stddev": lambda values, present, count: np.sqrt(variance(values, present, count)),
}


def group_rows(node: Aggregate, labels: Sequence[Labels]) -> Groups:
    """Row indices by the group's labels: those of `by`, or all but those of `without`."""
    names = frozenset(node.labels) if node.by else frozenset((*node.labels, NAME))
    project = keep_labels if node.by else drop_labels
    groups: Groups = {}
    for row, row_labels in enumerate(labels):
        groups.setdefault(project(row_labels, names), []).append(row)
    return groups


def fold_groups(vector: InstantVector, groups: Groups, fold: Fold, budget: Budget) -> InstantVector:
    """One row a group: `fold` over its rows at each step. Raises QueryError (budget)."""
    shape = (len(groups), vector.values.shape[1])
    values, present = np.empty(shape), np.empty(shape, dtype=np.bool_)
    for group, rows in enumerate(groups.values()):
        budget.check_deadline()
        rows_present = vector.present[rows]
        present[group] = rows_present.any(axis=0)
        data = np.where(rows_present, vector.values[rows], 0.0)
        with np.errstate(all="ignore"):
            values[group] = fold(data, rows_present, rows_present.sum(axis=0))
    return InstantVector(list(groups), values, present)


def quantile(ranks: Values, budget: Budget) -> Fold:
    check_quantile(ranks, budget)

    def fold(values: Values, present: Mask, count: np.ndarray) -> Values:
        return quantiles(values, present, count, ranks)

    return fold


def check_quantile(ranks: Values, budget: Budget) -> None:
    for value in np.unique(ranks[~((ranks >= 0) & (ranks <= 1))]).tolist()[:3]:
        budget.warn(f"quantile value should be between 0 and 1, got {number(value)}")


def topk(vector: InstantVector, groups: Groups, counts: Values, *, largest: bool) -> InstantVector:
    """topk, bottomk: the `counts` largest or smallest rows of each group at each step.

    NaN ranks last. An instant query (one step) returns the rows in that order.
    """
    limit = _row_limits(counts)
    selected = np.zeros_like(vector.present)
    order: list[int] = []
    for rows in groups.values():
        values, rows_present = vector.values[rows], vector.present[rows]
        key = -values if largest else values
        ranked = np.lexsort((key, np.isnan(values), ~rows_present), axis=0)
        position = np.empty_like(ranked)
        np.put_along_axis(position, ranked, np.arange(len(rows))[:, None], axis=0)
        selected[rows] = rows_present & (position < limit)
        order += [rows[row] for row in ranked[:, 0].tolist()]
    best = InstantVector(vector.labels, vector.values, selected)
    return best.rows(order) if vector.values.shape[1] == 1 else best


def limitk(vector: InstantVector, groups: Groups, counts: Values) -> InstantVector:
    """The first `counts` present rows of each group at each step."""
    limit = _row_limits(counts)
    selected = np.zeros_like(vector.present)
    for rows in groups.values():
        rows_present = vector.present[rows]
        selected[rows] = rows_present & (np.cumsum(rows_present, axis=0) <= limit)
    return InstantVector(vector.labels, vector.values, selected)


def limit_ratio(vector: InstantVector, ratio: Values, budget: Budget) -> InstantVector:
    """A share of the series, chosen by a hash of their labels; -r is the complement of 1 - r.

    A ratio beyond 1 is capped with a warning. Raises QueryError (execution) for NaN.
    """
    if np.isnan(ratio).any():
        raise QueryError(PromErrorType.EXECUTION, "Ratio value is NaN")
    out_of_range = ratio[np.abs(ratio) > 1]
    if len(out_of_range):
        value, bound = number(out_of_range[0]), "1" if out_of_range[0] > 0 else "-1"
        budget.warn(f"ratio value should be between -1 and 1, got {value}, capping to {bound}")
    ratio = np.clip(ratio, -1, 1)
    hashes = np.array([_label_hash(labels) for labels in vector.labels])[:, None]
    selected = np.where(ratio >= 0, hashes < ratio, hashes >= 1 + ratio)
    return InstantVector(vector.labels, vector.values, vector.present & selected)


def _label_hash(labels: Labels) -> float:
    """A hash in [0, 1) of the labels alone: a series is chosen in every query or in none."""
    digest = hashlib.blake2b(repr(labels).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / (1 << 48)


def _row_limits(limits: Values) -> np.ndarray:
    """The parameter of topk, bottomk and limitk as whole numbers; below 1 selects no row.

    Raises QueryError (execution) for NaN, and beyond int64 as Prometheus does.
    """
    if np.isnan(limits).any():
        raise QueryError(PromErrorType.EXECUTION, "Parameter value is NaN")
    for overflow, verb in ((limits >= _INT64, "overflows"), (limits <= -_INT64, "underflows")):
        if overflow.any() and limits.max() >= 1:
            value = number(float(limits[overflow][0]))
            raise QueryError(PromErrorType.EXECUTION, f"Scalar value {value} {verb} int64")
    return np.clip(limits, 0, 1e9).astype(np.int64)


def count_values(
    vector: InstantVector, node: Aggregate, label: str, budget: Budget
) -> InstantVector:
    """The number of rows of a group with each value; `label` of the result holds the value.

    Raises QueryError (execution) for an empty label name. `by` and `without` apply to `label`, too.
    """
    if not label:
        raise QueryError(PromErrorType.EXECUTION, f'invalid label name "{label}"')
    names = frozenset((*node.labels, label) if node.by else (*node.labels, NAME))
    project = keep_labels if node.by else drop_labels
    groups: Groups = {}
    for row, row_labels in enumerate(vector.labels):
        groups.setdefault(drop_labels(project(row_labels, names), frozenset((label,))), []).append(
            row
        )
    counts: dict[Labels, np.ndarray] = {}
    for base, rows in groups.items():
        values, table = _value_counts(vector.values[rows], vector.present[rows], budget)
        for value, count in zip(values.tolist(), table, strict=True):
            key = pack_labels(
                dict(base) | dict(project(((label, number(value, plain=True)),), names))
            )
            counts[key] = counts.get(key, 0) + count
    if not counts:
        return empty_vector(vector.values.shape[1])
    table = np.array(list(counts.values()), dtype=np.float64)
    return InstantVector(list(counts), table, table > 0)


def _value_counts(values: Values, present: Mask, budget: Budget) -> tuple[Values, np.ndarray]:
    """The distinct values of the rows, and the count of each: distinct values x steps."""
    steps = values.shape[1]
    distinct, value_index = np.unique(values[present], return_inverse=True)
    budget.spend(len(distinct) * steps)
    cells = value_index * steps + np.nonzero(present)[1]
    table = np.bincount(cells, minlength=len(distinct) * steps)
    return distinct, table.reshape(len(distinct), steps)
