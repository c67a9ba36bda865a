"""Builds the plan (nodes.py) from promql-parser's tree: types, strings, semantic checks.

A node is `step_invariant` where all its selectors have an `@`: it is evaluated once.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

import promql_parser

from meterd.promql.durations import LONGEST_MS
from meterd.promql.input_limits import SENTINEL_VALUE, Parsed, mapped_errors, parse
from meterd.promql.matcher import Matcher, compile_matcher
from meterd.promql.nodes import (
    Aggregate,
    Binary,
    Call,
    Matching,
    Negate,
    Node,
    Number,
    Selector,
    Shift,
    Subquery,
    Text,
    ValueType,
)
from meterd.promql.result import PromErrorType, QueryError

# Functions of the step's own time, so never step-invariant, whatever their arguments are.
_TIME_DEPENDENT = frozenset(
    [
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "hour",
        "minute",
        "month",
        "year",
        "predict_linear",
        "time",
        "timestamp",
    ]
)
_TYPE_NAMES = {
    "scalar": "scalar",
    "string": "string",
    "vector": "instant vector",
    "matrix": "range vector",
}
_MATCH_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def plan(query: str) -> Node:
    """Parses and checks a query. Raises QueryError (bad_data)."""
    parsed = parse(query)
    with mapped_errors(query, parsed.texts):
        return _Planner(parsed).node(parsed.tree)


def selector(query: str) -> Selector:
    """Parses a bare vector selector, as in `match[]`. Raises QueryError (bad_data)."""
    node = plan(query)
    if not isinstance(node, Selector) or node.range_ms or node.shift != Shift():
        raise QueryError(
            PromErrorType.BAD_DATA, f'{query[:80]!r} is no series selector such as x{{a="b"}}'
        )
    return node


class _Planner:
    """Translates one query's tree, recursively; input_limits.py has bounded its depth."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._unquoted = parsed.text
        self._kinds: dict[type, Callable[[Any], Node]] = {
            promql_parser.NumberLiteral: lambda tree: Number(tree.val),
            promql_parser.StringLiteral: lambda tree: Text(self._unquoted(tree.val)),
            promql_parser.VectorSelector: lambda tree: self._selector(tree, 0),
            promql_parser.MatrixSelector: self._range,
            promql_parser.SubqueryExpr: self._subquery,
            promql_parser.Call: self._call,
            promql_parser.AggregateExpr: self._aggregate,
            promql_parser.BinaryExpr: self._binary,
            promql_parser.UnaryExpr: self._unary,
        }

    def node(self, tree: Any) -> Node:
        while isinstance(tree, promql_parser.ParenExpr):
            tree = tree.expr
        return self._kinds[type(tree)](tree)

    def _selector(self, tree: Any, range_ms: int) -> Selector:
        if tree.matchers.or_matchers:
            raise _bad_data('"or" between matchers is not PromQL; use a regular expression')
        matchers = tuple(
            Matcher(self._unquoted(matcher.name), _op(matcher.op), self._unquoted(matcher.value))
            for matcher in tree.matchers.matchers
            if matcher.value != SENTINEL_VALUE
        )
        if tree.name is not None:
            _check_metric_name(self._unquoted(tree.name), matchers)
            matchers = (Matcher("__name__", "=", self._unquoted(tree.name)), *matchers)
        if all(compile_matcher(matcher)("") for matcher in matchers):
            raise _bad_data("vector selector must contain at least one non-empty matcher")
        shift = self._shift(tree)
        kind: ValueType = "matrix" if range_ms else "vector"
        return Selector(matchers, shift, range_ms, kind, shift.at is not None)

    def _range(self, tree: Any) -> Selector:
        return self._selector(tree.vector_selector, _range_ms(tree.range))

    def _subquery(self, tree: Any) -> Subquery:
        body = self.node(tree.expr)
        shift = self._shift(tree)
        step = _range_ms(tree.step) if tree.step is not None else 0
        # As the window moves it holds more or fewer steps, even of a step-invariant body.
        return Subquery(body, _range_ms(tree.range), step, shift, shift.at is not None)

    def _shift(self, tree: Any) -> Shift:
        offset = 0 if tree.offset is None else self._parsed.offset(_milliseconds(tree.offset) - 1)
        if tree.at is None:
            return Shift(offset)
        kind = tree.at.type
        if kind == promql_parser.AtModifierType.At:
            return Shift(offset, self._parsed.moment(round(tree.at.at.timestamp())))
        at: Literal["start", "end"]
        at = "start" if kind == promql_parser.AtModifierType.Start else "end"
        return Shift(offset, at)

    def _call(self, tree: Any) -> Call:
        from meterd.promql.functions import is_function

        name = tree.func.name
        if not is_function(name):
            raise _bad_data(f'unknown function with name "{name}"')
        args = tuple(map(self.node, tree.args))
        step_invariant = name not in _TIME_DEPENDENT and all(arg.step_invariant for arg in args)
        return Call(name, args, _type(tree.func.return_type), step_invariant)

    def _aggregate(self, tree: Any) -> Aggregate:
        body = self.node(tree.expr)
        param = None if tree.param is None else self.node(tree.param)
        labels = () if tree.modifier is None else tuple(map(self._unquoted, tree.modifier.labels))
        by = tree.modifier is None or tree.modifier.type == promql_parser.AggModifierType.By
        step_invariant = body.step_invariant and (param is None or param.step_invariant)
        _expect(body, "vector")
        if param is not None:  # the parser checks it for some operators only
            _expect(param, "string" if str(tree.op) == "count_values" else "scalar")
        return Aggregate(str(tree.op), body, param, by, labels, step_invariant)

    def _binary(self, tree: Any) -> Binary:
        left, right = self.node(tree.lhs), self.node(tree.rhs)
        matching = Matching() if tree.modifier is None else self._matching(tree.modifier)
        kind: ValueType = "scalar" if left.type == right.type == "scalar" else "vector"
        if "scalar" in (left.type, right.type) and matching != Matching():
            raise _bad_data("vector matching only allowed between instant vectors")
        bool_ = tree.modifier is not None and tree.modifier.return_bool
        step_invariant = left.step_invariant and right.step_invariant
        return Binary(str(tree.op), left, right, matching, bool_, kind, step_invariant)

    def _matching(self, modifier: Any) -> Matching:
        fill = modifier.fill_values
        if fill is not None and (fill.lhs is not None or fill.rhs is not None):
            raise _bad_data("fill modifiers are experimental and not offered here")
        many: Literal["left", "right"] | None = None
        if modifier.card == promql_parser.VectorMatchCardinality.ManyToOne:
            many = "left"
        elif modifier.card == promql_parser.VectorMatchCardinality.OneToMany:
            many = "right"
        include = tuple(map(self._unquoted, modifier.group_labels or ()))
        if modifier.matching is None:
            return Matching(many=many, include=include)
        on = modifier.matching.type == promql_parser.LabelModifierType.Include
        labels = tuple(map(self._unquoted, modifier.matching.labels))
        common = sorted(set(labels) & set(include)) if on else []
        if common:
            raise _bad_data(f'label "{common[0]}" must not occur in ON and GROUP clause at once')
        return Matching(on, labels, many, include)

    def _unary(self, tree: Any) -> Negate:
        body = self.node(tree.expr)
        return Negate(body, body.type, body.step_invariant)


def _expect(node: Node, kind: ValueType) -> None:
    if node.type != kind:
        expected, actual = _TYPE_NAMES[kind], _TYPE_NAMES[node.type]
        raise _bad_data(f"expected type {expected} in aggregation expression, got {actual}")


def _check_metric_name(name: str, matchers: Sequence[Matcher]) -> None:
    """Refuses {"name", __name__="…"}: the parser sees placeholders, and cannot check it."""
    for matcher in matchers:
        if matcher.name == "__name__":
            message = f'metric name must not be set twice: "{name}" or "{matcher.value}"'
            raise _bad_data(message)


def _op(op: Any) -> str:
    return _MATCH_OPERATORS[str(op).rpartition(".")[2]]


def _type(kind: Any) -> ValueType:
    kinds: dict[str, ValueType] = {
        "Vector": "vector", "Scalar": "scalar", "Matrix": "matrix", "String": "string",
    }  # fmt: skip
    return kinds[str(kind).rpartition(".")[2]]


def _milliseconds(length: timedelta) -> int:
    """Whole ms; total_seconds() is a float and would lose some."""
    ms = length // timedelta(milliseconds=1)
    if abs(ms) > LONGEST_MS:
        raise _bad_data("duration out of range")
    return ms


def _range_ms(length: timedelta) -> int:
    ms = _milliseconds(length)
    if ms <= 0:
        raise _bad_data("duration must be greater than 0")
    return ms


def _bad_data(message: str) -> QueryError:
    return QueryError(PromErrorType.BAD_DATA, f"parse error: {message}")
