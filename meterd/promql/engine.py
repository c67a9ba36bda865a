"""The query engine: instant and range queries, from text through plan to result."""

from typing import cast

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.evaluate import Evaluation, NodeValue, Query
from meterd.promql.input_limits import MAX_TIME_MS
from meterd.promql.instant_vector import InstantVector
from meterd.promql.plan import plan
from meterd.promql.range_vector import RangeVector
from meterd.promql.result import PromErrorType, QueryError, QueryLimits, Result, ResultSeries, Type
from meterd.promql.source import SeriesSource, Times, Values

__all__ = ["QueryError", "QueryLimits", "Result", "ResultSeries", "instant", "query_range"]

_TYPE_NAMES = {"matrix": "range vector", "string": "string"}


def instant(
    source: SeriesSource, text: str, time_ms: int, *, limits: QueryLimits | None = None
) -> Result:
    """An instant query at `time_ms`; a range selector gives its raw samples (type matrix).

    Raises QueryError.
    """
    _check_time(time_ms)
    node = plan(text)
    budget = Budget(limits or QueryLimits())
    times = np.array([time_ms], dtype=np.int64)
    value = Evaluation(Query(source, time_ms, time_ms, budget)).value(node, times)
    if isinstance(value, str):
        return _result("string", value, time_ms, budget)
    kind: Type = node.type
    return _result(kind, _result_series(value, times), time_ms, budget)


def query_range(
    source: SeriesSource,
    text: str,
    start_ms: int,
    end_ms: int,
    step_ms: int,
    *,
    limits: QueryLimits | None = None,
) -> Result:
    """A range query at start, start + step, … up to end inclusive; always type matrix.

    Raises QueryError, bad_data also for a step below 1 ms, an end before the start, and more than
    max_points steps.
    """
    query_limits = limits or QueryLimits()
    _check_range(start_ms, end_ms, step_ms, query_limits)
    node = plan(text)
    if node.type in _TYPE_NAMES:
        kind = _TYPE_NAMES[node.type]
        message = (
            f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector'
        )
        raise QueryError(PromErrorType.BAD_DATA, message)
    budget = Budget(query_limits)
    steps = (end_ms - start_ms) // step_ms + 1
    times = start_ms + step_ms * np.arange(steps, dtype=np.int64)
    # `@ end()` is the query's end, even where no step falls on it.
    value = Evaluation(Query(source, start_ms, end_ms, budget)).value(node, times)
    rows = sorted(_result_series(value, times), key=lambda series: tuple(series.labels.items()))
    return _result("matrix", tuple(rows), start_ms, budget)


def _check_range(start: int, end: int, step: int, limits: QueryLimits) -> None:
    _check_time(start)
    _check_time(end)
    if step < 1:
        message = "zero or negative query resolution step widths are not accepted."
        raise QueryError(PromErrorType.BAD_DATA, f"{message} Try a positive integer")
    if end < start:
        raise QueryError(PromErrorType.BAD_DATA, "end timestamp must not be before start time")
    if (end - start) // step > limits.max_points:
        message = f"exceeded maximum resolution of {limits.max_points:,} points per timeseries."
        raise QueryError(
            PromErrorType.BAD_DATA, f"{message} Try decreasing the query resolution (?step=XX)"
        )


def _check_time(time: int) -> None:
    if abs(time) > MAX_TIME_MS:
        raise QueryError(
            PromErrorType.BAD_DATA, f"time {time} ms is beyond what can be computed with"
        )


def _result_series(value: NodeValue, times: Times) -> tuple[ResultSeries, ...]:
    if isinstance(value, InstantVector):
        return tuple(
            ResultSeries(dict(labels), times[present], values[present])
            for labels, values, present in zip(
                value.labels, value.values, value.present, strict=True
            )
            if present.any()
        )
    if isinstance(value, RangeVector):
        return tuple(filter(lambda series: len(series.times), _raw_samples(value)))
    return (ResultSeries({}, times, cast("Values", value)),)


def _raw_samples(ranges: RangeVector) -> list[ResultSeries]:
    """The samples of an instant query's only window, with their own timestamps."""
    start, end = ranges.starts[0], ranges.ends[0]
    series = []
    for labels, (times, values) in zip(ranges.labels, ranges.series, strict=True):
        inside = (times > start) & (times <= end)
        series.append(ResultSeries(dict(labels), times[inside], values[inside]))
    return sorted(series, key=lambda row: tuple(row.labels.items()))


def _result(kind: Type, data: tuple[ResultSeries, ...] | str, time: int, budget: Budget) -> Result:
    return Result(kind, data, time, tuple(budget.warnings), tuple(budget.infos))
