"""What functions need of the evaluation that calls them."""

from typing import Protocol

from meterd.promql.budget import Budget
from meterd.promql.frame import Frame
from meterd.promql.nodes import Node, Selector
from meterd.promql.source import Times, Values
from meterd.promql.spans import Spans


class Run(Protocol):
    """A query under way: it evaluates their arguments at given times (ms). Raises QueryError."""

    budget: Budget

    def value(self, node: Node, times: Times) -> "Frame | Spans | Values | str": ...

    def frame(self, node: Node, times: Times) -> Frame: ...

    def scalar(self, node: Node, times: Times) -> Values: ...

    def spans(self, node: Node, times: Times) -> Spans: ...

    def newest(self, node: Selector, times: Times) -> tuple[Frame, Times]: ...
