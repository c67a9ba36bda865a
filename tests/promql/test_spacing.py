"""How long samples stand that come rarely: as long as they are apart, and no longer."""

import numpy as np
import pytest

from meterd.promql import engine
from meterd.promql.result import QueryLimits, Result
from meterd.promql.source import STALE_BITS

from .memory import Memory

SECOND, MINUTE = 1000, 60_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
START = 20_000 * DAY


def points(result: Result) -> dict[int, float]:
    assert not isinstance(result.data, str)
    return {
        int(time): float(value)
        for one in result.data
        for time, value in zip(one.times, one.values, strict=True)
    }


def memory(*parts: tuple[int, int, int]) -> Memory:
    """Samples from, to before, each: their number is their value."""
    times = [time for start, end, step in parts for time in range(start, end, step)]
    found = Memory()
    found.add({"__name__": "x"}, times, list(range(len(times))), history=True)
    return found


def asked(source: Memory, start: int, end: int, step: int = MINUTE) -> dict[int, float]:
    return points(engine.query_range(source, "x", start, end, step, limits=QueryLimits()))


@pytest.mark.parametrize("every", [6 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR])
def test_samples_that_come_rarely_leave_no_gaps(every: int) -> None:
    source = memory((START, START + 10 * DAY, every))
    found = asked(source, START + 5 * DAY, START + 7 * DAY)
    assert len(found) == 2881
    assert all(value == (time - START) // every for time, value in found.items())


def test_daily_readings_stand_for_days_as_well() -> None:
    source = memory((START, START + 30 * DAY, DAY))
    assert len(asked(source, START + 10 * DAY, START + 12 * DAY)) == 2881
    assert len(asked(source, START + 10 * DAY + HOUR, START + 20 * DAY, DAY)) == 10


@pytest.mark.parametrize("every", [15 * MINUTE, HOUR, DAY])
def test_one_moment_between_two_rare_samples_has_a_value(every: int) -> None:
    source = memory((START, START + 20 * every, every))
    for moment in (START + 10 * every + every - 1, START + 20 * every + every - 1):
        result = engine.instant(source, "x", moment, limits=QueryLimits())
        expected = min(19, (moment - START) // every)
        assert list(points(result).values()) == [expected]
    late = START + 19 * every + 3 * every
    assert points(engine.instant(source, "x", late, limits=QueryLimits())) == {}


def test_samples_of_ten_seconds_stand_for_five_minutes_also_before_an_outage() -> None:
    source = memory(
        (START, START + 5 * HOUR, 10 * SECOND), (START + 10 * HOUR, START + 12 * HOUR, 10 * SECOND)
    )
    found = asked(source, START + 4 * HOUR, START + 11 * HOUR)
    gone = set(range(START + 4 * HOUR, START + 11 * HOUR + 1, MINUTE)) - set(found)
    assert gone == set(range(START + 5 * HOUR + 5 * MINUTE, START + 10 * HOUR, MINUTE))
    assert asked(source, START + 6 * HOUR, START + 7 * HOUR) == {}
    assert asked(source, START + 12 * HOUR + 5 * MINUTE, START + 20 * HOUR) == {}


def test_imported_hours_before_live_seconds_each_follow_their_own_spacing() -> None:
    turn = START + 5 * DAY
    source = memory((START, turn, HOUR), (turn, turn + 6 * HOUR, 10 * SECOND))
    assert len(asked(source, START + 4 * DAY, turn + 5 * HOUR)) == 29 * 60 + 1
    assert asked(source, turn + 6 * HOUR + 5 * MINUTE, turn + 9 * HOUR) == {}


def test_an_outage_of_rare_samples_is_a_gap() -> None:
    source = memory((START, START + DAY, HOUR), (START + 2 * DAY, START + 3 * DAY, HOUR))
    found = asked(source, START + 12 * HOUR, START + 60 * HOUR, 30 * MINUTE)
    # The last one is from 23:00, and stands for three hours.
    gone = range(START + 26 * HOUR, START + 48 * HOUR, 30 * MINUTE)
    assert set(range(START + 12 * HOUR, START + 60 * HOUR + 1, 30 * MINUTE)) - set(found) == {*gone}


def test_a_stale_mark_ends_a_rare_series_too() -> None:
    source = Memory()
    values = np.arange(48, dtype=np.float64)
    values.view(np.uint64)[24] = STALE_BITS
    times = [START + place * HOUR for place in range(48)]
    source.add({"__name__": "x"}, times, values, history=True)
    found = asked(source, START + 20 * HOUR, START + 30 * HOUR)
    gone = set(range(START + 20 * HOUR, START + 30 * HOUR + 1, MINUTE)) - set(found)
    assert gone == set(range(START + 24 * HOUR, START + 25 * HOUR, MINUTE))


def test_windows_are_prometheus_own_whatever_the_spacing() -> None:
    source = memory((START, START + DAY, HOUR))
    result = engine.instant(source, "increase(x[1h])", START + 5 * HOUR, limits=QueryLimits())
    assert points(result) == {}
    result = engine.instant(
        source, "count_over_time(x[5m])", START + 5 * HOUR + 1, limits=QueryLimits()
    )
    assert list(points(result).values()) == [1]


def test_the_usual_series_is_read_once() -> None:
    source = memory((START, START + DAY, 10 * SECOND))
    asked(source, START + HOUR, START + 2 * HOUR)
    assert len(source.fetched) == 1
    # Nor is one that is over for long, or has not begun.
    asked(source, START + 30 * DAY, START + 31 * DAY)
    asked(source, START - DAY, START - HOUR)
    assert len(source.fetched) == 3


def test_a_source_that_tells_no_extents_is_answered_as_prometheus_does() -> None:
    source = Memory()
    source.add({"__name__": "x"}, [START, START + HOUR, START + 2 * HOUR], [0.0, 1.0, 2.0])
    assert len(asked(source, START, START + 2 * HOUR)) == 11
