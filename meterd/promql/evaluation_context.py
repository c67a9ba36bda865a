"""What functions need of the evaluation that calls them."""

from typing import Protocol

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector
from meterd.promql.nodes import Node, Selector
from meterd.promql.range_vector import RangeVector
from meterd.promql.source import Times, Values


class EvaluationContext(Protocol):
    """A query under way: it evaluates their arguments at given times (ms). Raises QueryError."""

    budget: Budget

    def value(self, node: Node, times: Times) -> "InstantVector | RangeVector | Values | str": ...

    def frame(self, node: Node, times: Times) -> InstantVector: ...

    def scalar(self, node: Node, times: Times) -> Values: ...

    def spans(self, node: Node, times: Times) -> RangeVector: ...

    def newest(self, node: Selector, times: Times) -> tuple[InstantVector, Times]: ...
