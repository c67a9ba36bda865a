"""Evaluates nodes over all steps at once: a node's answer is one value for the whole of time.

A vector is a Frame, a scalar an array over the steps, a range vector Spans, a string itself.
Frames of Python's stack a node: two; the guard bounds how deep nodes go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from meterd.promql import aggregate, binary, matching
from meterd.promql.budget import Budget
from meterd.promql.calls import call
from meterd.promql.instant_vector import InstantVector, pack
from meterd.promql.nodes import (
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Negate,
    Node,
    Number,
    Selector,
    Shift,
    Subquery,
    Text,
)
from meterd.promql.range_vector import Arrays, NewestSamples, RangeVector, fetch, unmarked
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.select import matching as matching_ids
from meterd.promql.source import SeriesSource, Times, Values
from meterd.promql.spacing import Widening

SUBQUERY_STEP_MS = 60_000  # where a subquery names none: Prometheus' evaluation interval

Value = InstantVector | RangeVector | Values | str


@dataclass(frozen=True, slots=True)
class Query:
    """What holds for a whole query: the series, its own start and end (ms), its means."""

    source: SeriesSource
    start: int
    end: int
    budget: Budget


class Evaluation:
    """One query's nodes at given times (ms, ascending); subqueries come back here with theirs."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.budget = query.budget
        self._names = query.source.names()
        self._kinds: dict[type, Callable[[Any, Times], Value]] = {
            Number: lambda node, times: np.full(len(times), node.value),
            Text: lambda node, times: node.value,
            Selector: self._selector,
            Subquery: self._subquery,
            Call: self._call,
            Aggregate: self._aggregate,
            Binary: self._binary,
            Negate: self._negate,
        }

    def value(self, node: Node, times: Times) -> Value:
        """Raises QueryError."""
        self.budget.pulse()
        if node.fixed and len(times) > 1:
            return _repeated(self._kinds[type(node)](node, times[:1]), len(times))
        return self._kinds[type(node)](node, times)

    def frame(self, node: Node, times: Times) -> InstantVector:
        return cast("InstantVector", self.value(node, times))

    def scalar(self, node: Node, times: Times) -> Values:
        return cast("Values", self.value(node, times))

    def spans(self, node: Node, times: Times) -> RangeVector:
        return cast("RangeVector", self.value(node, times))

    def moments(self, shift: Shift, times: Times) -> Times:
        """Where a selector looks, for each step."""
        if shift.at is None:
            return times - shift.offset
        at = {"start": self.query.start, "end": self.query.end}.get(str(shift.at), shift.at)
        return np.full(len(times), int(at) - shift.offset, dtype=np.int64)

    def newest(self, node: Selector, times: Times) -> tuple[InstantVector, Times]:
        """The newest samples, and their own times (ms)."""
        moments = self.moments(node.shift, times)
        ids = matching_ids(self._names, node.matchers)
        usual = self.query.budget.limits.lookback_ms
        lookbacks = [max(usual, 3 * self._names[each].interval) for each in ids]
        starts = moments - max(lookbacks, default=usual)
        series = self._fetch(ids, starts, moments)
        self.budget.spend(len(ids) * len(times))
        found = NewestSamples.of(series, lookbacks, moments)
        if found.lacking.any():
            Widening(self._names, ids, moments, usual, self._fetch).apply(found)
        return found.frame([pack(self._names[each].labels) for each in ids])

    def _selector(self, node: Selector, times: Times) -> Value:
        if not node.span:
            return self.newest(node, times)[0]
        ends = self.moments(node.shift, times)
        starts = ends - node.span
        ids = matching_ids(self._names, node.matchers)
        series = unmarked(self._fetch(ids, starts, ends))
        return RangeVector([pack(self._names[each].labels) for each in ids], series, starts, ends)

    def _fetch(self, ids: Sequence[int], starts: Times, ends: Times) -> list[Arrays]:
        paces = [self._names[each].interval for each in ids]
        pace = min(filter(None, paces), default=0)
        return fetch(self.query.source, self.budget, ids, starts, ends, pace)

    def _subquery(self, node: Subquery, times: Times) -> RangeVector:
        """The body at multiples of the step within (start, end], as if it were samples."""
        ends = self.moments(node.shift, times)
        starts = ends - node.span
        step = node.step or SUBQUERY_STEP_MS
        first = (int(starts[0]) // step + 1) * step
        count = max(0, (int(ends[-1]) - first) // step + 1)
        self.budget.spend(count)
        if not count:
            return RangeVector([], [], starts, ends)
        grid = first + step * np.arange(count, dtype=np.int64)
        frame = self.frame(node.body, grid)
        rows = zip(frame.values, frame.here, strict=True)
        series = [(grid[here], values[here]) for values, here in rows]
        return RangeVector(frame.labels, series, starts, ends)

    def _call(self, node: Call, times: Times) -> Value:
        return call(self, node, times)

    def _negate(self, node: Negate, times: Times) -> Value:
        value = self.value(node.body, times)
        return binary.negated(value) if isinstance(value, InstantVector) else -cast("Values", value)

    def _binary(self, node: Binary, times: Times) -> Value:
        left, right = self.value(node.left, times), self.value(node.right, times)
        if isinstance(left, InstantVector) and isinstance(right, InstantVector):
            if node.op in SET_OPERATORS:
                return matching.sets(node.op, left, right, node.matching)
            return matching.combine(node, left, right, self.budget)
        if isinstance(left, InstantVector):
            return binary.with_scalar(node, left, cast("Values", right), swapped=False)
        if isinstance(right, InstantVector):
            return binary.with_scalar(node, right, cast("Values", left), swapped=True)
        return binary.compute(node.op, cast("Values", left), cast("Values", right))

    def _aggregate(self, node: Aggregate, times: Times) -> InstantVector:
        frame = self.frame(node.body, times)
        if node.op == "count_values":
            label = cast("str", self.value(cast("Node", node.param), times))
            return aggregate.count_values(frame, node, label, self.budget)
        grouped = aggregate.groups(node, frame.labels)
        if node.param is None:
            return aggregate.folded(frame, grouped, aggregate.FOLDS[node.op], self.budget)
        return self._of_number(node, frame, grouped, self.scalar(node.param, times))

    def _of_number(
        self, node: Aggregate, frame: InstantVector, grouped: aggregate.Groups, number: Values
    ) -> InstantVector:
        if node.op == "quantile":
            fold = aggregate.quantile(number, self.budget)
            return aggregate.folded(frame, grouped, fold, self.budget)
        if node.op in ("topk", "bottomk"):
            return aggregate.top(frame, grouped, number, largest=node.op == "topk")
        if node.op == "limitk":
            return aggregate.some(frame, grouped, number)
        if node.op == "limit_ratio":
            return aggregate.share(frame, number, self.budget)
        raise QueryError(PromErrorType.BAD_DATA, f'parse error: unknown aggregation "{node.op}"')


def _repeated(value: Value, steps: int) -> Value:
    """What was computed once, at every step."""
    if isinstance(value, str):
        return value
    if isinstance(value, InstantVector):
        shape = (len(value.labels), steps)
        here = np.broadcast_to(value.here, shape)
        return InstantVector(value.labels, np.broadcast_to(value.values, shape), here)
    if isinstance(value, RangeVector):
        starts, ends = np.repeat(value.starts, steps), np.repeat(value.ends, steps)
        return RangeVector(value.labels, value.series, starts, ends)
    return np.repeat(value, steps)
