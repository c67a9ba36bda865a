"""Function calls: arguments evaluated, the right table asked, names dropped as Prometheus does."""

from collections.abc import Callable
from typing import cast

import numpy as np

from meterd.promql.aggregate import check_quantile
from meterd.promql.evaluation_context import EvaluationContext
from meterd.promql.functions import NATIVE, histogram, labels, maths, ranged
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    empty,
    get,
    mapped,
    nameless,
    pack,
    single,
    united,
)
from meterd.promql.nodes import Call, Node, Selector
from meterd.promql.range_vector import RangeVector
from meterd.promql.source import Times, Values
from meterd.promql.window import window

Answer = InstantVector | Values
_COUNTED = ("_total", "_sum", "_count", "_bucket")
_SORT_IN_RANGE = "sort is ineffective for range queries since results are always ordered by labels"


def call(run: EvaluationContext, node: Call, times: Times) -> Answer:
    """Raises QueryError."""
    if node.name in ranged.RANGED:
        return _ranged(run, node, times)
    if node.name in maths.MATHS:
        return mapped(run.frame(node.args[0], times), maths.MATHS[node.name])
    if node.name in maths.DATES:
        moment = run.frame(node.args[0], times) if node.args else single(times / 1000)
        return mapped(moment, maths.DATES[node.name])
    if node.name in NATIVE:
        return empty(len(times))
    return _SHAPED[node.name](run, node, times)


def _ranged(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    spans: RangeVector | None = None
    numbers: list[Values] = []
    for arg in node.args:
        if arg.type == "matrix":
            spans = run.spans(arg, times)
        else:
            numbers.append(run.scalar(arg, times))
    assert spans is not None, "the parser asks for a range"  # noqa: S101
    return _over(run, node.name, spans, numbers, times)


def _over(
    run: EvaluationContext, name: str, spans: RangeVector, numbers: list[Values], times: Times
) -> InstantVector:
    function = ranged.RANGED[name]
    found: list[tuple[Labels, Values, np.ndarray]] = []
    for key, (at, values) in zip(spans.labels, spans.series, strict=True):
        run.budget.pulse()
        shown = window(at, values, spans.starts, spans.ends, times, run.budget.pulse)
        if name == "quantile_over_time":
            check_quantile(numbers[0][shown.count > 0], run.budget)
        data, here = function(shown, *numbers)
        if name in ranged.COUNTERS and len(at):
            _check_counter(run, get(key, NAME))
        if here.any():
            run.budget.spend(len(times))
            found.append((key if name in ranged.KEEP_NAME else nameless(key), data, here))
    if not found:
        return empty(len(times))
    keys, rows, there = zip(*found, strict=True)
    return united(list(keys), np.array(rows), np.array(there))


def _check_counter(run: EvaluationContext, name: str) -> None:
    if name and not name.endswith(_COUNTED):
        ends = "/".join(_COUNTED)
        what = f'metric might not be a counter, name does not end in {ends}: "{name}"'
        run.budget.inform(what)


def _absent(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    there = np.asarray(run.frame(node.args[0], times).here.any(axis=0))
    return _missing(node.args[0], ~there)


def _absent_over_time(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    spans = run.spans(node.args[0], times)
    there = np.zeros(len(times), dtype=np.bool_)
    for at, values in spans.series:
        there |= window(at, values, spans.starts, spans.ends, times, run.budget.pulse).count > 0
    return _missing(node.args[0], ~there)


def _missing(arg: Node, here: np.ndarray) -> InstantVector:
    """1 with the labels that a selector fixes by one = each."""
    fixed: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in arg.matchers if isinstance(arg, Selector) else ():
        if matcher.name == NAME:
            continue
        if matcher.op == "=" and matcher.name not in seen:
            fixed[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            fixed.pop(matcher.name, None)
    return InstantVector([pack(fixed)], np.ones((1, len(here))), here[None, :])


def _scalar(run: EvaluationContext, node: Call, times: Times) -> Values:
    frame = run.frame(node.args[0], times)
    if not len(frame.labels):
        return np.full(len(times), np.nan)
    one = frame.here.sum(axis=0) == 1
    row = frame.here.argmax(axis=0)
    return np.where(one, frame.values[row, np.arange(len(times))], np.nan)


def _timestamp(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    """A selector's samples have times of their own; anything else is of its step."""
    arg = node.args[0]
    if isinstance(arg, Selector):
        frame, when = run.newest(arg, times)
        seconds = when / 1000
    else:
        frame = run.frame(arg, times)
        seconds = np.broadcast_to(times / 1000, frame.values.shape)
    return united([nameless(each) for each in frame.labels], seconds, frame.here)


def _clamp(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    frame = run.frame(node.args[0], times)
    low, high = run.scalar(node.args[1], times), run.scalar(node.args[2], times)
    bounded = mapped(frame, lambda values: maths.greatest(low, maths.least(high, values)))
    return InstantVector(bounded.labels, bounded.values, bounded.here & ~(high < low))


def _bound(change: Callable[[Values, Values], Values]) -> Callable[..., InstantVector]:
    def bounded(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
        limit = run.scalar(node.args[1], times)
        return mapped(run.frame(node.args[0], times), lambda values: change(values, limit))

    return bounded


def _round(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    nearest = run.scalar(node.args[1], times) if len(node.args) > 1 else np.ones(len(times))
    frame = run.frame(node.args[0], times)
    return mapped(frame, lambda values: maths.rounded(values, nearest))


def _quantile(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    wanted = run.scalar(node.args[0], times)
    check_quantile(wanted, run.budget)
    return histogram.quantile(run.frame(node.args[1], times), wanted, run.budget)


def _fraction(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    low, high = run.scalar(node.args[0], times), run.scalar(node.args[1], times)
    return histogram.fraction(run.frame(node.args[2], times), low, high, run.budget)


def _texts(run: EvaluationContext, node: Call, times: Times) -> list[str]:
    return [cast("str", run.value(arg, times)) for arg in node.args[1:]]


def _label_replace(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    target, template, source, pattern = _texts(run, node, times)
    frame = run.frame(node.args[0], times)
    return labels.replaced(frame, target, template, source, pattern, run.budget)


def _label_join(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
    target, separator, *sources = _texts(run, node, times)
    return labels.joined(run.frame(node.args[0], times), target, separator, sources, run.budget)


def _check_instant(run: EvaluationContext, times: Times) -> None:
    if len(times) > 1:
        run.budget.warn(_SORT_IN_RANGE)


def _sort(*, up: bool) -> Callable[..., InstantVector]:
    def ordered(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
        """By value at the first step, NaN last; only instant answers show an order."""
        frame = run.frame(node.args[0], times)
        _check_instant(run, times)
        first = frame.values[:, 0]
        order = np.lexsort((first if up else -first, np.isnan(first)))
        return frame.rows(order.tolist())

    return ordered


def _sort_by_label(*, up: bool) -> Callable[..., InstantVector]:
    def ordered(run: EvaluationContext, node: Call, times: Times) -> InstantVector:
        frame = run.frame(node.args[0], times)
        _check_instant(run, times)
        names = _texts(run, node, times)

        def key(row: int) -> object:
            each = frame.labels[row]
            return ([labels.natural(get(each, name)) for name in names], each)

        order = sorted(range(len(frame.labels)), key=key, reverse=not up)  # type: ignore[arg-type]
        return frame.rows(order)

    return ordered


_SHAPED: dict[str, Callable[[EvaluationContext, Call, Times], Answer]] = {
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    "clamp": _clamp,
    "clamp_max": _bound(maths.least),
    "clamp_min": _bound(maths.greatest),
    "histogram_fraction": _fraction,
    "histogram_quantile": _quantile,
    "label_join": _label_join,
    "label_replace": _label_replace,
    "pi": lambda run, node, times: np.full(len(times), np.pi),
    "round": _round,
    "scalar": _scalar,
    "sort": _sort(up=True),
    "sort_desc": _sort(up=False),
    "sort_by_label": _sort_by_label(up=True),
    "sort_by_label_desc": _sort_by_label(up=False),
    "time": lambda run, node, times: times / 1000,
    "timestamp": _timestamp,
    "vector": lambda run, node, times: single(run.scalar(node.args[0], times)),
}
