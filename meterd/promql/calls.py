"""Evaluates function calls: arguments, dispatch by name, dropped metric names as in Prometheus."""

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from meterd.promql.aggregate import check_quantile
from meterd.promql.evaluation_context import EvaluationContext
from meterd.promql.functions import NATIVE, histogram, labels, maths, ranged
from meterd.promql.functions.over_time import WindowValues
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    Mask,
    drop_name,
    empty_vector,
    label_value,
    map_values,
    merge_rows,
    pack_labels,
    single_row,
)
from meterd.promql.nodes import Call, Node, Selector
from meterd.promql.range_vector import RangeVector
from meterd.promql.source import Times, Values
from meterd.promql.window import SharedWindows, Window, make_window, stacked

CallResult = InstantVector | Values
_Row = tuple[Labels, Values, Mask]
_STACKED_VALUES = 1 << 16  # 512 KiB of float64 an array
_STACKED_SAMPLES = 16  # a step's, so that long series are not copied all at once
_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
_SORT_INEFFECTIVE = (
    "sort is ineffective for range queries since results are always ordered by labels"
)


def call(context: EvaluationContext, node: Call, times: Times) -> CallResult:
    """The value of a call at each step. Raises QueryError."""
    if node.name in ranged.RANGED:
        return _range_call(context, node, times)
    if node.name in maths.MATHS:
        return map_values(context.vector(node.args[0], times), maths.MATHS[node.name])
    if node.name in maths.DATES:
        moment = context.vector(node.args[0], times) if node.args else single_row(times / 1000)
        return map_values(moment, maths.DATES[node.name])
    if node.name in NATIVE:
        return empty_vector(len(times))
    return _VECTOR_FUNCTIONS[node.name](context, node, times)


def _range_call(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    if node.name in ranged.FOLDED and isinstance(node.args[0], Selector):
        return _folded_call(context, node, times)
    ranges: RangeVector | None = None
    numbers: list[Values] = []
    for arg in node.args:
        if arg.type == "matrix":
            ranges = context.range_vector(arg, times)
        else:
            numbers.append(context.scalar(arg, times))
    assert ranges is not None, "the parser asks for a range"  # noqa: S101
    return _joined(_apply_to_windows(context, node.name, ranges, numbers, times), times)


def _folded_call(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    """A call whose windows the source may fold itself, for some series or for all of them."""
    selector = cast("Selector", node.args[0])
    folded, ranges = context.fold(selector, ranged.FOLDED[node.name], times)
    rows = [(drop_name(key), row.values, row.present) for key, row in folded if row.present.any()]
    return _joined([*rows, *_apply_to_windows(context, node.name, ranges, [], times)], times)


def _apply_to_windows(
    context: EvaluationContext, name: str, ranges: RangeVector, numbers: list[Values], times: Times
) -> list[_Row]:
    rows: list[_Row] = []
    for keys, windows in _batches(context, name, ranges, times):
        for key, window, (row, present) in zip(
            keys, windows, _applied(context, name, windows, numbers), strict=True
        ):
            if name in ranged.COUNTERS and len(window.times):
                _check_counter(context, label_value(key, NAME))
            if present.any():
                context.budget.spend(len(times))
                rows.append((key if name in ranged.KEEP_NAME else drop_name(key), row, present))
    return rows


def _batches(
    context: EvaluationContext, name: str, ranges: RangeVector, times: Times
) -> Iterator[tuple[list[Labels], list[Window]]]:
    """Labels and windows of as many series as are computed at once."""
    check_deadline = context.budget.check_deadline
    width = 1
    if name in ranged.STACKED:
        longest = max((len(series_times) for series_times, _ in ranges.series), default=0)
        width = max(1, _STACKED_VALUES // max(len(times), longest // _STACKED_SAMPLES + 1))
    by_times = SharedWindows(ranges.starts, ranges.ends, times, check_deadline)
    for first in range(0, len(ranges.series), width):
        check_deadline()
        windows = [by_times.of(*arrays) for arrays in ranges.series[first : first + width]]
        yield ranges.labels[first : first + width], windows


def _applied(
    context: EvaluationContext, name: str, windows: list[Window], numbers: list[Values]
) -> Iterator[WindowValues]:
    function = ranged.RANGED[name]
    if name == "quantile_over_time":
        for window in windows:
            check_quantile(numbers[0][window.count > 0], context.budget)
    if len(windows) == 1:
        yield function(windows[0], *numbers)
    else:
        yield from zip(*function(stacked(windows), *numbers), strict=True)


def _joined(rows: list[_Row], times: Times) -> InstantVector:
    if not rows:
        return empty_vector(len(times))
    row_labels, row_values, presence = zip(*rows, strict=True)
    return merge_rows(list(row_labels), np.array(row_values), np.array(presence))


def _check_counter(context: EvaluationContext, name: str) -> None:
    if name and not name.endswith(_COUNTER_SUFFIXES):
        suffixes = "/".join(_COUNTER_SUFFIXES)
        message = f'metric might not be a counter, name does not end in {suffixes}: "{name}"'
        context.budget.inform(message)


def _absent(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    present = np.asarray(context.vector(node.args[0], times).present.any(axis=0))
    return _absent_row(node.args[0], ~present)


def _absent_over_time(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    ranges = context.range_vector(node.args[0], times)
    present = np.zeros(len(times), dtype=np.bool_)
    for sample_times, values in ranges.series:
        present |= (
            make_window(
                sample_times,
                values,
                ranges.starts,
                ranges.ends,
                times,
                context.budget.check_deadline,
            ).count
            > 0
        )
    return _absent_row(node.args[0], ~present)


def _absent_row(arg: Node, absent: np.ndarray) -> InstantVector:
    """A row of 1s where `absent` is set, labelled by the selector's `=` matchers.

    A label with more than one matcher is left out, as in Prometheus.
    """
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
    return InstantVector([pack_labels(fixed)], np.ones((1, len(absent))), absent[None, :])


def _scalar(context: EvaluationContext, node: Call, times: Times) -> Values:
    vector = context.vector(node.args[0], times)
    if not len(vector.labels):
        return np.full(len(times), np.nan)
    is_single = vector.present.sum(axis=0) == 1
    row = vector.present.argmax(axis=0)
    return np.where(is_single, vector.values[row, np.arange(len(times))], np.nan)


def _timestamp(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    """timestamp(): a selector's samples have their own times (s), any other vector the steps'."""
    arg = node.args[0]
    if isinstance(arg, Selector):
        vector, sample_times = context.newest(arg, times)
        seconds = sample_times / 1000
    else:
        vector = context.vector(arg, times)
        seconds = np.broadcast_to(times / 1000, vector.values.shape)
    return merge_rows([drop_name(labels) for labels in vector.labels], seconds, vector.present)


def _clamp(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    vector = context.vector(node.args[0], times)
    low, high = context.scalar(node.args[1], times), context.scalar(node.args[2], times)
    bounded = map_values(vector, lambda values: maths.maximum(low, maths.minimum(high, values)))
    return InstantVector(bounded.labels, bounded.values, bounded.present & ~(high < low))


def _clamp_one_side(bound: Callable[[Values, Values], Values]) -> Callable[..., InstantVector]:
    def clamp(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
        limit = context.scalar(node.args[1], times)
        return map_values(context.vector(node.args[0], times), lambda values: bound(values, limit))

    return clamp


def _round(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    nearest = context.scalar(node.args[1], times) if len(node.args) > 1 else np.ones(len(times))
    vector = context.vector(node.args[0], times)
    return map_values(vector, lambda values: maths.round_to(values, nearest))


def _quantile(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    ranks = context.scalar(node.args[0], times)
    check_quantile(ranks, context.budget)
    return histogram.quantile(context.vector(node.args[1], times), ranks, context.budget)


def _fraction(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    low, high = context.scalar(node.args[0], times), context.scalar(node.args[1], times)
    return histogram.fraction(context.vector(node.args[2], times), low, high, context.budget)


def _string_args(context: EvaluationContext, node: Call, times: Times) -> list[str]:
    return [cast("str", context.value(arg, times)) for arg in node.args[1:]]


def _label_replace(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    target, template, source, pattern = _string_args(context, node, times)
    vector = context.vector(node.args[0], times)
    return labels.replace(vector, target, template, source, pattern, context.budget)


def _label_join(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
    target, separator, *sources = _string_args(context, node, times)
    return labels.join(
        context.vector(node.args[0], times), target, separator, sources, context.budget
    )


def _check_instant(context: EvaluationContext, times: Times) -> None:
    if len(times) > 1:
        context.budget.warn(_SORT_INEFFECTIVE)


def _sort(*, ascending: bool) -> Callable[..., InstantVector]:
    def sort(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
        """By value at the first step, NaN last; a range query sorts its result by labels anyway."""
        vector = context.vector(node.args[0], times)
        _check_instant(context, times)
        first = vector.values[:, 0]
        order = np.lexsort((first if ascending else -first, np.isnan(first)))
        return vector.rows(order.tolist())

    return sort


def _sort_by_label(*, ascending: bool) -> Callable[..., InstantVector]:
    def sort(context: EvaluationContext, node: Call, times: Times) -> InstantVector:
        vector = context.vector(node.args[0], times)
        _check_instant(context, times)
        names = _string_args(context, node, times)

        def key(row: int) -> object:
            row_labels = vector.labels[row]
            return (
                [labels.natural_key(label_value(row_labels, name)) for name in names],
                row_labels,
            )

        order = sorted(range(len(vector.labels)), key=key, reverse=not ascending)  # type: ignore[arg-type]
        return vector.rows(order)

    return sort


_VECTOR_FUNCTIONS: dict[str, Callable[[EvaluationContext, Call, Times], CallResult]] = {
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    "clamp": _clamp,
    "clamp_max": _clamp_one_side(maths.minimum),
    "clamp_min": _clamp_one_side(maths.maximum),
    "histogram_fraction": _fraction,
    "histogram_quantile": _quantile,
    "label_join": _label_join,
    "label_replace": _label_replace,
    "pi": lambda context, node, times: np.full(len(times), np.pi),
    "round": _round,
    "scalar": _scalar,
    "sort": _sort(ascending=True),
    "sort_desc": _sort(ascending=False),
    "sort_by_label": _sort_by_label(ascending=True),
    "sort_by_label_desc": _sort_by_label(ascending=False),
    "time": lambda context, node, times: times / 1000,
    "timestamp": _timestamp,
    "vector": lambda context, node, times: single_row(context.scalar(node.args[0], times)),
}
