"""What a query asks, as frozen values: promql-parser's tree without its traps."""

from dataclasses import dataclass
from typing import Literal

from meterd.promql.matcher import Matcher

ValueType = Literal["scalar", "vector", "matrix", "string"]
SET_OPERATORS = frozenset(("and", "or", "unless"))
COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))


@dataclass(frozen=True, slots=True)
class Shift:
    """offset and @ of a selector or subquery: ms, or start/end of the query."""

    offset: int = 0
    at: int | Literal["start", "end"] | None = None


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    type: ValueType = "scalar"
    fixed: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    type: ValueType = "string"
    fixed: bool = True


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by matchers; span is the range in ms, 0 for the newest sample."""

    matchers: tuple[Matcher, ...]
    shift: Shift
    span: int
    type: ValueType
    fixed: bool


@dataclass(frozen=True, slots=True)
class Subquery:
    """An expression at each multiple of step (0: the usual one) within the last span ms."""

    body: "Node"
    span: int
    step: int
    shift: Shift
    fixed: bool
    type: ValueType = "matrix"


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    args: tuple["Node", ...]
    type: ValueType
    fixed: bool


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`by` the labels, or without them."""

    op: str
    body: "Node"
    param: "Node | None"
    by: bool
    labels: tuple[str, ...]
    fixed: bool
    type: ValueType = "vector"


@dataclass(frozen=True, slots=True)
class Matching:
    """`on` the labels or ignoring them; many is the side that may be many, include its extras."""

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
    fixed: bool


@dataclass(frozen=True, slots=True)
class Negate:
    body: "Node"
    type: ValueType
    fixed: bool


Node = Number | Text | Selector | Subquery | Call | Aggregate | Binary | Negate
