"""All steps at once must be what one step at a time gives, for whatever series and queries."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterd.promql.engine import QueryError, instant, query_range
from meterd.promql.source import STALE_BITS
from tests.promql.memory import Memory
from tests.promql.reader import Case
from tests.promql.test_cases import CASES

RANGES = [
    case
    for case in CASES
    if len(case.times) == 3
    and not any(line.startswith("fails") for line in case.expected)
    and "start()" not in case.query
    and "end()" not in case.query
]
QUERIES = (
    "c", "rate(c[70s])", "increase(c[5m])", "delta(c[1m])", "irate(c[1m])", "idelta(c[40s])",
    "deriv(c[2m])", "predict_linear(c[2m], 60)", "resets(c[3m])", "changes(c[3m])",
    "sum_over_time(c[2m])", "avg_over_time(c[2m])", "stddev_over_time(c[2m])",
    "min_over_time(c[1m])", "max_over_time(c[1m])", "quantile_over_time(0.3, c[2m])",
    "mad_over_time(c[2m])", "ts_of_max_over_time(c[2m])", "ts_of_min_over_time(c[2m])",
    "last_over_time(c[1m])", "first_over_time(c[1m])", "absent_over_time(c{i='0'}[15s])",
    "double_exponential_smoothing(c[2m], 0.3, 0.6)", "rate(c[1m] offset 20s)",
    "max_over_time(rate(c[1m])[2m:13s])", "sum(c)", "avg by (k) (c)", "topk(1, c)",
    "quantile(0.4, c)", "count_values('v', c)", "c > 3", "c + on(i) group_left d", "c unless d",
    "c or d", "c and on(i) d", "c % 3", "scalar(c)", "absent(c)", "stdvar(c)", "limitk(1, c)",
    "timestamp(c)", "histogram_quantile(0.5, label_replace(c, 'le', '$1', 'i', '(.*)'))",
)  # fmt: skip


def _refusal(ask: Callable[[], object]) -> str:
    """The kind of the QueryError that asking ends in, empty if it ends in none."""
    try:
        ask()
    except QueryError as error:
        return error.code
    return ""


def _same(source: Memory, query: str, times: tuple[int, ...]) -> None:
    start, end, step = times
    rows = query_range(source, query, start, end, step).data
    assert not isinstance(rows, str)
    found = {
        (tuple(sorted(row.labels.items())), int(time)): float(value)
        for row in rows
        for time, value in zip(row.times, row.values, strict=True)
    }
    single: dict[tuple[tuple[tuple[str, str], ...], int], float] = {}
    for time in range(start, end + 1, step):
        data = instant(source, query, time).data
        assert not isinstance(data, str)
        for row in data:
            single[tuple(sorted(row.labels.items())), time] = float(row.values[0])
    assert found.keys() == single.keys()
    for key, value in single.items():
        near = math.isclose(found[key], value, rel_tol=1e-9, abs_tol=1e-9)
        assert near or (math.isnan(value) and math.isnan(found[key])), (key, found[key], value)


@pytest.mark.parametrize("case", RANGES, ids=lambda case: f"{case.name} {case.query[:50]}")
def test_a_table_answers_each_step_alike(case: Case) -> None:
    _same(case.source, case.query, case.times)


_VALUE = st.one_of(
    st.integers(0, 9).map(float), st.sampled_from([math.nan, math.inf, -1.5, 1e6, 0.1])
)


@st.composite
def _sources(draw: st.DrawFn) -> Memory:
    source = Memory()
    for number in range(draw(st.integers(1, 3))):
        gaps = draw(st.lists(st.integers(1, 60_000), max_size=25))
        times = np.cumsum([0, *gaps]).astype(np.int64)
        values = np.array(draw(st.lists(_VALUE, min_size=len(times), max_size=len(times))))
        bits = values.view(np.uint64)
        bits[
            np.array(draw(st.lists(st.integers(0, 60), max_size=3)), dtype=int) % 61 % len(bits)
        ] = STALE_BITS
        labels = {"__name__": "c", "i": str(number), "k": str(number % 2)}
        source.add(labels, times.tolist(), bits.view(np.float64))
    source.add({"__name__": "d", "i": "0"}, list(range(0, 600_000, 45_000)), np.arange(14.0))
    return source


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("query", QUERIES)
@given(source=_sources(), step=st.integers(5_000, 90_000))
def test_steps_do_not_see_each_other(query: str, source: Memory, step: int) -> None:
    kind = _refusal(lambda: _same(source, query, (0, 12 * step, step)))
    assert kind in ("", "execution")


_WORDS = st.sampled_from(
    (
        *("x", "y{a='b'}", "1", "2.5", "[5m]", "[5m:1m]", "(", ")", ",", "+", "-", "*", "/", "^"),
        *("==", "bool", "and", "or", "unless", "on(a)", "ignoring()", "sum", "avg", "by(a)"),
        *("rate(", "abs(", "offset", "5m", "@", "0", "-3", "start()", "topk(", "'text'", "`raw`"),
        *('"q"', "group_left()", "{", "}", "[", "]", ":", "=~", "!=", "inf", "nan", "0x1f", "1h"),
        *("label_replace(", "vector(", "time()", "without", "#", "\n", "_", 'a="b"', "1e999", "é"),
        *("0x" + "f" * 400, "quantile(", "count_values(", "histogram_quantile(", "limitk("),
    )
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(_WORDS, max_size=12).map(" ".join), st.text(max_size=30)))
def test_any_text_is_answered_or_refused(text: str) -> None:
    source = Memory()
    source.add({"__name__": "x", "a": "b"}, [0, 60_000], [1.0, 2.0])
    kind = _refusal(lambda: instant(source, text, 60_000))
    assert kind in ("", "bad_data", "execution")
    kind = _refusal(lambda: query_range(source, text, 0, 60_000, 30_000))
    assert kind in ("", "bad_data", "execution")
