"""Operators on numbers and vectors; what matches what is matching.py's."""

from collections.abc import Callable

import numpy as np

from meterd.promql.instant_vector import InstantVector, mapped, nameless, united
from meterd.promql.nodes import COMPARISONS, Binary
from meterd.promql.source import Values

ARITHMETIC: dict[str, Callable[[Values, Values], Values]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}
COMPARED: dict[str, Callable[[Values, Values], Values]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}


def compute(op: str, left: Values, right: Values) -> Values:
    """Arithmetic as Go does it, or a comparison as 0 and 1."""
    with np.errstate(all="ignore"):
        if op in ARITHMETIC:
            return np.asarray(ARITHMETIC[op](left, right), dtype=np.float64)
        return np.asarray(COMPARED[op](left, right), dtype=np.float64)


def with_scalar(
    node: Binary, vector: InstantVector, scalar: Values, *, swapped: bool
) -> InstantVector:
    """A vector and a number; swapped if the number stands on the left.

    A comparison without bool keeps the vector's values and names where it holds.
    """

    def change(values: Values) -> Values:
        left, right = (scalar, values) if swapped else (values, scalar)
        return compute(node.op, left, right)

    if node.op not in COMPARISONS or node.bool_:
        return mapped(vector, change)
    holds = change(vector.values) > 0
    return InstantVector(vector.labels, vector.values, vector.here & holds)


def negated(vector: InstantVector) -> InstantVector:
    return united([nameless(each) for each in vector.labels], -vector.values, vector.here)
