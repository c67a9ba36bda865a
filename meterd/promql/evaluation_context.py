"""The interface that function calls use to evaluate their arguments."""

from typing import Protocol

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector
from meterd.promql.nodes import Node, Selector
from meterd.promql.range_vector import RangeVector
from meterd.promql.source import Times, Values


class EvaluationContext(Protocol):
    """A running query: evaluates nodes at given times (Unix ms). Methods raise QueryError."""

    budget: Budget

    def value(self, node: Node, times: Times) -> "InstantVector | RangeVector | Values | str": ...

    def vector(self, node: Node, times: Times) -> InstantVector: ...

    def scalar(self, node: Node, times: Times) -> Values: ...

    def range_vector(self, node: Node, times: Times) -> RangeVector: ...

    def newest(self, node: Selector, times: Times) -> tuple[InstantVector, Times]: ...
