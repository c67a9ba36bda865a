"""Limits, lookback by series, and how sparingly the source is asked."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from meterd.promql.engine import QueryError, QueryLimits, Result, instant, query_range
from meterd.promql.result import ResultSeries
from meterd.promql.select import matching_ids, parse_selector
from meterd.promql.source import STALE_BITS, Folded, Times, Values, is_stale, stale_mark
from tests.promql.memory import Memory

MINUTE = 60_000
YEAR = 365 * 86_400_000


def _ramp(count: int = 100, step: int = 10_000, interval: int = 0, series: int = 1) -> Memory:
    source = Memory()
    for number in range(series):
        labels = {"__name__": "x", "i": str(number)}
        source.add(
            labels, [n * step for n in range(count)], [float(n) for n in range(count)], interval
        )
    return source


def _rows(result: Result) -> tuple[ResultSeries, ...]:
    assert not isinstance(result.data, str)
    return result.data


def test_a_slow_series_is_looked_back_for_three_of_its_intervals() -> None:
    source = Memory()
    source.add({"__name__": "slow"}, [0], [7.0], interval=600_000)
    source.add({"__name__": "fast"}, [0], [8.0], interval=10_000)
    at = 29 * MINUTE
    assert [row.values[0] for row in _rows(instant(source, '{__name__=~".+"}', at))] == [7.0]
    assert instant(source, "slow", 30 * MINUTE).data == ()


def test_the_lookback_is_a_limit_of_the_caller() -> None:
    source = _ramp(1)
    assert instant(source, "x", 30_000, limits=QueryLimits(lookback_ms=20_000)).data == ()


def test_too_many_samples_are_refused() -> None:
    with pytest.raises(QueryError, match="too many samples") as caught:
        instant(_ramp(100), "x[1h]", 990_000, limits=QueryLimits(max_samples=50))
    assert caught.value.code == "execution"


def test_too_many_cells_are_refused_before_they_are_made() -> None:
    with pytest.raises(QueryError, match="too many samples"):
        query_range(
            _ramp(2, series=100), "x", 0, 10_000, 10, limits=QueryLimits(max_samples=50_000)
        )


def test_a_deadline_that_has_passed_ends_the_query() -> None:
    limits = QueryLimits(deadline=5.0, clock=lambda: 6.0)
    with pytest.raises(QueryError, match="query timed out in expression evaluation") as caught:
        instant(_ramp(), "x", 0, limits=limits)
    assert caught.value.code == "timeout"


def test_the_deadline_is_asked_between_series() -> None:
    now = iter(range(1_000))
    limits = QueryLimits(deadline=50.0, clock=lambda: float(next(now)))
    with pytest.raises(QueryError, match="timed out"):
        instant(_ramp(series=100), "rate(x[1m])", 900_000, limits=limits)


def test_nobody_waiting_ends_the_query() -> None:
    with pytest.raises(QueryError, match="query was canceled") as caught:
        instant(_ramp(), "x", 0, limits=QueryLimits(canceled=lambda: True))
    assert caught.value.code == "canceled"


def test_ten_years_by_the_second_are_refused_at_once() -> None:
    # Nothing is read for it.
    with pytest.raises(QueryError, match="exceeded maximum resolution of 11,000 points"):
        query_range(None, "x", 0, 10 * YEAR, 1_000)  # type: ignore[arg-type]


def test_exactly_the_points_allowed_are_answered() -> None:
    row = _rows(query_range(_ramp(2), "vector(1)", 0, 11_000_000, 1_000))[0]
    assert len(row.times) == 11_001


def test_between_far_steps_nothing_is_read() -> None:
    source = _ramp(10, interval=1_000)
    query_range(source, "rate(x[5m])", 0, YEAR, 86_400_000)
    read = sum(end - start for _, start, end in source.fetched)
    assert read == 366 * 5 * MINUTE


def test_holes_are_skipped_too_where_reading_all_would_be_too_much() -> None:
    source = _ramp(10, interval=10_000)
    query_range(source, "x", 0, YEAR, 86_400_000, limits=QueryLimits(max_samples=1_000_000))
    assert sum(end - start for _, start, end in source.fetched) == 366 * 5 * MINUTE


def test_few_samples_are_read_at_once_even_with_holes_between() -> None:
    source = _ramp(10, interval=10_000)
    query_range(source, "x", 0, 30 * 86_400_000, 3_600_000)
    assert len(source.fetched) == 1


def test_near_steps_are_read_in_one_piece() -> None:
    source = _ramp(100, interval=10_000)
    query_range(source, "rate(x[5m])", 0, 900_000, MINUTE)
    assert source.fetched == [(1, -5 * MINUTE, 900_000)]


def test_long_reaches_are_read_in_pieces_that_meet() -> None:
    source = _ramp(10, interval=1_000)
    result = instant(source, "count_over_time(x[1y])", YEAR // 2)
    assert _rows(result)[0].values[0] == 10
    ends = [(start, end) for _, start, end in source.fetched]
    assert len(ends) > 10
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    assert (ends[0][0], ends[-1][1]) == (YEAR // 2 - YEAR, YEAR // 2)


def test_times_beyond_reason_are_refused() -> None:
    with pytest.raises(QueryError) as caught:
        instant(_ramp(), "x", 1 << 60)
    assert caught.value.code == "bad_data"


@pytest.mark.parametrize("query", ["x offset 292y", "x @ -1e12", "x offset -292y"])
def test_far_times_within_reason_are_just_empty(query: str) -> None:
    assert instant(_ramp(1), query, 10**15).data == ()


@pytest.mark.parametrize("query", ["x offset 293y", "x[9999y]", "x offset -9999y"])
def test_durations_end_where_those_of_prometheus_do(query: str) -> None:
    with pytest.raises(QueryError, match="duration out of range") as caught:
        instant(_ramp(1), query, 0)
    assert caught.value.code == "bad_data"


def test_what_a_range_function_makes_counts_as_samples() -> None:
    source, limits = _ramp(20, series=30), QueryLimits(max_samples=30 * 1000)
    assert _rows(query_range(source, "rate(x[1m])", 0, 190_000, 1_000, limits=limits))
    for query in ("rate(x[1h])", "last_over_time(x[1h])"):
        with pytest.raises(QueryError, match="too many samples") as caught:
            query_range(source, query, 0, 2_000_000, 1_000, limits=limits)
        assert caught.value.code == "execution"


def test_functions_of_labels_look_at_the_clock() -> None:
    ticks = itertools.count()
    limits = QueryLimits(deadline=50.0, clock=lambda: float(next(ticks)))
    for query in ('label_replace(x, "a", "$1", "i", "(.*)")', 'label_join(x, "a", "-", "i")'):
        with pytest.raises(QueryError, match="timed out"):
            instant(_ramp(1, series=200), query, 0, limits=limits)


def test_labels_do_not_grow_until_all_memory_is_full() -> None:
    many = "$1" * 10
    inner = label = 'label_replace(x, "a", "0123456789", "i", ".*")'
    for _ in range(9):
        label = f'label_replace({label}, "a", "{many}", "a", "(.*)")'
    long = f'label_replace({inner}, "a", "{"y" * 9000}", "i", ".*")'
    for query in (label, f'label_join({long}, "b", "-", "a", "a")'):
        with pytest.raises(QueryError, match="longer than 16384") as caught:
            instant(_ramp(1), query, 0)
        assert caught.value.code == "execution"
    (row,) = _rows(instant(_ramp(1), f'label_join({long}, "b", "-", "a")', 0))
    assert len(dict(row.labels)["b"]) == 9000


def test_what_is_fixed_to_a_moment_is_read_once() -> None:
    source = _ramp(100)
    query_range(source, "sum(rate(x[1m] @ 500))", 0, 900_000, 1_000)
    assert source.fetched == [(1, 440_000, 500_000)]


def test_matrix_rows_are_sorted_by_labels() -> None:
    source = Memory()
    for name in ("b", "a", "c"):
        source.add({"__name__": "x", "i": name}, [0], [1.0])
    rows = _rows(query_range(source, "x", 0, 0, 1_000))
    assert [row.labels["i"] for row in rows] == ["a", "b", "c"]


def test_a_selector_finds_ids() -> None:
    source = _ramp(1, series=12)
    found = matching_ids(source.names(), parse_selector('x{i=~"1.?",i!="10"}'))
    assert found == [1, 11]


@pytest.mark.parametrize("text", ["x[5m]", "x offset 5m", "sum(x)", "1", "x @ 5", "", "{}", "x{"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_selector(text)
    assert caught.value.code == "bad_data"


def test_the_stale_mark_is_one_nan_among_many() -> None:
    assert is_stale(stale_mark()).tolist() == [True]
    assert is_stale(np.array([np.nan, 1.0, np.inf])).tolist() == [False] * 3
    assert int(stale_mark().view(np.uint64)[0]) == STALE_BITS


def test_notes_come_once_each() -> None:
    source = _ramp(100, series=5)
    result = query_range(source, "quantile(2, rate(x[1m]))", 0, 900_000, MINUTE)
    assert result.warnings == ("PromQL warning: quantile value should be between 0 and 1, got 2",)
    assert len(result.infos) == 1


@pytest.mark.parametrize(
    "query", ["sort(x)", "sort_desc(sum by (i) (x))", 'sort_by_label(x, "i")', "1 + sort(x)"]
)
def test_a_range_says_that_it_has_an_order_of_its_own(query: str) -> None:
    source = _ramp(series=2)
    told = (
        "PromQL warning: sort is ineffective for range queries "
        "since results are always ordered by labels"
    )
    assert query_range(source, query, 0, 100_000, 10_000).warnings == (told,)
    assert instant(source, query, 100_000).warnings == ()


class Folding(Memory):
    """Folds every window to 7 itself, and remembers of how many series at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def samples(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        return self.fetch(ids, start, end)

    def fold(
        self, ids: Sequence[int], function: str, starts: Times, ends: Times
    ) -> Sequence[Folded | None]:
        self.asked.append(len(ids))
        seven = Folded(np.full(len(starts), 7.0), np.ones(len(starts), np.bool_))
        # The last series is left to its samples.
        return [seven if number else None for number in ids]


def test_a_source_folds_what_it_can_and_the_rest_is_folded_from_samples() -> None:
    source = Folding()
    for number in range(3):
        source.add({"__name__": "x", "n": str(number)}, [1_000, 2_000], [1.0, 2.0])
    found = query_range(source, "sum_over_time(x[1h])", 3_000, 3_000, 1_000)
    assert not isinstance(found.data, str)
    assert [one.values.tolist() for one in found.data] == [[3.0], [7.0], [7.0]]
    assert source.asked == [3]
    # Other functions need samples.
    query_range(source, "last_over_time(x[1h])", 3_000, 3_000, 1_000)
    assert source.asked == [3]


def test_a_long_range_is_folded_by_some_series_at_once_with_the_deadline_between() -> None:
    source = Folding()
    for number in range(1, 9):
        source.add({"__name__": "x", "n": str(number)}, [1_000], [1.0])
    year = 366 * 86_400_000
    query = "avg_over_time(x[1d])", 0, 20 * year, year
    query_range(source, *query)
    assert sum(source.asked) == 8
    assert max(source.asked) < 4
    source.asked.clear()
    ticks = itertools.count()
    limits = QueryLimits(deadline=6.0, clock=lambda: float(next(ticks)))
    with pytest.raises(QueryError, match="timed out"):
        query_range(source, *query, limits=limits)
    assert 0 < sum(source.asked) < 8
