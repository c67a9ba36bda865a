"""The interface that function calls use to evaluate their arguments."""

from typing import Protocol

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector, Labels
from meterd.promql.nodes import Node, Selector
from meterd.promql.range_vector import RangeVector
from meterd.promql.source import Folded, Times, Values

FoldedRows = list[tuple[Labels, Folded]]


class EvaluationContext(Protocol):
    """A running query: evaluates nodes at given times (Unix ms). Methods raise QueryError."""

    budget: Budget

    def value(self, node: Node, times: Times) -> "InstantVector | RangeVector | Values | str": ...

    def vector(self, node: Node, times: Times) -> InstantVector: ...

    def scalar(self, node: Node, times: Times) -> Values: ...

    def range_vector(self, node: Node, times: Times) -> RangeVector: ...

    def fold(self, node: Selector, function: str, times: Times) -> tuple[FoldedRows, RangeVector]:
        """What the source folds itself, and the samples of the other series."""

    def newest(self, node: Selector, times: Times) -> tuple[InstantVector, Times]: ...
