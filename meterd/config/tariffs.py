"""The `tariffs:` section: what energy costs, by the clock, the day and the season."""

from collections.abc import Mapping, Sized
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic import field_validator as check

from meterd.config import tariff_syntax as words
from meterd.config.codes import Code, ValueFlaw
from meterd.config.fields import OrEmpty, Section
from meterd.config.names import Name, near
from meterd.config.tariff_syntax import HolidayWords, MonthDay

# What bills call energy that no rate applies to.
RESERVED = ("feed_in", "unpriced")

_Sized = TypeVar("_Sized", bound=Sized)


def _currency(value: str) -> str:
    if len(value) == 3 and value.isascii() and value.isalpha() and value.isupper():
        return value
    hint = f"write {value.upper()}" if len(value) == 3 and value.isalpha() else ""
    raise ValueFlaw(
        Code.VALUE, "must be the three letters of a currency, as EUR or AUD", hint
    ).error()


def _rate_name(name: str) -> str:
    if name in RESERVED:
        raise ValueFlaw(
            Code.NAME, "must be another name than {}, which bills use themselves"
        ).error()
    return name


def _some(value: _Sized) -> _Sized:
    # min_length would also complain of a list whose only item has a mistake.
    if not value:
        raise ValueFlaw(Code.RANGE, "must have at least one entry", show=False).error()
    return value


Price = Annotated[Decimal, BeforeValidator(words.price)]
RateName = Annotated[Name, AfterValidator(_rate_name)]


class TariffRuleSettings(Section):
    """When a rate applies. What is not given is no condition, and first match wins.

    `days`: 0 Monday to 6 Sunday, 7 holiday. `months`: 1 to 12. `time`: pairs of quarter hours
    since midnight, over midnight where the first is the later.
    """

    rate: str
    days: Annotated[frozenset[int], BeforeValidator(words.weekdays)] = frozenset()
    months: Annotated[frozenset[int], BeforeValidator(words.months)] = frozenset()
    season: Annotated[tuple[MonthDay, MonthDay] | None, BeforeValidator(words.season)] = None
    time: Annotated[tuple[tuple[int, int], ...], BeforeValidator(words.times)] = ()


class PricesSettings(Section):
    """The prices from one day on, per kWh; `standing` is per day, `feed_in` is for export.

    `else_` is the rate where no rule matches.
    """

    from_: Annotated[date | None, BeforeValidator(words.day)] = Field(default=None, alias="from")
    rates: Annotated[dict[RateName, Price], AfterValidator(_some)]
    rules: tuple[TariffRuleSettings, ...] = ()
    else_: str = Field(alias="else")
    standing: Price = Decimal(0)
    feed_in: Price | None = None

    @check("rules")
    @classmethod
    def _rates_of_rules(
        cls, rules: tuple[TariffRuleSettings, ...], info: ValidationInfo
    ) -> tuple[TariffRuleSettings, ...]:
        words.mistakes(
            ((place, "rate"), rule.rate, flaw)
            for place, rule in enumerate(rules)
            if (flaw := _unknown(rule.rate, info))
        )
        return rules

    @check("else_")
    @classmethod
    def _rate_of_else(cls, rate: str, info: ValidationInfo) -> str:
        if flaw := _unknown(rate, info):
            raise flaw.error()
        return rate


def _unknown(rate: str, info: ValidationInfo) -> ValueFlaw | None:
    """`rates` stands above rules and else; it is absent only where it was itself wrong."""
    rates: Mapping[str, Decimal] = info.data.get("rates", {rate: Decimal(0)})
    return (
        None if rate in rates else ValueFlaw(Code.RATE, "must be one of rates", near(rate, rates))
    )


class TariffSettings(Section):
    """One tariff: prices that follow one another, the earliest first."""

    currency: Annotated[str, AfterValidator(_currency)]
    holidays: Annotated[HolidayWords, BeforeValidator(words.holidays)] = HolidayWords()
    prices: Annotated[tuple[PricesSettings, ...], AfterValidator(_some)]

    @check("prices")
    @classmethod
    def _in_order(cls, prices: tuple[PricesSettings, ...]) -> tuple[PricesSettings, ...]:
        hint = "begin each with a later `from:` than the one before; only the first may lack it"
        what = "must follow the prices before it"
        words.mistakes(
            ((place, "from"), later.from_, ValueFlaw(Code.PRICE_ORDER, what, hint))
            for place, (one, later) in enumerate(pairwise(prices), 1)
            if later.from_ is None or (one.from_ is not None and later.from_ <= one.from_)
        )
        return prices


Tariffs = Annotated[dict[Name, TariffSettings], OrEmpty]
