import asyncio
import contextlib

import pytest

from meterd.daemon.metrics import LAG_EVERY, DaemonMetrics, Histogram
from meterd.model.sample import Fault, Layout, Poll, failed

GOOD = Layout.of([("device.up", "1")])


def good(device: str, took: float) -> Poll:
    return Poll(device, 0, GOOD, (1.0,), took=took)


class LateClock:
    """Wakes sleepers later than asked for, and ends with the last of its delays."""

    def __init__(self, *late: float) -> None:
        self._late = list(late)
        self._now = 100.0

    def monotonic(self) -> float:
        return self._now

    def now_ms(self) -> int:
        return round(self._now * 1000)

    async def sleep(self, seconds: float) -> None:
        if not self._late:
            raise asyncio.CancelledError
        self._now += seconds + self._late.pop(0)


def test_a_value_on_a_bound_counts_as_at_or_under_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.add(value)
    assert list(histogram.buckets()) == [(0.1, 2), (1.0, 3), (float("inf"), 4)]
    assert histogram.count == 4
    assert histogram.sum == pytest.approx(7.65)


def test_polls_are_measured_by_device_faults_by_code_and_time_by_link() -> None:
    daemon_metrics = DaemonMetrics()
    daemon_metrics.place({"main": "a", "sub": "a", "ups": "b"})
    daemon_metrics.take(good("main", 0.02))
    daemon_metrics.take(failed("sub", 0, Fault("timeout", "no answer"), 1.0))
    daemon_metrics.take(failed("sub", 0, Fault("timeout", "no answer"), 1.0))
    daemon_metrics.take(failed("sub", 0, Fault("refused", "no"), 0.0))
    assert daemon_metrics.polls["sub"].count == 3
    assert daemon_metrics.faults == {("sub", "timeout"): 2, ("sub", "refused"): 1}
    assert daemon_metrics.busy == {"a": pytest.approx(2.02), "b": 0.0}


def test_after_a_reload_what_is_gone_is_forgotten_and_the_rest_goes_on() -> None:
    daemon_metrics = DaemonMetrics()
    daemon_metrics.place({"main": "a", "old": "b"})
    daemon_metrics.take(good("main", 0.5))
    daemon_metrics.take(failed("old", 0, Fault("timeout", "no answer"), 1.0))
    daemon_metrics.place({"main": "a"})
    assert (list(daemon_metrics.polls), daemon_metrics.faults, daemon_metrics.busy) == (
        ["main"],
        {},
        {"a": 0.5},
    )


async def test_the_loops_lag_is_what_sleep_takes_beyond_what_was_asked_for() -> None:
    daemon_metrics = DaemonMetrics()
    with contextlib.suppress(asyncio.CancelledError):
        await daemon_metrics.watch(LateClock(0.0, 0.04, 0.0))
    assert daemon_metrics.lag.count == 3
    assert daemon_metrics.lag.sum == pytest.approx(0.04)
    assert LAG_EVERY <= 1
