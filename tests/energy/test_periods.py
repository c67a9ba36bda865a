from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.energy.periods import (
    Period,
    day_starts,
    period_ceil,
    period_floor,
    periods_before,
    spans,
)
from meterd.energy.quarter import QUARTER
from tests.energy.histories import DAY, HOUR, ODD_DAYS, ZONES, at

PERIODS = list(Period)


def lengths(zone: str, period: Period, start: str, end: str) -> list[int]:
    """The periods between two local times, in quarter hours."""
    found = spans(ZoneInfo(zone), period, at(zone, start), at(zone, end))
    return [(span.end - span.start) // QUARTER for span in found]


@pytest.mark.parametrize(("zone", "day", "quarters"), ODD_DAYS)
def test_a_day_is_as_long_as_its_clock_makes_it(zone: str, day: str, quarters: int) -> None:
    noon = at(zone, f"{day}T12:00")
    start = period_floor(ZoneInfo(zone), Period.DAY, noon)
    end = period_ceil(ZoneInfo(zone), Period.DAY, noon)
    assert (end - start) // QUARTER == quarters
    for moment in (start, end - 1):
        local = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
        assert local.date().isoformat() == day


def test_a_day_that_was_skipped_has_no_bucket() -> None:
    zone = ZoneInfo("Pacific/Apia")
    found = spans(zone, Period.DAY, at(zone.key, "2011-12-29"), at(zone.key, "2012-01-01"))
    days = [datetime.fromtimestamp(span.start / 1000, zone).day for span in found]
    assert days == [29, 31]
    assert [span.quarters for span in found] == [96, 96]


def test_a_clock_hour_that_comes_twice_is_two_buckets() -> None:
    night = lengths("Europe/Berlin", Period.HOUR, "2026-10-25", "2026-10-25T04:00")
    assert night == [4, 4, 4, 4, 4]


def test_lord_howe_has_half_hours_where_its_clock_changes() -> None:
    zone = "Australia/Lord_Howe"
    assert lengths(zone, Period.HOUR, "2026-04-05", "2026-04-05T03:00") == [4, 4, 2, 4]
    assert lengths(zone, Period.HOUR, "2026-10-04", "2026-10-04T04:00") == [4, 4, 2, 4]


def test_hours_of_a_zone_off_the_full_hour_begin_on_its_clock() -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    (hour,) = spans(
        zone, Period.HOUR, at(zone.key, "2026-06-01T10:00"), at(zone.key, "2026-06-01T11:00")
    )
    assert hour.start % HOUR == QUARTER


def test_weeks_begin_on_monday_months_and_years_on_their_first() -> None:
    zone = ZoneInfo("Europe/Berlin")
    moment = at(zone.key, "2026-11-21T10:00")
    assert period_floor(zone, Period.WEEK, moment) == at(zone.key, "2026-11-16")
    assert period_floor(zone, Period.MONTH, moment) == at(zone.key, "2026-11-01")
    assert period_floor(zone, Period.YEAR, moment) == at(zone.key, "2026-01-01")
    assert period_ceil(zone, Period.MONTH, moment) == at(zone.key, "2026-12-01")
    assert periods_before(zone, Period.MONTH, moment, 12) == at(zone.key, "2025-11-01")


def test_a_beginning_is_its_own_begin_and_finish() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for period in PERIODS:
        edge = at(zone.key, "2024-01-01")
        assert period_floor(zone, period, edge) == period_ceil(zone, period, edge) == edge


def test_spans_are_cut_to_what_is_asked_for_and_know_their_whole() -> None:
    zone = "Europe/Berlin"
    found = spans(
        ZoneInfo(zone), Period.DAY, at(zone, "2026-03-28T18:00"), at(zone, "2026-03-29T12:00")
    )
    assert [(span.end - span.start) // QUARTER for span in found] == [24, 44]
    assert [span.quarters for span in found] == [96, 92]


def test_a_change_just_after_midnight_cuts_no_quarter_hour() -> None:
    # Until 2011 the clock of St. John's changed at 00:01.
    zone = ZoneInfo("America/St_Johns")
    start, end = at(zone.key, "2010-11-05"), at(zone.key, "2010-11-10")
    for period in (Period.HOUR, Period.DAY):
        found = spans(zone, period, start, end)
        assert all(span.start % QUARTER == 0 for span in found)
        assert sum(span.end - span.start for span in found) == end - start
    # Its midnight came twice, and the day began once.
    assert [span.quarters for span in spans(zone, Period.DAY, start, end)] == [96, 96, 100, 96, 96]


@given(
    st.sampled_from(sorted(available_timezones())),
    st.sampled_from(PERIODS),
    st.integers(0, 2_000_000_000),
    st.integers(1, 3000),
)
def test_spans_of_any_zone_follow_one_another(
    name: str, period: Period, seconds: int, quarters: int
) -> None:
    zone = ZoneInfo(name)
    start = seconds * 1000 // QUARTER * QUARTER
    end = start + quarters * QUARTER
    found = spans(zone, period, start, end)
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(one.end == two.start for one, two in pairwise(found))
    assert all(0 < span.end - span.start <= span.quarters * QUARTER for span in found)


@given(st.sampled_from(ZONES), st.integers(0, 2_000_000_000))
def test_a_days_start_is_the_first_moment_of_its_date(name: str, seconds: int) -> None:
    zone = ZoneInfo(name)
    (start, *_) = day_starts(zone, seconds * 1000, seconds * 1000 + 3 * DAY)
    dates = [datetime.fromtimestamp(ms / 1000, zone).date() for ms in (start - 1, start)]
    assert dates[0] < dates[1]
