from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from meterd.energy.quarter import QUARTER
from meterd.energy.tariff import DIGITS, HOLIDAY, Pricer, Rate
from meterd.energy.zone_clock import ZoneClock
from tests.energy.histories import DAY, HOUR, at
from tests.energy.plans import NIGHT, PlainHolidays, PlainPrices, PlainRule, PlainTariff

BERLIN = "Europe/Berlin"
RATES = {"day": Decimal("0.30"), "night": Decimal("0.20"), "sunday": Decimal("0.10")}


def tariff(*rules: PlainRule, **more: object) -> PlainTariff:
    return PlainTariff((PlainPrices(RATES, "day", rules),), **more)  # type: ignore[arg-type]


def rate(plan: PlainTariff, local: str, zone: str = BERLIN, fold: int = 0) -> str | None:
    moment = at(zone, local, fold)
    clock = ZoneClock(ZoneInfo(zone), moment - DAY, moment + DAY)
    found = Pricer(plan, clock).at(moment // QUARTER * QUARTER)
    return None if found is None else found[1].name


NIGHTS = tariff(PlainRule("night", time=(NIGHT,)))


@pytest.mark.parametrize(
    ("local", "name"),
    [
        ("2026-06-01T22:15", "day"),
        ("2026-06-01T22:29", "day"),
        ("2026-06-01T22:30", "night"),
        ("2026-06-02T00:00", "night"),
        ("2026-06-02T05:59", "night"),
        ("2026-06-02T06:00", "day"),
    ],
)
def test_a_time_may_go_over_midnight(local: str, name: str) -> None:
    assert rate(NIGHTS, local) == name


def test_the_first_rule_that_matches_wins_and_else_is_the_rest() -> None:
    sunday = PlainRule("sunday", days=frozenset({6}))
    plan = tariff(sunday, PlainRule("night", time=(NIGHT,)))
    assert rate(plan, "2026-06-07T23:00") == "sunday"
    assert rate(plan, "2026-06-06T23:00") == "night"
    assert rate(plan, "2026-06-06T12:00") == "day"
    other = tariff(PlainRule("night", time=(NIGHT,)), sunday)
    assert rate(other, "2026-06-07T23:00") == "night"


def test_a_day_is_that_of_the_moment_not_that_on_which_its_night_began() -> None:
    plan = tariff(PlainRule("sunday", days=frozenset({6}), time=(NIGHT,)))
    assert rate(plan, "2026-06-07T23:00") == "sunday"
    assert rate(plan, "2026-06-08T05:00") == "day"  # Monday morning
    assert rate(plan, "2026-06-07T05:00") == "sunday"


def test_a_holiday_is_no_weekday() -> None:
    friday, off = (
        PlainRule("night", days=frozenset({4})),
        PlainRule("sunday", days=frozenset({HOLIDAY})),
    )
    days = PlainHolidays(frozenset({date(2026, 4, 3)}), frozenset({(12, 25)}))
    plan = tariff(friday, off, holidays=days)
    assert rate(plan, "2026-04-03T12:00") == "sunday"
    assert rate(plan, "2026-12-25T12:00") == "sunday"
    assert rate(plan, "2026-12-18T12:00") == "night"
    assert rate(plan, "2027-04-02T12:00") == "night"


def test_months_and_seasons_over_the_new_year() -> None:
    plan = tariff(PlainRule("night", season=((10, 15), (4, 14))))
    asked = ("10-14", "10-15", "12-31", "01-01", "04-14", "04-15")
    found = [rate(plan, f"2026-{day}T12:00") for day in asked]
    assert found == ["day", "night", "night", "night", "night", "day"]
    plan = tariff(PlainRule("night", months=frozenset({1, 12})))
    assert [rate(plan, f"2026-{m}-10T12:00") for m in ("01", "02", "12")] == [
        "night",
        "day",
        "night",
    ]


def test_prices_change_at_local_midnight_of_their_day() -> None:
    later = PlainPrices({"new": Decimal(1)}, "new", from_=date(2026, 7, 1))
    first = PlainPrices(RATES, "day", from_=date(2026, 1, 1))
    plan = PlainTariff((first, later))
    assert rate(plan, "2026-06-30T23:45") == "day"
    assert rate(plan, "2026-07-01T00:00") == "new"
    assert rate(plan, "2025-12-31T23:45") is None


HALF_PAST_TWO = tariff(PlainRule("night", time=((10, 11),)))  # 02:30 to 02:45


def quarters_of(plan: PlainTariff, zone: str, day: str, name: str) -> list[str]:
    """When a rate applies on a local day, as its clock shows it."""
    start = at(zone, f"{day}T00:00")
    clock = ZoneClock(ZoneInfo(zone), start, start + DAY + HOUR)
    pricer = Pricer(plan, clock)
    found = []
    for moment in range(start, start + DAY + HOUR, QUARTER):
        applies = pricer.at(moment)
        if clock.local(moment) // DAY == clock.local(start) // DAY and applies:
            minute = clock.local(moment) % DAY // 60_000
            found += [f"{minute // 60:02}:{minute % 60:02}"] if applies[1].name == name else []
    return found


def test_a_rule_for_a_time_that_does_not_exist_does_not_apply() -> None:
    assert quarters_of(HALF_PAST_TWO, BERLIN, "2026-03-29", "night") == []
    assert len(quarters_of(HALF_PAST_TWO, BERLIN, "2026-03-29", "day")) == 92


def test_a_rule_for_a_time_that_comes_twice_applies_twice() -> None:
    assert quarters_of(HALF_PAST_TWO, BERLIN, "2026-10-25", "night") == ["02:30", "02:30"]
    assert len(quarters_of(HALF_PAST_TWO, BERLIN, "2026-10-25", "day")) == 98
    assert rate(HALF_PAST_TWO, "2026-10-25T02:30", fold=0) == "night"
    assert rate(HALF_PAST_TWO, "2026-10-25T02:30", fold=1) == "night"


def test_half_an_hour_of_lord_howe_too() -> None:
    zone = "Australia/Lord_Howe"
    plan = tariff(PlainRule("night", time=((7, 8),)))  # 01:45 to 02:00
    assert quarters_of(plan, zone, "2026-04-05", "night") == ["01:45", "01:45"]
    plan = tariff(PlainRule("night", time=((8, 10),)))  # 02:00 to 02:30
    assert quarters_of(plan, zone, "2026-10-04", "night") == []


def test_a_season_has_its_first_and_its_last_day() -> None:
    plan = tariff(PlainRule("night", season=((4, 1), (9, 30))))
    asked = ("03-31", "04-01", "09-30", "10-01")
    assert [rate(plan, f"2026-{day}T12:00") for day in asked] == ["day", "night", "night", "day"]
    plan = tariff(PlainRule("night", season=((6, 1), (6, 1))))
    found = [rate(plan, f"2026-{day}T12:00") for day in ("05-31", "06-01", "06-02")]
    assert found == ["day", "night", "day"]


def test_a_time_ends_before_the_quarter_hour_that_it_names() -> None:
    plan = tariff(PlainRule("night", time=((4, 8), (48, 96))))
    asked = ("00:45", "01:00", "01:45", "02:00", "11:45", "12:00", "23:45")
    found = [rate(plan, f"2026-06-01T{local}") for local in asked]
    assert found == ["day", "night", "night", "day", "day", "night", "night"]


def test_one_pricer_knows_the_prices_of_each_day_apart() -> None:
    """The same rules hold on both days, under the same names."""
    rule = PlainRule("night", time=(NIGHT,))
    first = PlainPrices(RATES, "day", (rule,), None, Decimal("0.5"), Decimal("0.08"))
    dear = {name: price * 2 for name, price in RATES.items()}
    later = PlainPrices(dear, "day", (rule,), date(2026, 7, 1), Decimal(1), None)
    start = at(BERLIN, "2026-06-30T12:00")
    pricer = Pricer(
        PlainTariff((first, later)), ZoneClock(ZoneInfo(BERLIN), start, start + 2 * DAY)
    )
    found = [pricer.at(moment) for moment in (start, start + DAY, start)]
    assert [each and each[1] for each in found] == [
        Rate("day", 300_000_000),
        Rate("day", 600_000_000),
        Rate("day", 300_000_000),
    ]
    assert [each and each[0].feed_in for each in found[:2]] == [80_000_000, None]
    assert [pricer.standing(moment) for moment in (start, start + DAY)] == [
        500_000_000,
        1_000_000_000,
    ]


def test_a_day_before_all_prices_costs_nothing() -> None:
    start = at(BERLIN, "2026-06-30T12:00")
    plan = PlainTariff((PlainPrices(RATES, "day", (), date(2026, 7, 1), Decimal(1)),))
    pricer = Pricer(plan, ZoneClock(ZoneInfo(BERLIN), start, start + 2 * DAY))
    assert pricer.at(start) is None
    assert [pricer.standing(moment) for moment in (start, start + DAY)] == [0, 10**DIGITS]
