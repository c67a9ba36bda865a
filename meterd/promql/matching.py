"""Vector matching: binary and set operators between two instant vectors.

Rows match by their signature: the labels of `on`, or all but those of `ignoring` and the name.
"""

from collections.abc import Callable

import numpy as np

from meterd.promql.binary import compute
from meterd.promql.budget import Budget
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    Mask,
    drop_labels,
    drop_name,
    empty_vector,
    keep_labels,
    label_text,
    label_value,
    merge_rows,
    pack_labels,
)
from meterd.promql.nodes import COMPARISONS, Binary, Matching
from meterd.promql.result import PromErrorType, QueryError

_NOT_EXPLICIT = "many-to-one matching must be explicit (group_left/group_right)"
_NOT_UNIQUE = "grouping labels must ensure unique matches"

Signature = Callable[[Labels], Labels]
Rows = dict[Labels, list[int]]


def _signature(matching: Matching) -> Signature:
    if matching.on:
        names = frozenset(matching.labels)
        return lambda labels: keep_labels(labels, names)
    dropped = frozenset((*matching.labels, NAME))
    return lambda labels: drop_labels(labels, dropped)


def _by_signature(vector: InstantVector, signature: Signature) -> Rows:
    rows: Rows = {}
    for row, labels in enumerate(vector.labels):
        rows.setdefault(signature(labels), []).append(row)
    return rows


def set_operation(
    op: str, left: InstantVector, right: InstantVector, matching: Matching
) -> InstantVector:
    """`and`, `or`, `unless`: by the presence of matching rows at each step, whatever the values."""
    signature = _signature(matching)
    first, second = (left, right) if op != "or" else (right, left)
    rows_by_signature = _by_signature(second, signature)
    present = first.present.copy()
    for row, labels in enumerate(first.labels):
        rows = rows_by_signature.get(signature(labels))
        matched = (
            second.present[rows].any(axis=0) if rows else np.zeros(present.shape[1], dtype=np.bool_)
        )
        present[row] &= matched if op == "and" else ~matched
    rest = InstantVector(first.labels, first.values, present)
    if op != "or":
        return rest
    return merge_rows(
        [*left.labels, *rest.labels],
        np.concatenate((left.values, rest.values)),
        np.concatenate((left.present, rest.present)),
    )


def combine(
    node: Binary, left: InstantVector, right: InstantVector, budget: Budget
) -> InstantVector:
    """Arithmetic or comparison of matching rows.

    Raises QueryError (execution) where a signature is not unique on the "one" side, or a
    many-to-one match was not declared by group_left or group_right.
    """
    matching = node.matching
    signature = _signature(matching)
    many_side, one_side = (right, left) if matching.many == "right" else (left, right)
    rows_by_signature = _by_signature(one_side, signature)
    both = np.asarray(many_side.present.any(axis=0) & one_side.present.any(axis=0))
    side = "left" if matching.many == "right" else "right"
    for key, rows in rows_by_signature.items():
        _check_unique(one_side, rows, both, key, side)
    pairs = [
        (row, one_row, key)
        for row, key in enumerate(map(signature, many_side.labels))
        for one_row in rows_by_signature.get(key, ())
    ]
    if not pairs:
        return empty_vector(both.shape[0])
    budget.spend(len(pairs) * len(both))
    return _apply_pairs(node, many_side, one_side, pairs)


def _check_unique(
    one_side: InstantVector, rows: list[int], both: Mask, key: Labels, side: str
) -> None:
    """Raises QueryError where two rows of the "one" side share a signature at the same step."""
    clashes = (one_side.present[rows].sum(axis=0) > 1) & both
    if len(rows) < 2 or not clashes.any():
        return
    step = int(clashes.argmax())
    first, second = [row for row in rows if one_side.present[row, step]][:2]
    raise QueryError(
        PromErrorType.EXECUTION,
        f"found duplicate series for the match group {label_text(key)} on the {side} hand-side of "
        f"the operation: [{label_text(one_side.labels[second])}, "
        f"{label_text(one_side.labels[first])}]"
        ";many-to-many matching not allowed: matching labels must be unique on one side",
    )


def _apply_pairs(
    node: Binary,
    many_side: InstantVector,
    one_side: InstantVector,
    pairs: list[tuple[int, int, Labels]],
) -> InstantVector:
    many_rows = [row for row, _, _ in pairs]
    one_rows = [row for _, row, _ in pairs]
    labels = [
        _result_labels(node, many_side.labels[row], one_side.labels[one_row])
        for row, one_row, _ in pairs
    ]
    present = many_side.present[many_rows] & one_side.present[one_rows]
    _check_cardinality(node.matching, pairs, labels, present)
    left, right = many_side.values[many_rows], one_side.values[one_rows]
    if node.matching.many == "right":
        left, right = right, left
    values = compute(node.op, left, right)
    if node.op in COMPARISONS and not node.bool_:
        present = present & (values > 0)
        values = left
    return merge_rows(labels, values, present)


def _check_cardinality(
    matching: Matching,
    pairs: list[tuple[int, int, Labels]],
    labels: list[Labels],
    present: np.ndarray,
) -> None:
    """Raises QueryError for a second match at one step.

    One-to-one: of a signature; many-to-one: of a label set of the result.
    """
    groups: dict[object, list[int]] = {}
    for index, (_, _, key) in enumerate(pairs):
        groups.setdefault(key if matching.many is None else (key, labels[index]), []).append(index)
    for places in groups.values():
        if len(places) > 1 and (present[places].sum(axis=0) > 1).any():
            why = _NOT_EXPLICIT if matching.many is None else _NOT_UNIQUE
            raise QueryError(PromErrorType.EXECUTION, f"multiple matches for labels: {why}")


def _result_labels(node: Binary, many_side: Labels, one_side: Labels) -> Labels:
    """The result's labels: of the "many" side, reduced to the signature where it is one-to-one,
    plus the labels that group_left or group_right takes from the "one" side."""
    matching = node.matching
    if node.op not in COMPARISONS or node.bool_:
        many_side = drop_name(many_side)
    if matching.many is None:
        names = frozenset(matching.labels)
        return keep_labels(many_side, names) if matching.on else drop_labels(many_side, names)
    return pack_labels(
        dict(many_side) | {name: label_value(one_side, name) for name in matching.include}
    )
