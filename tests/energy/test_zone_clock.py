from zoneinfo import ZoneInfo

from meterd.energy.zone_clock import OffsetPeriod, ZoneClock
from tests.energy.histories import HOUR, at

BERLIN = ZoneInfo("Europe/Berlin")
START, END = at("Europe/Berlin", "2026-01-01"), at("Europe/Berlin", "2027-01-01")
SPRING, AUTUMN = 1_774_746_000_000, 1_792_890_000_000  # 01:00 UTC


def test_a_clock_changes_at_the_very_millisecond() -> None:
    assert ZoneClock(BERLIN, START, END).offset_periods == (
        OffsetPeriod(START, SPRING, HOUR),
        OffsetPeriod(SPRING, AUTUMN, 2 * HOUR),
        OffsetPeriod(AUTUMN, END, HOUR),
    )


def test_local_time_is_what_the_clock_shows() -> None:
    clock = ZoneClock(BERLIN, START, END)
    assert clock.local(SPRING - 1) == SPRING - 1 + HOUR
    assert clock.local(SPRING) == SPRING + 2 * HOUR
    assert clock.local(END + 1) == END + 1 + HOUR
