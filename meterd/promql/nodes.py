"""The nodes of a query plan: immutable, typed, and independent of promql-parser's tree.

`step_invariant`: the node's value is the same at every step (as Prometheus' StepInvariantExpr).
"""

from dataclasses import dataclass
from typing import Literal

from meterd.promql.matcher import Matcher

ValueType = Literal["scalar", "vector", "matrix", "string"]
SET_OPERATORS = frozenset(("and", "or", "unless"))
COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))


@dataclass(frozen=True, slots=True)
class Shift:
    """A selector's or subquery's modifiers: `offset` in ms, `@` in Unix ms or start() or end()."""

    offset: int = 0
    at: int | Literal["start", "end"] | None = None


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    type: ValueType = "scalar"
    step_invariant: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    type: ValueType = "string"
    step_invariant: bool = True


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by matchers; `range_ms` is 0 for an instant vector selector."""

    matchers: tuple[Matcher, ...]
    shift: Shift
    range_ms: int
    type: ValueType
    step_invariant: bool


@dataclass(frozen=True, slots=True)
class Subquery:
    """An expression at each multiple of `step` ms (0: the default) within the last `range_ms`."""

    body: "Node"
    range_ms: int
    step: int
    shift: Shift
    step_invariant: bool
    type: ValueType = "matrix"


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    args: tuple["Node", ...]
    type: ValueType
    step_invariant: bool


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregation; `by`: over the labels, else `without` them. `param`: of topk, quantile …"""

    op: str
    body: "Node"
    param: "Node | None"
    by: bool
    labels: tuple[str, ...]
    step_invariant: bool
    type: ValueType = "vector"


@dataclass(frozen=True, slots=True)
class Matching:
    """How two vectors match: `on` the labels or ignoring them.

    `many` is the "many" side (group_left: left), None for one-to-one; `include` are the labels
    that group_left or group_right copies from the other side.
    """

    on: bool = False
    labels: tuple[str, ...] = ()
    many: Literal["left", "right"] | None = None
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: "Node"
    right: "Node"
    matching: Matching
    bool_: bool
    type: ValueType
    step_invariant: bool


@dataclass(frozen=True, slots=True)
class Negate:
    body: "Node"
    type: ValueType
    step_invariant: bool


Node = Number | Text | Selector | Subquery | Call | Aggregate | Binary | Negate
