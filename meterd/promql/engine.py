"""A query from text to answer: parse, plan, evaluate over all steps at once."""

from typing import cast

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.evaluate import Evaluation, Query, Value
from meterd.promql.frame import Frame
from meterd.promql.guard import MAX_TIME_MS
from meterd.promql.plan import plan
from meterd.promql.result import Limits, QueryError, Result, Series, Type
from meterd.promql.source import Source, Times, Values
from meterd.promql.spans import Spans

__all__ = ["Limits", "QueryError", "Result", "Series", "instant", "query_range"]

_LONG_TYPES = {"matrix": "range vector", "string": "string"}


def instant(source: Source, text: str, time_ms: int, *, limits: Limits | None = None) -> Result:
    """Answer at one moment; a range selector at the top gives its raw samples (type matrix).

    Raises QueryError.
    """
    _in_reach(time_ms)
    node = plan(text)
    budget = Budget(limits or Limits())
    times = np.array([time_ms], dtype=np.int64)
    value = Evaluation(Query(source, time_ms, time_ms, budget)).value(node, times)
    if isinstance(value, str):
        return _result("string", value, time_ms, budget)
    kind: Type = node.type
    return _result(kind, _answer(value, times), time_ms, budget)


def query_range(
    source: Source,
    text: str,
    start_ms: int,
    end_ms: int,
    step_ms: int,
    *,
    limits: Limits | None = None,
) -> Result:
    """Answer at start, start + step, … up to end inclusive; always type matrix.

    Raises QueryError: bad_data too for a step below 1 ms, an end before the start, too many points.
    """
    allowed = limits or Limits()
    _check(start_ms, end_ms, step_ms, allowed)
    node = plan(text)
    if node.type in _LONG_TYPES:
        kind = _LONG_TYPES[node.type]
        what = f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector'
        raise QueryError("bad_data", what)
    budget = Budget(allowed)
    steps = (end_ms - start_ms) // step_ms + 1
    times = start_ms + step_ms * np.arange(steps, dtype=np.int64)
    # start() and end() are the query's own, even where no step falls on the end.
    value = Evaluation(Query(source, start_ms, end_ms, budget)).value(node, times)
    rows = sorted(_answer(value, times), key=lambda each: tuple(each.labels.items()))
    return _result("matrix", tuple(rows), start_ms, budget)


def _check(start: int, end: int, step: int, limits: Limits) -> None:
    _in_reach(start)
    _in_reach(end)
    if step < 1:
        what = "zero or negative query resolution step widths are not accepted."
        raise QueryError("bad_data", f"{what} Try a positive integer")
    if end < start:
        raise QueryError("bad_data", "end timestamp must not be before start time")
    if (end - start) // step > limits.max_points:
        what = f"exceeded maximum resolution of {limits.max_points:,} points per timeseries."
        raise QueryError("bad_data", f"{what} Try decreasing the query resolution (?step=XX)")


def _in_reach(time: int) -> None:
    if abs(time) > MAX_TIME_MS:
        raise QueryError("bad_data", f"time {time} ms is beyond what can be computed with")


def _answer(value: Value, times: Times) -> tuple[Series, ...]:
    if isinstance(value, Frame):
        return tuple(
            Series(dict(labels), times[here], values[here])
            for labels, values, here in zip(value.labels, value.values, value.here, strict=True)
            if here.any()
        )
    if isinstance(value, Spans):
        return tuple(filter(lambda each: len(each.times), _raw(value)))
    return (Series({}, times, cast("Values", value)),)


def _raw(spans: Spans) -> list[Series]:
    """An instant query's one window as it is, samples with their own times."""
    start, end = spans.starts[0], spans.ends[0]
    found = []
    for labels, (times, values) in zip(spans.labels, spans.series, strict=True):
        inside = (times > start) & (times <= end)
        found.append(Series(dict(labels), times[inside], values[inside]))
    return sorted(found, key=lambda each: tuple(each.labels.items()))


def _result(kind: Type, data: tuple[Series, ...] | str, time: int, budget: Budget) -> Result:
    return Result(kind, data, time, tuple(budget.warnings), tuple(budget.infos))
