"""Windows and sums without loops, against the plain loops they stand for."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.promql import prefix_sums
from meterd.promql.functions import over_time, ranged, rates
from meterd.promql.source import Times, Values
from meterd.promql.stats import mean, neumaier, quantiles
from meterd.promql.window import Window, make_window, reduce_windows, stacked, tiles


def _shown(values: Values, span: int, step: int, every: int = 1_000) -> Window:
    times = np.arange(len(values), dtype=np.int64) * every
    ends = np.arange(0, len(values) * every, step, dtype=np.int64)
    return make_window(times, values, ends - span, ends, ends, lambda: None)


def _inside(shown: Window) -> list[Values]:
    return [shown.values[low:high] for low, high in zip(shown.low, shown.high, strict=True)]


def _kahan(values: list[float]) -> tuple[float, float]:
    """Neumaier's sum as Prometheus adds, one value after the other."""
    total = loss = 0.0
    for value in values:
        new = total + value
        loss += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
        total = new
    return total, loss


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60))
def test_sums_round_as_prometheus_does(values: list[float]) -> None:
    sums, losses = neumaier(np.array(values)[:, None])
    assert (sums[0], losses[0]) == _kahan(values)


def test_a_sum_that_cancels_keeps_what_is_left() -> None:
    assert float(np.add(*neumaier(np.array([[1e100], [1.0], [-1e100]])))[0]) == 1.0


def test_a_mean_does_not_overflow() -> None:
    rows = np.array([[1.7e308], [1.7e308]])
    assert mean(rows, np.ones((2, 1), dtype=np.bool_), np.array([2]))[0] == 1.7e308


def test_a_window_is_open_on_the_left_and_closed_on_the_right() -> None:
    shown = _shown(np.arange(10.0), 3_000, 3_000)
    assert [each.tolist() for each in _inside(shown)] == [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("span", [500, 1_000, 7_000, 400_000])
def test_tiles_hold_every_window_once(span: int) -> None:
    shown = _shown(np.arange(3_000.0), span, 700)
    found: list[list[float]] = []
    for tile in tiles(shown):
        columns = zip(shown.values[tile.indices].T, tile.inside.T, strict=True)
        found += [column[inside].tolist() for column, inside in columns]
    assert found == [each.tolist() for each in _inside(shown)]


def test_reduced_is_the_fold_of_each_window() -> None:
    shown = _shown(np.random.default_rng(1).random(500), 9_000, 1_300)
    expected = [each.max() for each in _inside(shown)]
    assert reduce_windows(shown, np.fmax, shown.values).tolist() == expected


def _series() -> list[Values]:
    random = np.random.default_rng(7)
    noise = random.random(6_000)
    return [
        noise * 1_000,
        np.cumsum(noise),
        1e9 + noise,
        np.where(noise < 0.001, 1e30, noise),
        noise - 0.5,
        np.zeros(6_000),
        np.where(np.arange(6_000) < 3_000, 5.0, noise),
    ]


@pytest.mark.parametrize("values", _series(), ids=range(7))
@pytest.mark.parametrize("function", [over_time.sum_, over_time.avg, over_time.stdvar])
def test_long_windows_give_what_short_ones_would(
    function: type, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _shown(values, 1_000_000, 20_000)
    assert prefix_sums.is_long(shown)
    quick = function(shown)[0]
    monkeypatch.setattr(prefix_sums, "_MIN_SAMPLES", 1 << 60)
    slow = function(shown)[0]
    assert np.allclose(quick, slow, rtol=1e-10, atol=0.0)
    if function is over_time.sum_:
        assert (quick == slow).all()


@pytest.mark.parametrize("values", _series(), ids=range(7))
def test_long_windows_have_the_line_of_least_squares(values: Values) -> None:
    shown = _shown(values, 1_000_000, 20_000)
    slopes, here = rates.deriv(shown)
    forecast = rates.predict_linear(shown, np.full(len(shown.low), 60.0))[0]
    for step in np.flatnonzero(here).tolist():
        data = shown.values[shown.low[step] : shown.high[step]]
        at = shown.times[shown.low[step] : shown.high[step]] / 1e3
        x, y = at - at.mean(), data - data.mean()
        slope = float((x * y).sum() / (x * x).sum())
        ahead = float(data.mean()) + slope * (shown.step_times[step] / 1e3 - float(at.mean()) + 60)
        scale = 1e-12 * float(np.abs(data).max())
        assert math.isclose(slopes[step], slope, rel_tol=1e-7, abs_tol=scale)
        assert math.isclose(forecast[step], ahead, rel_tol=1e-7, abs_tol=1e3 * scale)


def _rate(times: Times, values: list[float], start: int, end: int) -> float:
    """The rate of a counter by the book: one sample after the other."""
    rise = values[-1] - values[0]
    rise += sum(a for a, b in pairwise(values) if b < a)
    sampled = (int(times[-1]) - int(times[0])) / 1000
    usual = sampled / (len(values) - 1)
    before, after = (int(times[0]) - start) / 1000, (end - int(times[-1])) / 1000
    before = usual / 2 if before >= usual * 1.1 else before
    after = usual / 2 if after >= usual * 1.1 else after
    if rise > 0 and values[0] >= 0:
        before = min(before, sampled * (values[0] / rise))
    return rise * ((sampled + before + after) / sampled) / ((end - start) / 1000)


@given(
    st.lists(st.tuples(st.integers(1, 40_000), st.integers(0, 50)), min_size=2, max_size=40),
    st.integers(10_000, 200_000),
)
def test_rates_are_those_by_the_book(samples: list[tuple[int, int]], span: int) -> None:
    times = np.cumsum([gap for gap, _ in samples]).astype(np.int64)
    values = np.array([float(value) for _, value in samples])
    ends = np.arange(0, int(times[-1]) + span, 17_000, dtype=np.int64)
    shown = make_window(times, values, ends - span, ends, ends, lambda: None)
    found, here = rates.rate(shown)
    for step, (low, high) in enumerate(zip(shown.low, shown.high, strict=True)):
        assert here[step] == (high - low >= 2)
        if here[step]:
            end = int(ends[step])
            expected = _rate(times[low:high], values[low:high].tolist(), end - span, end)
            assert math.isclose(found[step], expected, rel_tol=1e-12, abs_tol=1e-15)


def test_few_long_windows_are_smoothed_as_many_are() -> None:
    shown = _shown(np.random.default_rng(2).random(400), 200_000, 10_000)
    factors = np.full(len(shown.low), 0.3), np.full(len(shown.low), 0.7)
    together, here = over_time.double_exponential_smoothing(shown, *factors)
    for step in np.flatnonzero(here).tolist():
        one = shown.select_steps(np.array([step]))
        alone = over_time.double_exponential_smoothing(one, factors[0][:1], factors[1][:1])[0]
        assert np.allclose(alone[0], together[step], rtol=1e-12)


def test_quantiles_look_only_at_what_is_inside() -> None:
    data = np.array([[9.0], [1.0], [0.0], [3.0]])
    inside = np.array([[False], [True], [False], [True]])
    assert quantiles(data, inside, np.array([2]), np.array([0.5]))[0] == 2.0


@pytest.mark.parametrize("name", sorted(ranged.STACKED))
def test_stacked_series_have_the_values_that_each_has_alone(name: str) -> None:
    chance = np.random.default_rng(7)
    ends = np.arange(0, 400_000, 7_000, dtype=np.int64)
    windows = []
    for count in (0, 1, 2, 40, 41):
        times = np.sort(chance.choice(400_000, count, replace=False)).astype(np.int64)
        values = np.where(chance.random(count) < 0.2, 0.0, chance.random(count) * 1e6)
        windows.append(make_window(times, values, ends - 60_000, ends, ends, lambda: None))
    function = ranged.RANGED[name]
    for window, row, present in zip(windows, *function(stacked(windows)), strict=True):
        alone, alone_present = function(window)
        assert present.tolist() == alone_present.tolist()
        np.testing.assert_array_equal(row[present], alone[present])
