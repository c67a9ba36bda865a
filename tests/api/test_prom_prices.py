"""Prices as series, and the costs that dashboards make of them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from meterd.api.promapi.prices import PriceSource
from meterd.api.promapi.self_metrics_history import OwnHistory
from meterd.api.promapi.source import SiteSource
from meterd.api.promapi.store_source import StoreSource
from meterd.config.tariffs import TariffSettings
from meterd.promql.engine import instant, query_range
from meterd.promql.result import QueryError
from meterd.promql.source import is_stale
from tests.api.fake import FakeSite
from tests.api.promhistory import FakeHistory
from tests.e2e.dashboards import BOARDS, expanded

HOUR, DAY, QUARTER = 3_600_000, 86_400_000, 900_000
MIDNIGHT = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp()) * 1000
NOON = MIDNIGHT + 12 * HOUR
PRICES: dict[str, Any] = {
    "currency": "EUR",
    "prices": [
        {
            "from": "2026-03-01",
            "rates": {"day": "0.30", "night": "0.10"},
            "rules": [{"rate": "night", "time": "22:00-06:00"}],
            "else": "day",
            "feed_in": "0.08",
        }
    ],
}
HOME = TariffSettings.model_validate(PRICES)


def prices(zone: str = "UTC", now: int = NOON) -> PriceSource:
    return PriceSource({"home": HOME}, zone, now)


def source(site: FakeSite, watts: float, now: int = NOON) -> SiteSource:
    """A meter that takes so much since yesterday's midnight, told each minute."""
    stored = FakeHistory()
    points = [
        (t, 1000.0 + watts * (t - MIDNIGHT + DAY) / HOUR)
        for t in range(MIDNIGHT - DAY, now + 1, 60_000)
    ]
    stored.add("main", "guarded.active_energy.import", "Wh", points)
    return SiteSource(StoreSource(stored, {}), OwnHistory(site), prices(now=now))


def numbers(result: Any) -> list[list[float]]:
    assert not isinstance(result.data, str)
    return [one.values.tolist() for one in result.data]


def panel(title: str) -> str:
    (found,) = (one for one in BOARDS["meterd-energy"]["panels"] if one["title"] == title)
    return str(found["targets"][0]["expr"])


def test_a_price_stands_at_each_quarter_hour_by_the_clock_of_the_site() -> None:
    wanted = prices("Europe/Berlin").series()
    assert [one.labelled.labels["direction"] for one in wanted] == ["import", "export"]
    (times, paid), (_, given) = prices("Europe/Berlin").fetch(wanted, MIDNIGHT, MIDNIGHT + 6 * HOUR)
    assert times[0] == MIDNIGHT + QUARTER
    assert times[-1] == MIDNIGHT + 6 * HOUR
    # 06:00 in Berlin is 05:00 UTC.
    assert paid[times < MIDNIGHT + 5 * HOUR].tolist() == [0.1] * 19
    assert paid[times >= MIDNIGHT + 5 * HOUR].tolist() == [0.3] * 5
    assert set(given.tolist()) == {0.08}


def test_before_the_first_price_there_is_none_and_none_is_told_of_the_future() -> None:
    first = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000
    ((times, values), _) = prices().fetch(prices().series(), first - HOUR, NOON + DAY)
    assert is_stale(values).tolist() == [t < first for t in times.tolist()]
    assert times[-1] == NOON


def test_the_price_of_now_is_exposed_without_its_name() -> None:
    (paid, given) = prices().latest()
    assert paid == ({"tariff": "home", "currency": "EUR", "direction": "import"}, 0.3)
    assert given[1] == 0.08
    assert list(prices(now=MIDNIGHT - 60 * DAY).latest()) == []


def test_a_price_is_there_however_short_the_time_is_that_is_looked_at() -> None:
    (paid, _) = prices(now=NOON + QUARTER - 1).series()
    assert paid.first <= NOON + QUARTER - 1 <= paid.last


def test_prices_of_too_long_a_time_are_refused() -> None:
    century = 100 * 365 * DAY
    far = PriceSource({"home": HOME}, "UTC", century)
    with pytest.raises(QueryError, match="less time"):
        list(far.fetch(far.series(), -century, century))


def test_cost_by_day_is_what_each_quarter_hour_cost(site: FakeSite) -> None:
    values = {"device": "main", "tariff": "home"}
    expr = expanded(panel("Cost by day"), values, DAY // 1000, 0)
    found = query_range(source(site, 1000), expr, MIDNIGHT - DAY, MIDNIGHT, DAY)
    # 8 h of night and 16 h of day at 1 kW; today 6 h of each.
    ((yesterday, today),) = numbers(found)
    assert yesterday == pytest.approx(8 * 0.1 + 16 * 0.3, rel=1e-9)
    assert today == pytest.approx(6 * 0.1 + 6 * 0.3, rel=1e-9)


def test_cost_today_counts_the_quarter_hour_that_is_not_over(site: FakeSite) -> None:
    now = NOON + 5 * 60_000
    values = {"device": "main", "tariff": "home"}
    expr = expanded(panel("Cost today"), values, 60, (now - MIDNIGHT) // 1000)
    ((cost,),) = numbers(instant(source(site, 1000, now), expr, now))
    assert cost == pytest.approx(6 * 0.1 + 6 * 0.3 + 0.3 / 12, rel=0.02)
