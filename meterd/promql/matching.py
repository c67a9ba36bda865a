"""Two vectors: which rows of one meet which of the other, and what the answer is called."""

from collections.abc import Callable

import numpy as np

from meterd.promql.binary import compute
from meterd.promql.budget import Budget
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    Mask,
    empty,
    get,
    kept,
    left_out,
    nameless,
    pack,
    text,
    united,
)
from meterd.promql.nodes import COMPARISONS, Binary, Matching
from meterd.promql.result import PromErrorType, QueryError

_EXPLICIT = "many-to-one matching must be explicit (group_left/group_right)"
_UNIQUE = "grouping labels must ensure unique matches"

Signature = Callable[[Labels], Labels]
Rows = dict[Labels, list[int]]


def _signature(matching: Matching) -> Signature:
    if matching.on:
        names = frozenset(matching.labels)
        return lambda labels: kept(labels, names)
    dropped = frozenset((*matching.labels, NAME))
    return lambda labels: left_out(labels, dropped)


def _by_signature(frame: InstantVector, signature: Signature) -> Rows:
    found: Rows = {}
    for row, labels in enumerate(frame.labels):
        found.setdefault(signature(labels), []).append(row)
    return found


def sets(op: str, left: InstantVector, right: InstantVector, matching: Matching) -> InstantVector:
    """and, or, unless: by presence alone, step by step."""
    signature = _signature(matching)
    first, second = (left, right) if op != "or" else (right, left)
    there = _by_signature(second, signature)
    here = first.here.copy()
    for row, labels in enumerate(first.labels):
        rows = there.get(signature(labels))
        met = second.here[rows].any(axis=0) if rows else np.zeros(here.shape[1], dtype=np.bool_)
        here[row] &= met if op == "and" else ~met
    rest = InstantVector(first.labels, first.values, here)
    if op != "or":
        return rest
    return united(
        [*left.labels, *rest.labels],
        np.concatenate((left.values, rest.values)),
        np.concatenate((left.here, rest.here)),
    )


def combine(
    node: Binary, left: InstantVector, right: InstantVector, budget: Budget
) -> InstantVector:
    """Arithmetic or comparison of matching rows.

    Raises QueryError (execution) where the one side is not unique, or many was not declared.
    """
    matching = node.matching
    signature = _signature(matching)
    many, one = (right, left) if matching.many == "right" else (left, right)
    ones = _by_signature(one, signature)
    both = np.asarray(many.here.any(axis=0) & one.here.any(axis=0))
    side = "left" if matching.many == "right" else "right"
    for key, rows in ones.items():
        _alone(one, rows, both, key, side)
    pairs = [
        (row, other, key)
        for row, key in enumerate(map(signature, many.labels))
        for other in ones.get(key, ())
    ]
    if not pairs:
        return empty(both.shape[0])
    budget.spend(len(pairs) * len(both))
    return _paired(node, many, one, pairs)


def _alone(one: InstantVector, rows: list[int], both: Mask, key: Labels, side: str) -> None:
    """At no step may two rows of the one side have the same signature."""
    clash = (one.here[rows].sum(axis=0) > 1) & both
    if len(rows) < 2 or not clash.any():
        return
    step = int(clash.argmax())
    first, second = [row for row in rows if one.here[row, step]][:2]
    raise QueryError(
        PromErrorType.EXECUTION,
        f"found duplicate series for the match group {text(key)} on the {side} hand-side of the "
        f"operation: [{text(one.labels[second])}, {text(one.labels[first])}]"
        ";many-to-many matching not allowed: matching labels must be unique on one side",
    )


def _paired(
    node: Binary, many: InstantVector, one: InstantVector, pairs: list[tuple[int, int, Labels]]
) -> InstantVector:
    mine = [row for row, _, _ in pairs]
    other = [row for _, row, _ in pairs]
    labels = [_named(node, many.labels[row], one.labels[another]) for row, another, _ in pairs]
    here = many.here[mine] & one.here[other]
    _single(node.matching, pairs, labels, here)
    left, right = many.values[mine], one.values[other]
    if node.matching.many == "right":
        left, right = right, left
    values = compute(node.op, left, right)
    if node.op in COMPARISONS and not node.bool_:
        here = here & (values > 0)
        values = left
    return united(labels, values, here)


def _single(
    matching: Matching,
    pairs: list[tuple[int, int, Labels]],
    labels: list[Labels],
    here: np.ndarray,
) -> None:
    """One to one: a signature meets once a step; else once for each label set of the answer."""
    met: dict[object, list[int]] = {}
    for place, (_, _, key) in enumerate(pairs):
        met.setdefault(key if matching.many is None else (key, labels[place]), []).append(place)
    for places in met.values():
        if len(places) > 1 and (here[places].sum(axis=0) > 1).any():
            why = _EXPLICIT if matching.many is None else _UNIQUE
            raise QueryError(PromErrorType.EXECUTION, f"multiple matches for labels: {why}")


def _named(node: Binary, many: Labels, one: Labels) -> Labels:
    """The many side's labels, cut down one to one, plus what was asked of the one side."""
    matching = node.matching
    if node.op not in COMPARISONS or node.bool_:
        many = nameless(many)
    if matching.many is None:
        names = frozenset(matching.labels)
        return kept(many, names) if matching.on else left_out(many, names)
    return pack(dict(many) | {name: get(one, name) for name in matching.include})
