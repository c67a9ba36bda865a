"""Dashboards of energy show imported history too: counters each quarter hour, each hour."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from meterd.api.promapi.prices import PriceSource
from meterd.api.promapi.self_metrics_history import OwnHistory
from meterd.api.promapi.source import SiteSource
from meterd.api.promapi.store_source import StoreSource
from meterd.config.tariffs import TariffSettings
from meterd.promql.engine import instant, query_range
from tests.api.fake import FakeSite
from tests.api.promhistory import FakeHistory
from tests.e2e.dashboards import BOARDS, expanded

SECOND, MINUTE, QUARTER, HOUR, DAY = 1000, 60_000, 900_000, 3_600_000, 86_400_000
MIDNIGHT = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp()) * 1000
PLAIN, GUARDED = "active_energy.import", "guarded.active_energy.import"
HOME = TariffSettings.model_validate(
    {
        "currency": "EUR",
        "prices": [{"from": "2026-01-01", "rates": {"flat": "0.30"}, "else": "flat"}],
    }
)
VALUES = {"device": "main", "tariff": "home"}
DAYS = 10


def reading(time: int) -> float:
    """A kilowatt all the time."""
    return 5000.0 + (time - MIDNIGHT + DAYS * DAY) / HOUR * 1000


def source(site: FakeSite, *parts: tuple[str, Sequence[int]]) -> SiteSource:
    """Counters by name, and the times at which they were read."""
    stored = FakeHistory()
    for name, times in parts:
        stored.add("main", name, "Wh", [(time, reading(time)) for time in times])
    now = MIDNIGHT + DAY
    return SiteSource(
        StoreSource(stored, {}), OwnHistory(site), PriceSource({"home": HOME}, "UTC", now)
    )


def panel(title: str) -> str:
    (found,) = (one for one in BOARDS["meterd-energy"]["panels"] if one["title"] == title)
    return str(found["targets"][0]["expr"])


def bars(result: Any) -> list[float]:
    (one,) = result.data
    return [float(value) for value in one.values]


@pytest.mark.parametrize("every", [10 * SECOND, 5 * MINUTE, QUARTER, 2 * QUARTER, HOUR])
@pytest.mark.parametrize("name", [PLAIN, GUARDED])
def test_hours_days_and_costs_are_there_however_rarely_it_was_read(
    site: FakeSite, every: int, name: str
) -> None:
    counters = source(site, (name, range(MIDNIGHT - 2 * DAY, MIDNIGHT + DAY + 1, every)))
    expr = expanded(panel("By hour, the last seven days"), VALUES, HOUR // 1000, 0)
    hours = bars(query_range(counters, expr, MIDNIGHT - DAY, MIDNIGHT + 23 * HOUR, HOUR))
    assert hours == pytest.approx([1000.0] * 48)
    expr = expanded(panel("By month, the last twelve"), VALUES, DAY // 1000, 0)
    days = bars(query_range(counters, expr, MIDNIGHT - 2 * DAY, MIDNIGHT, DAY))
    assert days == pytest.approx([24_000.0] * 3)
    expr = expanded(panel("Cost by day"), VALUES, DAY // 1000, 0)
    costs = bars(query_range(counters, expr, MIDNIGHT - DAY, MIDNIGHT, DAY))
    assert costs == pytest.approx([7.2, 7.2])
    expr = expanded(panel("Taken today"), VALUES, HOUR // 1000, DAY // 1000)
    assert bars(instant(counters, expr, MIDNIGHT + DAY)) == pytest.approx([24_000])


@pytest.mark.parametrize("every", [QUARTER, HOUR])
def test_before_the_guarded_counter_begins_the_plain_one_is_shown(
    site: FakeSite, every: int
) -> None:
    counters = source(
        site,
        (PLAIN, range(MIDNIGHT - 2 * DAY, MIDNIGHT + 1, every)),
        (GUARDED, range(MIDNIGHT, MIDNIGHT + DAY + 1, 10 * SECOND)),
    )
    expr = expanded(panel("By hour, the last seven days"), VALUES, HOUR // 1000, 0)
    hours = bars(query_range(counters, expr, MIDNIGHT - DAY, MIDNIGHT + 23 * HOUR, HOUR))
    assert hours == pytest.approx([1000.0] * 48)


def test_a_counter_that_was_reset_shows_no_negative_hour(site: FakeSite) -> None:
    stored = FakeHistory()
    points = [(MIDNIGHT + n * HOUR, 1000.0 * n if n < 12 else 1000.0 * (n - 12)) for n in range(24)]
    stored.add("main", PLAIN, "Wh", points)
    prices = PriceSource({"home": HOME}, "UTC", MIDNIGHT + DAY)
    counters = SiteSource(StoreSource(stored, {}), OwnHistory(site), prices)
    expr = expanded(panel("By hour, the last seven days"), VALUES, HOUR // 1000, 0)
    hours = bars(query_range(counters, expr, MIDNIGHT, MIDNIGHT + 22 * HOUR, HOUR))
    assert hours == pytest.approx([1000.0] * 22)


def test_whoever_was_only_imported_can_be_chosen() -> None:
    (device,) = (
        one for one in BOARDS["meterd-energy"]["templating"]["list"] if one["name"] == "device"
    )
    assert "meterd_(guarded_)?active_energy_import" in device["query"]["query"]
