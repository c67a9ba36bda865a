"""Binary operators on scalars, and on a vector and a scalar; matching.py has two vectors."""

from collections.abc import Callable

import numpy as np

from meterd.promql.instant_vector import InstantVector, drop_name, map_values, merge_rows
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
COMPARATORS: dict[str, Callable[[Values, Values], Values]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}


def compute(op: str, left: Values, right: Values) -> Values:
    """The operator elementwise: Go's float64 arithmetic (% is fmod), comparisons as 0 and 1."""
    with np.errstate(all="ignore"):
        if op in ARITHMETIC:
            return np.asarray(ARITHMETIC[op](left, right), dtype=np.float64)
        return np.asarray(COMPARATORS[op](left, right), dtype=np.float64)


def with_scalar(
    node: Binary, vector: InstantVector, scalar: Values, *, swapped: bool
) -> InstantVector:
    """An operator between a vector and a scalar; `swapped` if the scalar is the left operand.

    A comparison without `bool` is a filter: values and metric names stay.
    """

    def operate(values: Values) -> Values:
        left, right = (scalar, values) if swapped else (values, scalar)
        return compute(node.op, left, right)

    if node.op not in COMPARISONS or node.bool_:
        return map_values(vector, operate)
    holds = operate(vector.values) > 0
    return InstantVector(vector.labels, vector.values, vector.present & holds)


def negate(vector: InstantVector) -> InstantVector:
    return merge_rows(
        [drop_name(labels) for labels in vector.labels], -vector.values, vector.present
    )
