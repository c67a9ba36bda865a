"""From promql-parser's tree to our own nodes: typed, strings put back, what is refused refused.

`fixed` marks what is the same at every step (all its selectors have an @): it is computed once.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

import promql_parser

from meterd.promql.durations import LONGEST_MS
from meterd.promql.input_limits import GIVEN, Parsed, mapped, parse
from meterd.promql.matcher import Matcher, compiled
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

# Their answers follow the clock of the step, whatever their arguments are fixed to.
_CLOCKED = frozenset(
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
_LONG_TYPES = {
    "scalar": "scalar",
    "string": "string",
    "vector": "instant vector",
    "matrix": "range vector",
}
_OPS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def plan(query: str) -> Node:
    """The nodes of a query. Raises QueryError (bad_data)."""
    parsed = parse(query)
    with mapped(query, parsed.texts):
        return _Planner(parsed).node(parsed.tree)


def selector(query: str) -> Selector:
    """The one vector selector that the text is. Raises QueryError (bad_data)."""
    node = plan(query)
    if not isinstance(node, Selector) or node.span or node.shift != Shift():
        raise QueryError(
            PromErrorType.BAD_DATA, f'{query[:80]!r} is no series selector such as x{{a="b"}}'
        )
    return node


class _Planner:
    """One query's translation; depth was bounded by the guard."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._text = parsed.text
        self._kinds: dict[type, Callable[[Any], Node]] = {
            promql_parser.NumberLiteral: lambda tree: Number(tree.val),
            promql_parser.StringLiteral: lambda tree: Text(self._text(tree.val)),
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

    def _selector(self, tree: Any, span: int) -> Selector:
        if tree.matchers.or_matchers:
            raise _refused('"or" between matchers is not PromQL; use a regular expression')
        matchers = tuple(
            Matcher(self._text(each.name), _op(each.op), self._text(each.value))
            for each in tree.matchers.matchers
            if each.value != GIVEN
        )
        if tree.name is not None:
            _refuse_second_name(self._text(tree.name), matchers)
            matchers = (Matcher("__name__", "=", self._text(tree.name)), *matchers)
        if all(compiled(matcher)("") for matcher in matchers):
            raise _refused("vector selector must contain at least one non-empty matcher")
        shift = self._shift(tree)
        kind: ValueType = "matrix" if span else "vector"
        return Selector(matchers, shift, span, kind, shift.at is not None)

    def _range(self, tree: Any) -> Selector:
        return self._selector(tree.vector_selector, _span(tree.range))

    def _subquery(self, tree: Any) -> Subquery:
        body = self.node(tree.expr)
        shift = self._shift(tree)
        step = _span(tree.step) if tree.step is not None else 0
        # Even a fixed body is met by more or fewer steps of the subquery as the window moves.
        return Subquery(body, _span(tree.range), step, shift, shift.at is not None)

    def _shift(self, tree: Any) -> Shift:
        offset = 0 if tree.offset is None else self._parsed.offset(_ms(tree.offset) - 1)
        if tree.at is None:
            return Shift(offset)
        kind = tree.at.type
        if kind == promql_parser.AtModifierType.At:
            return Shift(offset, self._parsed.moment(round(tree.at.at.timestamp())))
        at: Literal["start", "end"]
        at = "start" if kind == promql_parser.AtModifierType.Start else "end"
        return Shift(offset, at)

    def _call(self, tree: Any) -> Call:
        from meterd.promql.functions import known

        name = tree.func.name
        if not known(name):
            raise _refused(f'unknown function with name "{name}"')
        args = tuple(map(self.node, tree.args))
        fixed = name not in _CLOCKED and all(arg.fixed for arg in args)
        return Call(name, args, _type(tree.func.return_type), fixed)

    def _aggregate(self, tree: Any) -> Aggregate:
        body = self.node(tree.expr)
        param = None if tree.param is None else self.node(tree.param)
        labels = () if tree.modifier is None else tuple(map(self._text, tree.modifier.labels))
        by = tree.modifier is None or tree.modifier.type == promql_parser.AggModifierType.By
        fixed = body.fixed and (param is None or param.fixed)
        _expect(body, "vector")
        if param is not None:  # the parser looks at some of the operators only
            _expect(param, "string" if str(tree.op) == "count_values" else "scalar")
        return Aggregate(str(tree.op), body, param, by, labels, fixed)

    def _binary(self, tree: Any) -> Binary:
        left, right = self.node(tree.lhs), self.node(tree.rhs)
        matching = Matching() if tree.modifier is None else self._matching(tree.modifier)
        kind: ValueType = "scalar" if left.type == right.type == "scalar" else "vector"
        if "scalar" in (left.type, right.type) and matching != Matching():
            raise _refused("vector matching only allowed between instant vectors")
        bool_ = tree.modifier is not None and tree.modifier.return_bool
        fixed = left.fixed and right.fixed
        return Binary(str(tree.op), left, right, matching, bool_, kind, fixed)

    def _matching(self, modifier: Any) -> Matching:
        fill = modifier.fill_values
        if fill is not None and (fill.lhs is not None or fill.rhs is not None):
            raise _refused("fill modifiers are experimental and not offered here")
        many: Literal["left", "right"] | None = None
        if modifier.card == promql_parser.VectorMatchCardinality.ManyToOne:
            many = "left"
        elif modifier.card == promql_parser.VectorMatchCardinality.OneToMany:
            many = "right"
        include = tuple(map(self._text, modifier.group_labels or ()))
        if modifier.matching is None:
            return Matching(many=many, include=include)
        on = modifier.matching.type == promql_parser.LabelModifierType.Include
        labels = tuple(map(self._text, modifier.matching.labels))
        both = sorted(set(labels) & set(include)) if on else []
        if both:
            raise _refused(f'label "{both[0]}" must not occur in ON and GROUP clause at once')
        return Matching(on, labels, many, include)

    def _unary(self, tree: Any) -> Negate:
        body = self.node(tree.expr)
        return Negate(body, body.type, body.fixed)


def _expect(node: Node, kind: ValueType) -> None:
    if node.type != kind:
        wanted, got = _LONG_TYPES[kind], _LONG_TYPES[node.type]
        raise _refused(f"expected type {wanted} in aggregation expression, got {got}")


def _refuse_second_name(name: str, matchers: Sequence[Matcher]) -> None:
    """A quoted label is no `__name__` to the parser, which sees a place holder."""
    for matcher in matchers:
        if matcher.name == "__name__":
            twice = f'metric name must not be set twice: "{name}" or "{matcher.value}"'
            raise _refused(twice)


def _op(op: Any) -> str:
    return _OPS[str(op).rpartition(".")[2]]


def _type(kind: Any) -> ValueType:
    kinds: dict[str, ValueType] = {
        "Vector": "vector", "Scalar": "scalar", "Matrix": "matrix", "String": "string",
    }  # fmt: skip
    return kinds[str(kind).rpartition(".")[2]]


def _ms(length: timedelta) -> int:
    """Whole ms; a float of seconds would lose some."""
    ms = length // timedelta(milliseconds=1)
    if abs(ms) > LONGEST_MS:
        raise _refused("duration out of range")
    return ms


def _span(length: timedelta) -> int:
    ms = _ms(length)
    if ms <= 0:
        raise _refused("duration must be greater than 0")
    return ms


def _refused(what: str) -> QueryError:
    return QueryError(PromErrorType.BAD_DATA, f"parse error: {what}")
