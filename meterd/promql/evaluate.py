"""Evaluates a plan's nodes over all steps at once: one value a node, with all steps in it.

A vector is an InstantVector, a scalar a float64 array over the steps, a range vector a
RangeVector, a string a str. Each node takes two frames of Python's stack; input_limits.py bounds
the depth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from meterd.promql import aggregate, binary, matching
from meterd.promql.budget import Budget
from meterd.promql.calls import call
from meterd.promql.evaluation_context import FoldedRows
from meterd.promql.instant_vector import InstantVector, Labels, pack_labels
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
from meterd.promql.range_vector import Arrays, NewestSamples, RangeVector, fetch
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.select import matching_ids
from meterd.promql.source import FoldingSource, SeriesSource, Times, Values
from meterd.promql.spacing import Widening

SUBQUERY_STEP_MS = 60_000  # default step of a subquery: Prometheus' global evaluation_interval

_DAY_MS = 86_400_000
_FOLDED_DAYS = 20_000  # of all series in one call of a source, which takes a second at most

NodeValue = InstantVector | RangeVector | Values | str


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query's series, its start and end (Unix ms), and its budget."""

    source: SeriesSource
    start: int
    end: int
    budget: Budget


class Evaluation:
    """Evaluates one query's nodes at given times (Unix ms, ascending), subqueries recursively."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.budget = query.budget
        self._names = query.source.names()
        self._evaluators: dict[type, Callable[[Any, Times], NodeValue]] = {
            Number: lambda node, times: np.full(len(times), node.value),
            Text: lambda node, times: node.value,
            Selector: self._selector,
            Subquery: self._subquery,
            Call: self._call,
            Aggregate: self._aggregate,
            Binary: self._binary,
            Negate: self._negate,
        }

    def value(self, node: Node, times: Times) -> NodeValue:
        """The node's value; a step-invariant node is evaluated once. Raises QueryError."""
        self.budget.check_deadline()
        if node.step_invariant and len(times) > 1:
            return _repeat(self._evaluators[type(node)](node, times[:1]), len(times))
        return self._evaluators[type(node)](node, times)

    def vector(self, node: Node, times: Times) -> InstantVector:
        return cast("InstantVector", self.value(node, times))

    def scalar(self, node: Node, times: Times) -> Values:
        return cast("Values", self.value(node, times))

    def range_vector(self, node: Node, times: Times) -> RangeVector:
        return cast("RangeVector", self.value(node, times))

    def moments(self, shift: Shift, times: Times) -> Times:
        """The evaluation times (ms) of a selector or subquery, with `offset` and `@` applied."""
        if shift.at is None:
            return times - shift.offset
        moment = {"start": self.query.start, "end": self.query.end}.get(str(shift.at), shift.at)
        return np.full(len(times), int(moment) - shift.offset, dtype=np.int64)

    def newest(self, node: Selector, times: Times) -> tuple[InstantVector, Times]:
        """The newest sample within the lookback at each step, and the samples' own times (ms).

        The lookback is the query's, or three times the series' interval where that is longer.
        """
        moments = self.moments(node.shift, times)
        ids = matching_ids(self._names, node.matchers)
        default_lookback = self.query.budget.limits.lookback_ms
        lookbacks = [
            max(default_lookback, 3 * self._names[series_id].interval) for series_id in ids
        ]
        starts = moments - max(lookbacks, default=default_lookback)
        series = self._fetch(ids, starts, moments)
        self.budget.spend(len(ids) * len(times))
        newest = NewestSamples.of(series, lookbacks, moments)
        if newest.missing.any():
            Widening(self._names, ids, moments, default_lookback, self._fetch).apply(newest)
        return newest.instant_vector([self._labels(series_id) for series_id in ids])

    def _selector(self, node: Selector, times: Times) -> NodeValue:
        if not node.range_ms:
            return self.newest(node, times)[0]
        ids = matching_ids(self._names, node.matchers)
        return self._range(ids, *self._windows(node, times))

    def _windows(self, node: Selector, times: Times) -> tuple[Times, Times]:
        ends = self.moments(node.shift, times)
        return ends - node.range_ms, ends

    def _range(self, ids: Sequence[int], starts: Times, ends: Times) -> RangeVector:
        series = self._fetch(ids, starts, ends, stale_marks=False)
        return RangeVector([self._labels(number) for number in ids], series, starts, ends)

    def _labels(self, series_id: int) -> Labels:
        return pack_labels(self._names[series_id].labels)

    def fold(self, node: Selector, function: str, times: Times) -> tuple[FoldedRows, RangeVector]:
        """The windows that the source folds itself, and the samples of the other series."""
        ids = matching_ids(self._names, node.matchers)
        starts, ends = self._windows(node, times)
        source, rows, others = self.query.source, FoldedRows(), list[int]()
        if not isinstance(source, FoldingSource):
            return rows, self._range(ids, starts, ends)
        days = int(ends[-1] - starts[0]) // _DAY_MS + 1
        width = max(1, _FOLDED_DAYS // days)
        for first in range(0, len(ids), width):
            some = ids[first : first + width]
            folded = source.fold(some, function, starts, ends)
            for series_id, row in zip(some, folded, strict=True):
                if row is None:
                    others.append(series_id)
                    continue
                self.budget.spend(len(times))
                rows.append((self._labels(series_id), row))
            self.budget.check_deadline()
        return rows, self._range(others, starts, ends)

    def _fetch(
        self, ids: Sequence[int], starts: Times, ends: Times, *, stale_marks: bool = True
    ) -> list[Arrays]:
        intervals = [self._names[series_id].interval for series_id in ids]
        shortest = min(filter(None, intervals), default=0)
        return fetch(
            self.query.source, self.budget, ids, starts, ends, shortest, stale_marks=stale_marks
        )

    def _subquery(self, node: Subquery, times: Times) -> RangeVector:
        """Evaluates the body at multiples of the step within (start, end], as a range vector.

        The grid is aligned to 1970, as in Prometheus, and spans the windows of all outer steps.
        """
        ends = self.moments(node.shift, times)
        starts = ends - node.range_ms
        step = node.step or SUBQUERY_STEP_MS
        first = (int(starts[0]) // step + 1) * step
        count = max(0, (int(ends[-1]) - first) // step + 1)
        self.budget.spend(count)
        if not count:
            return RangeVector([], [], starts, ends)
        grid = first + step * np.arange(count, dtype=np.int64)
        vector = self.vector(node.body, grid)
        rows = zip(vector.values, vector.present, strict=True)
        series = [(grid[present], values[present]) for values, present in rows]
        return RangeVector(vector.labels, series, starts, ends)

    def _call(self, node: Call, times: Times) -> NodeValue:
        return call(self, node, times)

    def _negate(self, node: Negate, times: Times) -> NodeValue:
        value = self.value(node.body, times)
        return binary.negate(value) if isinstance(value, InstantVector) else -cast("Values", value)

    def _binary(self, node: Binary, times: Times) -> NodeValue:
        left, right = self.value(node.left, times), self.value(node.right, times)
        if isinstance(left, InstantVector) and isinstance(right, InstantVector):
            if node.op in SET_OPERATORS:
                return matching.set_operation(node.op, left, right, node.matching)
            return matching.combine(node, left, right, self.budget)
        if isinstance(left, InstantVector):
            return binary.with_scalar(node, left, cast("Values", right), swapped=False)
        if isinstance(right, InstantVector):
            return binary.with_scalar(node, right, cast("Values", left), swapped=True)
        return binary.compute(node.op, cast("Values", left), cast("Values", right))

    def _aggregate(self, node: Aggregate, times: Times) -> InstantVector:
        vector = self.vector(node.body, times)
        if node.op == "count_values":
            label = cast("str", self.value(cast("Node", node.param), times))
            return aggregate.count_values(vector, node, label, self.budget)
        groups = aggregate.group_rows(node, vector.labels)
        if node.param is None:
            return aggregate.fold_groups(vector, groups, aggregate.FOLDS[node.op], self.budget)
        return self._parametric(node, vector, groups, self.scalar(node.param, times))

    def _parametric(
        self, node: Aggregate, vector: InstantVector, groups: aggregate.Groups, number: Values
    ) -> InstantVector:
        if node.op == "quantile":
            fold = aggregate.quantile(number, self.budget)
            return aggregate.fold_groups(vector, groups, fold, self.budget)
        if node.op in ("topk", "bottomk"):
            return aggregate.topk(vector, groups, number, largest=node.op == "topk")
        if node.op == "limitk":
            return aggregate.limitk(vector, groups, number)
        if node.op == "limit_ratio":
            return aggregate.limit_ratio(vector, number, self.budget)
        raise QueryError(PromErrorType.BAD_DATA, f'parse error: unknown aggregation "{node.op}"')


def _repeat(value: NodeValue, steps: int) -> NodeValue:
    """The value of a step-invariant node at every step; arrays are broadcast, not copied."""
    if isinstance(value, str):
        return value
    if isinstance(value, InstantVector):
        shape = (len(value.labels), steps)
        present = np.broadcast_to(value.present, shape)
        return InstantVector(value.labels, np.broadcast_to(value.values, shape), present)
    if isinstance(value, RangeVector):
        starts, ends = np.repeat(value.starts, steps), np.repeat(value.ends, steps)
        return RangeVector(value.labels, value.series, starts, ends)
    return np.repeat(value, steps)
