"""A query from text to answer: parse, plan, evaluate over all steps at once."""

from typing import cast

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.evaluate import Evaluation, Query, Value
from meterd.promql.input_limits import MAX_TIME_MS
from meterd.promql.instant_vector import InstantVector
from meterd.promql.plan import plan
from meterd.promql.range_vector import RangeVector
from meterd.promql.result import PromErrorType, QueryError, QueryLimits, Result, ResultSeries, Type
from meterd.promql.source import SeriesSource, Times, Values

__all__ = ["QueryError", "QueryLimits", "Result", "ResultSeries", "instant", "query_range"]

_LONG_TYPES = {"matrix": "range vector", "string": "string"}


def instant(
    source: SeriesSource, text: str, time_ms: int, *, limits: QueryLimits | None = None
) -> Result:
    """Answer at one moment; a range selector at the top gives its raw samples (type matrix).

    Raises QueryError.
    """
    _in_reach(time_ms)
    node = plan(text)
    budget = Budget(limits or QueryLimits())
    times = np.array([time_ms], dtype=np.int64)
    value = Evaluation(Query(source, time_ms, time_ms, budget)).value(node, times)
    if isinstance(value, str):
        return _result("string", value, time_ms, budget)
    kind: Type = node.type
    return _result(kind, _answer(value, times), time_ms, budget)


def query_range(
    source: SeriesSource,
    text: str,
    start_ms: int,
    end_ms: int,
    step_ms: int,
    *,
    limits: QueryLimits | None = None,
) -> Result:
    """Answer at start, start + step, … up to end inclusive; always type matrix.

    Raises QueryError: bad_data too for a step below 1 ms, an end before the start, too many points.
    """
    allowed = limits or QueryLimits()
    _check(start_ms, end_ms, step_ms, allowed)
    node = plan(text)
    if node.type in _LONG_TYPES:
        kind = _LONG_TYPES[node.type]
        what = f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector'
        raise QueryError(PromErrorType.BAD_DATA, what)
    budget = Budget(allowed)
    steps = (end_ms - start_ms) // step_ms + 1
    times = start_ms + step_ms * np.arange(steps, dtype=np.int64)
    # start() and end() are the query's own, even where no step falls on the end.
    value = Evaluation(Query(source, start_ms, end_ms, budget)).value(node, times)
    rows = sorted(_answer(value, times), key=lambda each: tuple(each.labels.items()))
    return _result("matrix", tuple(rows), start_ms, budget)


def _check(start: int, end: int, step: int, limits: QueryLimits) -> None:
    _in_reach(start)
    _in_reach(end)
    if step < 1:
        what = "zero or negative query resolution step widths are not accepted."
        raise QueryError(PromErrorType.BAD_DATA, f"{what} Try a positive integer")
    if end < start:
        raise QueryError(PromErrorType.BAD_DATA, "end timestamp must not be before start time")
    if (end - start) // step > limits.max_points:
        what = f"exceeded maximum resolution of {limits.max_points:,} points per timeseries."
        raise QueryError(
            PromErrorType.BAD_DATA, f"{what} Try decreasing the query resolution (?step=XX)"
        )


def _in_reach(time: int) -> None:
    if abs(time) > MAX_TIME_MS:
        raise QueryError(
            PromErrorType.BAD_DATA, f"time {time} ms is beyond what can be computed with"
        )


def _answer(value: Value, times: Times) -> tuple[ResultSeries, ...]:
    if isinstance(value, InstantVector):
        return tuple(
            ResultSeries(dict(labels), times[here], values[here])
            for labels, values, here in zip(value.labels, value.values, value.here, strict=True)
            if here.any()
        )
    if isinstance(value, RangeVector):
        return tuple(filter(lambda each: len(each.times), _raw(value)))
    return (ResultSeries({}, times, cast("Values", value)),)


def _raw(spans: RangeVector) -> list[ResultSeries]:
    """An instant query's one window as it is, samples with their own times."""
    start, end = spans.starts[0], spans.ends[0]
    found = []
    for labels, (times, values) in zip(spans.labels, spans.series, strict=True):
        inside = (times > start) & (times <= end)
        found.append(ResultSeries(dict(labels), times[inside], values[inside]))
    return sorted(found, key=lambda each: tuple(each.labels.items()))


def _result(kind: Type, data: tuple[ResultSeries, ...] | str, time: int, budget: Budget) -> Result:
    return Result(kind, data, time, tuple(budget.warnings), tuple(budget.infos))
