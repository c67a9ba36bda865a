"""The `tariffs:` section: energy prices by time of day, day of the week and season."""

from collections.abc import Mapping, Sized
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic import field_validator as check

from meterd.config import tariff_syntax as syntax
from meterd.config.codes import Code, ValueFlaw
from meterd.config.fields import OrEmpty, Section
from meterd.config.names import Name, spelling_hint
from meterd.config.tariff_syntax import HolidaySettings, MonthDay

# Bills use these names for energy that no rate applies to.
RESERVED_RATES = ("feed_in", "unpriced")

_Sized = TypeVar("_Sized", bound=Sized)


def _currency(value: str) -> str:
    if len(value) == 3 and value.isascii() and value.isalpha() and value.isupper():
        return value
    hint = f"write {value.upper()}" if len(value) == 3 and value.isalpha() else ""
    raise ValueFlaw(
        Code.VALUE, "must be the three letters of a currency, as EUR or AUD", hint
    ).error()


def _rate_name(name: str) -> str:
    if name in RESERVED_RATES:
        raise ValueFlaw(
            Code.NAME, "must be another name than {}, which bills use themselves"
        ).error()
    return name


def _not_empty(value: _Sized) -> _Sized:
    # Not min_length: it also reports a list whose only item is invalid.
    if not value:
        raise ValueFlaw(Code.RANGE, "must have at least one entry", show=False).error()
    return value


Price = Annotated[Decimal, BeforeValidator(syntax.price)]
RateName = Annotated[Name, AfterValidator(_rate_name)]


class TariffRuleSettings(Section):
    """When a rate applies: all given conditions hold. The first rule that matches decides.

    `days`: 0 Monday to 6 Sunday, 7 holiday. `months`: 1 to 12. `time`: pairs of quarter hours
    since midnight, over midnight where the first is the later.
    """

    rate: str
    days: Annotated[frozenset[int], BeforeValidator(syntax.weekdays)] = frozenset()
    months: Annotated[frozenset[int], BeforeValidator(syntax.months)] = frozenset()
    season: Annotated[tuple[MonthDay, MonthDay] | None, BeforeValidator(syntax.season)] = None
    time: Annotated[tuple[tuple[int, int], ...], BeforeValidator(syntax.times)] = ()


class PricesSettings(Section):
    """Prices from one day on, per kWh; `standing` is per day, `feed_in` is paid for export.

    `else_`: the rate where no rule matches.
    """

    from_: Annotated[date | None, BeforeValidator(syntax.day)] = Field(default=None, alias="from")
    rates: Annotated[dict[RateName, Price], AfterValidator(_not_empty)]
    rules: tuple[TariffRuleSettings, ...] = ()
    else_: str = Field(alias="else")
    standing: Price = Decimal(0)
    feed_in: Price | None = None

    @check("rules")
    @classmethod
    def _check_rule_rates(
        cls, rules: tuple[TariffRuleSettings, ...], info: ValidationInfo
    ) -> tuple[TariffRuleSettings, ...]:
        syntax.raise_flaws(
            ((place, "rate"), rule.rate, flaw)
            for place, rule in enumerate(rules)
            if (flaw := _rate_flaw(rule.rate, info))
        )
        return rules

    @check("else_")
    @classmethod
    def _check_else_rate(cls, rate: str, info: ValidationInfo) -> str:
        if flaw := _rate_flaw(rate, info):
            raise flaw.error()
        return rate


def _rate_flaw(rate: str, info: ValidationInfo) -> ValueFlaw | None:
    """The flaw of a rate that `rates` does not have.

    `rates` is validated before rules and else: it is absent only where it is itself invalid.
    """
    rates: Mapping[str, Decimal] = info.data.get("rates", {rate: Decimal(0)})
    return (
        None
        if rate in rates
        else ValueFlaw(Code.RATE, "must be one of rates", spelling_hint(rate, rates))
    )


class TariffSettings(Section):
    """One tariff: its prices in the order of their first days."""

    currency: Annotated[str, AfterValidator(_currency)]
    holidays: Annotated[HolidaySettings, BeforeValidator(syntax.holidays)] = HolidaySettings()
    prices: Annotated[tuple[PricesSettings, ...], AfterValidator(_not_empty)]

    @check("prices")
    @classmethod
    def _check_order(cls, prices: tuple[PricesSettings, ...]) -> tuple[PricesSettings, ...]:
        hint = "begin each with a later `from:` than the one before; only the first may lack it"
        what = "must follow the prices before it"
        syntax.raise_flaws(
            ((index, "from"), later.from_, ValueFlaw(Code.PRICE_ORDER, what, hint))
            for index, (earlier, later) in enumerate(pairwise(prices), 1)
            if later.from_ is None or (earlier.from_ is not None and later.from_ <= earlier.from_)
        )
        return prices


Tariffs = Annotated[dict[Name, TariffSettings], OrEmpty]
