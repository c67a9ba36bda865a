"""Names of days, months and years, on clocks that are changed."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from meterd.energy.period_names import day_label, parse_date


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOW = ms("2026-11-21T10:00:00Z")
BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "zone", "start", "end"),
    [
        ("2026-10", BERLIN, "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
        ("2026-10-25", BERLIN, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        (
            "2026-10-01",
            "Australia/Brisbane",
            "2026-09-30T14:00:00Z",
            "2026-10-01T14:00:00Z",
        ),
        ("2026", "America/New_York", "2026-01-01T05:00:00Z", "2027-01-01T05:00:00Z"),
        ("2026-W01", BERLIN, "2025-12-28T23:00:00Z", "2026-01-04T23:00:00Z"),
        # The day of the change begins at 01:00 there.
        (
            "2026-09-06",
            "America/Santiago",
            "2026-09-06T04:00:00Z",
            "2026-09-07T03:00:00Z",
        ),
        ("yesterday", "Pacific/Auckland", "2026-11-19T11:00:00Z", "2026-11-20T11:00:00Z"),
        ("this_week", BERLIN, "2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z"),
        ("LAST-YEAR", BERLIN, "2024-12-31T23:00:00Z", "2025-12-31T23:00:00Z"),
        # Of an hour that comes twice the first.
        ("2026-10-25T02:30", BERLIN, "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z"),
        ("2026-10-01 14:00:05", BERLIN, "2026-10-01T12:00:05Z", "2026-10-01T12:00:05Z"),
    ],
)
def test_a_name_is_a_stretch_of_the_zones_clock(text: str, zone: str, start: str, end: str) -> None:
    assert parse_date(text, ZoneInfo(zone), NOW) == (ms(start), ms(end))


@pytest.mark.parametrize(
    "text", ["now", "now-7d", "1796036000", "2026-10-01T00:00:00Z", "soon", ""]
)
def test_what_is_no_name_of_the_calendar_is_left_to_others(text: str) -> None:
    assert parse_date(text, ZoneInfo(BERLIN), NOW) is None


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("2026-13", BERLIN, "does not exist"),
        ("2026-02-29", BERLIN, "does not exist"),
        ("2026-W54", BERLIN, "does not exist"),
        ("1969", BERLIN, "1970"),
        ("0000", BERLIN, "does not exist"),
        ("2011-12-30", "Pacific/Apia", "skipped in Pacific/Apia"),
        ("2026-03-29T02:30", BERLIN, "skipped by the clocks"),
        ("2026-10-01T25:00", BERLIN, "does not exist"),
    ],
)
def test_a_day_that_there_is_not_is_refused(text: str, zone: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_date(text, ZoneInfo(zone), NOW)


def test_the_date_of_a_moment_is_told_only_where_a_day_begins() -> None:
    assert day_label(ZoneInfo(BERLIN), ms("2026-10-24T22:00:00Z")) == "2026-10-25"
    assert day_label(ZoneInfo(BERLIN), ms("2026-10-25T22:00:00Z")) is None
    assert day_label(ZoneInfo("America/Santiago"), ms("2026-09-06T04:00:00Z")) == "2026-09-06"
