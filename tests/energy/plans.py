"""Tariffs as plain values, and as any configuration could have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from hypothesis import strategies as st

from meterd.energy.tariff import RulePrices, TariffRule


@dataclass(frozen=True)
class PlainRule:
    rate: str
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    season: tuple[tuple[int, int], tuple[int, int]] | None = None
    time: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class PlainPrices:
    rates: Mapping[str, Decimal]
    else_: str
    rules: tuple[TariffRule, ...] = ()
    from_: date | None = None
    standing: Decimal = Decimal(0)
    feed_in: Decimal | None = None


@dataclass(frozen=True)
class PlainHolidays:
    dates: frozenset[date] = frozenset()
    yearly: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class PlainTariff:
    prices: tuple[RulePrices, ...]
    currency: str = "EUR"
    holidays: PlainHolidays = field(default_factory=PlainHolidays)


NIGHT = (90, 24)  # 22:30 to 06:00

_prices = st.decimals(-1, 5, places=9, allow_nan=False, allow_infinity=False)
_month_days = st.dates(date(2024, 1, 1), date(2024, 12, 31)).map(lambda d: (d.month, d.day))
_rules = st.builds(
    PlainRule,
    st.sampled_from("abc"),
    st.frozensets(st.integers(0, 7)),
    st.frozensets(st.integers(1, 12)),
    st.none() | st.tuples(_month_days, _month_days),
    st.lists(st.tuples(st.integers(0, 95), st.integers(0, 96)).filter(lambda t: t[0] != t[1])).map(
        tuple
    ),
)


def _several(first: date | None, later: list[date]) -> list[date | None]:
    return [first, *sorted({day for day in later if first is None or day > first})]


@st.composite
def plans(draw: st.DrawFn) -> PlainTariff:
    """Any tariff, with changes of price, and perhaps none for the beginning."""
    days = st.dates(date(2010, 1, 1), date(2028, 1, 1))
    beginnings = _several(draw(st.none() | days), draw(st.lists(days, max_size=2)))
    prices = tuple(
        PlainPrices(
            {name: draw(_prices) for name in "abc"},
            draw(st.sampled_from("abc")),
            tuple(draw(st.lists(_rules, max_size=4))),
            beginning,
            draw(_prices),
            draw(st.none() | _prices),
        )
        for beginning in beginnings
    )
    yearly = draw(st.frozensets(_month_days, max_size=20))
    return PlainTariff(prices, holidays=PlainHolidays(yearly=yearly))
