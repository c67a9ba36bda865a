from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.energy.bill import FEED_IN, PLACES, UNPRICED, Bill, BillPart, money
from meterd.energy.consumption import EnergyQuantity, consume
from meterd.energy.periods import Period, spans
from meterd.energy.quarter import QUARTER, Quarter, QuarterSeries
from meterd.energy.tally import EnergyDirection
from tests.energy.histories import DAY, HOUR
from tests.energy.plans import PlainPrices, PlainTariff

KWH = 1_000_000  # mWh
EUR = 10**PLACES
PRICES = PlainPrices(
    {"all": Decimal("0.30")}, "all", standing=Decimal("0.45"), feed_in=Decimal("0.08")
)


async def bill(
    way: EnergyDirection,
    plan: PlainPrices,
    *,
    taken: int = KWH,
    given_back: int = KWH,
    end: int = HOUR,
) -> Bill:
    """The bill of the hours from 1970 to `end`, with so many mWh in the first quarter hour."""

    async def fetch(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        return [Quarter(0, given_back if quantity == "give" else taken, False)], "counter"

    asked = EnergyQuantity(
        "active_energy",
        "Wh",
        way,
        "" if way == "export" else "take",
        "" if way == "import" else "give",
    )
    zone = ZoneInfo("UTC")
    pieces = spans(zone, Period.YEAR, 0, end)
    tariff = PlainTariff((plan,))
    (bucket,) = (
        await consume(fetch, "main", asked, pieces, zone=zone, now=10**13, tariff=tariff)
    ).buckets
    assert bucket.bill is not None
    return bucket.bill


async def test_what_is_taken_costs_its_rate_and_each_day_its_charge() -> None:
    found = await bill(EnergyDirection.IMPORT, PRICES, end=3 * DAY)
    assert found.parts == {"all": BillPart(KWH, 30 * EUR // 100)}
    assert found.energy_cost == 30 * EUR // 100
    assert found.standing == 135 * EUR // 100
    assert found.cost == 165 * EUR // 100


async def test_what_is_given_costs_less_than_nothing_and_no_daily_charge() -> None:
    found = await bill(EnergyDirection.EXPORT, PRICES)
    assert found.parts == {FEED_IN: BillPart(KWH, -8 * EUR // 100)}
    assert (found.cost, found.standing) == (-8 * EUR // 100, 0)


async def test_a_net_pays_for_what_is_taken_and_is_paid_for_what_is_given() -> None:
    found = await bill(EnergyDirection.NET, PRICES)
    assert found.parts == {
        "all": BillPart(KWH, 30 * EUR // 100),
        FEED_IN: BillPart(-KWH, -8 * EUR // 100),
    }
    assert found.energy_cost == 22 * EUR // 100


async def test_energy_without_a_price_has_no_cost_and_is_shown_as_unpriced() -> None:
    found = await bill(EnergyDirection.NET, PlainPrices({"all": Decimal(1)}, "all"))
    assert found.parts[UNPRICED] == BillPart(-KWH, 0)
    assert (found.energy_cost, found.cost) == (None, None)
    found = await bill(
        EnergyDirection.IMPORT, PlainPrices({"all": Decimal(1)}, "all", from_=date(1970, 1, 2))
    )
    assert found.parts == {UNPRICED: BillPart(KWH, 0)}
    assert found.cost is None


async def test_no_energy_without_a_price_costs_nothing() -> None:
    found = await bill(EnergyDirection.NET, PlainPrices({"all": Decimal(1)}, "all"), given_back=0)
    assert found.cost == EUR


async def test_where_nothing_is_known_there_is_a_daily_charge_but_no_cost() -> None:
    async def nothing(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        return (), ""

    zone = ZoneInfo("UTC")
    found = await consume(
        nothing,
        "main",
        EnergyQuantity(
            "active_energy.import", "Wh", EnergyDirection.IMPORT, "active_energy.import"
        ),
        spans(zone, Period.DAY, 0, 2 * DAY),
        zone=zone,
        now=DAY + QUARTER,
        tariff=PlainTariff((PRICES,)),
    )
    bills = [bucket.bill for bucket in found.buckets if bucket.bill]
    assert [(one.energy_cost, one.cost, one.standing) for one in bills] == [
        (None, None, 45 * EUR // 100)
    ] * 2


async def test_the_charge_of_a_day_stands_in_its_first_hour_only() -> None:
    async def nothing(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        return (), ""

    zone = ZoneInfo("Europe/Berlin")
    found = await consume(
        nothing,
        "main",
        EnergyQuantity(
            "active_energy.import", "Wh", EnergyDirection.IMPORT, "active_energy.import"
        ),
        spans(zone, Period.HOUR, 20 * HOUR, 26 * HOUR),
        zone=zone,
        now=10**13,
        tariff=PlainTariff((PRICES,)),
    )
    charges = [bucket.bill.standing for bucket in found.buckets if bucket.bill]
    assert [charge > 0 for charge in charges] == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("cost", "text", "cents"),
    [
        (0, "0", "0.00"),
        (1, "0.000000000000001", "0.00"),
        (EUR, "1", "1.00"),
        (100 * EUR, "100", "100.00"),
        (-EUR // 8, "-0.125", "-0.12"),
        (EUR * 135 // 1000, "0.135", "0.14"),
        (EUR * 145 // 1000, "0.145", "0.14"),
        (-1, "-0.000000000000001", "0.00"),
    ],
)
def test_money_is_exact_or_rounded_at_the_end(cost: int, text: str, cents: str) -> None:
    assert money(cost) == text
    assert money(cost, 2) == cents


@given(st.integers(-(10**40), 10**40), st.integers(0, PLACES - 1))
def test_money_is_rounded_as_decimals_are(cost: int, places: int) -> None:
    exact = Context(prec=80, rounding=ROUND_HALF_EVEN)
    amount = exact.scaleb(Decimal(cost), -PLACES)
    assert Decimal(money(cost)) == amount
    assert Decimal(money(cost, places)) == amount.quantize(
        Decimal(1).scaleb(-places), context=exact
    )
