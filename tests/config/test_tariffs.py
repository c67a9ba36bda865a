from datetime import date
from decimal import Decimal

import pytest

from meterd.config.tariff_syntax import PLACES, HolidayWords
from meterd.config.tariffs import RESERVED, PricesSettings, TariffSettings
from meterd.energy.bill import FEED_IN, UNPRICED
from meterd.energy.tariff import DIGITS, Tariff, price_units
from tests.config.judge import MINIMAL, place_of, problem, problems, settings

WHOLE = """\
tariffs:
  home:
    currency: EUR
    holidays: [12-25, 2026-04-03]
    prices:
      - rates: {day: 0.3412, night: "0.210000001"}
        rules:
          - {rate: night, time: 22:30-06:00}
          - {rate: night, days: [sat-sun, holiday], months: [oct-mar]}
          - {rate: night, time: [01:00-02:00, 12:00-24:00], season: 10-15..04-14}
        else: day
        standing: 0.45
        feed_in: "0.082"
      - {from: 2027-01-01, rates: {day: 1}, else: day}
"""


def one(text: str) -> str:
    """A tariff of these prices."""
    return f"tariffs: {{t: {{currency: EUR, prices: [{text}]}}}}\n"


def ruled(text: str) -> str:
    """A tariff of one rule."""
    return one(f"{{rates: {{a: 1}}, rules: [{text}], else: a}}")


def tariff(text: str) -> TariffSettings:
    return settings(text + MINIMAL).tariffs["home"]


def prices(text: str) -> PricesSettings:
    return settings(one(text) + MINIMAL).tariffs["t"].prices[0]


def test_a_whole_tariff_is_read_as_it_is_meant() -> None:
    made = tariff(WHOLE)
    assert made.currency == "EUR"
    assert made.holidays == HolidayWords(frozenset({date(2026, 4, 3)}), frozenset({(12, 25)}))
    first, second = made.prices
    assert first.rates == {"day": Decimal("0.3412"), "night": Decimal("0.210000001")}
    assert (first.standing, first.feed_in) == (Decimal("0.45"), Decimal("0.082"))
    assert (first.from_, first.else_) == (None, "day")
    night, weekend, winter = first.rules
    assert night.time == ((90, 24),)
    assert (night.days, night.months, night.season) == (frozenset(), frozenset(), None)
    assert weekend.days == {5, 6, 7}
    assert weekend.months == {10, 11, 12, 1, 2, 3}
    assert winter.time == ((4, 8), (48, 96))
    assert winter.season == ((10, 15), (4, 14))
    assert second.from_ == date(2027, 1, 1)
    assert (second.standing, second.feed_in, second.rules) == (Decimal(0), None, ())


def test_it_fits_what_energy_reads() -> None:
    made: Tariff = tariff(WHOLE)
    assert price_units(made.prices[0].rates["night"]) == 210_000_001
    assert PLACES == DIGITS
    assert set(RESERVED) == {FEED_IN, UNPRICED}


def test_no_tariffs_are_none() -> None:
    assert settings("tariffs:\n" + MINIMAL).tariffs == settings(MINIMAL).tariffs == {}


@pytest.mark.parametrize("written", ["0.1", '"0.1"', "'0.100'", "1e-1"])
def test_a_price_is_exactly_what_is_written(written: str) -> None:
    made = prices(f"{{rates: {{a: {written}}}, else: a}}")
    assert made.rates["a"] == Decimal("0.1")


def test_prices_may_be_negative() -> None:
    assert prices("{rates: {a: -0.05}, else: a, feed_in: -1}").feed_in == -1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("'0,3'", "after a point"),
        ("cheap", "such as 0.2145"),
        ("true", "such as 0.2145"),
        ("[]", "such as 0.2145"),
        ("0.1234567891", "9 decimal places"),
        ("1000000", "less than"),
        ("'nan'", "less than"),
        ("'1e999999999'", "less than"),
        ("'1e-999999999'", "9 decimal places"),
    ],
)
def test_what_is_no_price_is_told_at_its_place(value: str, said: str) -> None:
    text = one(f"{{rates: {{a: {value}}}, else: a}}")
    found = problem(text)
    assert (found.code, (found.line, found.column)) == ("C062", place_of(text, f"{value}}}, else"))
    assert said in str(found)


@pytest.mark.parametrize(
    ("time", "hint"),
    [
        ("22:35-06:00", "write 22:30-06:00"),
        ("00:00-23:59", "write 00:00-24:00"),
        ("22:30", "22:30-06:00"),
        ("22.30-06.00", "22:30-06:00"),
        ("25:00-26:00", ""),
        ("10:75-11:00", ""),
        ("24:15-25:00", ""),
        ("06:00-06:00", "leave out"),
        ("24:00-00:00", "leave out"),
        ("night", "22:30-06:00"),
    ],
)
def test_times_are_whole_quarter_hours_of_a_day(time: str, hint: str) -> None:
    text = ruled(f"{{rate: a, time: [01:00-02:00, {time}]}}")
    found = problem(text)
    assert (found.code, (found.line, found.column)) == ("C060", place_of(text, f"{time}]"))
    assert hint in found.hint


@pytest.mark.parametrize(
    ("key", "word", "hint"),
    [
        ("days", "monday", "write mon"),
        ("days", "mon-foo", "write mon"),
        ("days", "holyday", "did you mean holiday?"),
        ("days", "7", "they are mon, tue"),
        ("months", "december", "write dec"),
        ("months", "12", "they are jan"),
        ("season", "10-15-04-14", "10-15..04-14"),
        ("season", "02-30..04-14", "10-15..04-14"),
        ("season", "10..4", "10-15..04-14"),
    ],
)
def test_days_months_and_seasons_have_to_exist(key: str, word: str, hint: str) -> None:
    text = ruled(f"{{rate: a, {key}: {word}}}")
    found = problem(text)
    assert (found.code, (found.line, found.column)) == ("C061", place_of(text, f"{word}}}"))
    assert hint in found.hint


def test_holidays_have_to_exist_each_at_its_place() -> None:
    text = WHOLE.replace("[12-25, 2026-04-03]", "[12-32, 02-29, 2026-02-29, easter]")
    found = problems(text + MINIMAL)
    assert [each.code for each in found] == ["C061"] * 3
    places = [(each.line, each.column) for each in found]
    assert places == [place_of(text, word) for word in ("12-32", "2026-02-29", "easter")]


def test_a_rule_and_else_name_rates_that_have_prices() -> None:
    text = WHOLE.replace("rate: night, time: 22", "rate: nigth, time: 22").replace(
        "else: day\n", "else: dya\n"
    )
    found = problems(text + MINIMAL)
    assert [(each.code, each.hint) for each in found] == [
        ("C064", "did you mean night?"),
        ("C064", "did you mean day?"),
    ]
    places = [(each.line, each.column) for each in found]
    assert places == [place_of(text, "nigth"), place_of(text, "dya")]


@pytest.mark.parametrize("second", ["", "from: 2026-01-01, ", "from: 2025-12-31, "])
def test_prices_follow_one_another(second: str) -> None:
    first = "{from: 2026-01-01, rates: {a: 1}, else: a}"
    found = problem(one(f"{first}, {{{second}rates: {{a: 2}}, else: a}}"))
    assert found.code == "C063"
    assert "only the first may lack it" in found.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("tariffs: {t: {currency: euro, prices: [{rates: {a: 1}, else: a}]}}", "C026"),
        ("tariffs: {t: {currency: eur, prices: [{rates: {a: 1}, else: a}]}}", "C026"),
        ("tariffs: {t: {currency: EUR}}", "C021"),
        ("tariffs: {t: {currency: EUR, prices: []}}", "C023"),
        ("tariffs: {t: {currency: EUR, prices: [{rates: {}, else: a}]}}", "C023"),
        ("tariffs: {t: {currency: EUR, prices: [{rates: {a: 1}}]}}", "C021"),
        ("tariffs: {t: {currency: EUR, prices: [{rates: {feed_in: 1}, else: feed_in}]}}", "C030"),
        ("tariffs: {t: {currency: EUR, prices: [{rates: {a: 1}, else: a, form: x}]}}", "C020"),
        (
            "tariffs: {t: {currency: EUR, prices: [{from: 1.1.2026, rates: {a: 1}, else: a}]}}",
            "C061",
        ),
        ("tariffs: {'a b': {currency: EUR, prices: [{rates: {a: 1}, else: a}]}}", "C030"),
    ],
)
def test_other_mistakes_have_their_codes(text: str, code: str) -> None:
    assert problem(text + "\n").code == code


def test_a_name_that_ends_in_file_is_only_a_name() -> None:
    assert list(prices("{rates: {a_file: 1}, else: a_file}").rates) == ["a_file"]


@pytest.mark.parametrize(
    "written", ["999999.999999999", "-999999.999999999", "0.000000001", "0", "0.1000000000000"]
)
def test_prices_up_to_their_bounds(written: str) -> None:
    made = prices(f"{{rates: {{a: '{written}'}}, else: a, standing: '{written}'}}")
    assert made.rates["a"] == made.standing == Decimal(written)


@pytest.mark.parametrize("written", ["1000000", "-1000000", "0.0000000001", "999999.9999999999"])
def test_prices_beyond_their_bounds(written: str) -> None:
    assert problem(one(f"{{rates: {{a: '{written}'}}, else: a}}")).code == "C062"


@pytest.mark.parametrize(
    ("time", "pairs"),
    [
        ("00:00-24:00", ((0, 96),)),
        ("00:00-00:15", ((0, 1),)),
        ("23:45-24:00", ((95, 96),)),
        ("23:45-00:15", ((95, 1),)),
        ("24:00-06:00", ((0, 24),)),
        ("06:00-00:00", ((24, 0),)),
    ],
)
def test_times_from_the_first_to_the_last_quarter_hour(
    time: str, pairs: tuple[tuple[int, int], ...]
) -> None:
    made = prices(f"{{rates: {{a: 1}}, rules: [{{rate: a, time: {time}}}], else: a}}")
    assert made.rules[0].time == pairs


@pytest.mark.parametrize("time", ["00:00-00:00", "24:00-24:00", "24:00-00:00", "07:15-07:15"])
def test_a_range_that_ends_when_it_begins_is_not_taken_for_all_day(time: str) -> None:
    found = problem(ruled(f"{{rate: a, time: {time}}}"))
    assert "must end at another time than it begins" in str(found)
    assert found.code == "C060"


@pytest.mark.parametrize("blank", ["", "~", "null"])
def test_prices_whose_first_day_is_left_blank_hold_from_the_beginning(blank: str) -> None:
    assert prices(f"{{from: {blank}, rates: {{a: 1}}, else: a}}").from_ is None


def test_a_day_that_is_one_already_is_kept() -> None:
    first = date(2026, 2, 28)
    made = PricesSettings.model_validate({"from": first, "rates": {"a": "1"}, "else": "a"})
    assert made.from_ == first


@pytest.mark.parametrize("time", ["24:15-06:00", "06:00-24:15", "06:60-08:00", "06:00-07:60"])
def test_times_beyond_the_day(time: str) -> None:
    assert problem(ruled(f"{{rate: a, time: {time}}}")).code == "C060"


def test_seasons_and_ranges_hold_their_last_day_and_month() -> None:
    rules = (
        "{rate: a, season: 02-29..12-31}, {rate: a, months: nov-jan, days: sat-mon}, "
        "{rate: a, days: holiday-tue}, {rate: a, days: sat-holiday}"
    )
    one_, other, *more = prices(f"{{rates: {{a: 1}}, rules: [{rules}], else: a}}").rules
    assert one_.season == ((2, 29), (12, 31))
    assert other.months == {11, 12, 1}
    # A holiday in the week is none of these.
    assert other.days == {5, 6, 0}
    assert [rule.days for rule in more] == [{7, 0, 1}, {5, 6, 7}]
