"""Local days as a metric: bars by day that are right where the clock changes."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientSession

from meterd.energy.quarter import COUNTER, Quarter, QuarterSeries
from meterd.model.quantity import Kind
from tests.api.conftest import FixedClock, served
from tests.api.fake import FakeDevice, FakeSeries, FakeSite

QUARTER, HOUR, DAY = 900_000, 3_600_000, 86_400_000
METRIC = "meterd_active_energy_import_local_day_watthours"
# First day, days, and the day that is longer or shorter, with its hours.
PLACES = {
    "Europe/Berlin": ("2026-10-22", 8, "2026-10-25", 25.0),
    "Australia/Lord_Howe": ("2026-04-02", 7, "2026-04-05", 24.5),
    "America/New_York": ("2026-03-05", 8, "2026-03-08", 23.0),
}


@dataclass
class CountingSite(FakeSite):
    """A meter that takes 100 Wh in each quarter hour from `begun` until `until`, but in a hole."""

    begun: int = 0
    until: int = 0
    hole: range = field(default_factory=lambda: range(0))

    async def quarters(self, device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        times = range(max(start, self.begun), min(end, self.until), QUARTER)
        known = [t for t in times if t not in self.hole]
        return [Quarter(t, 100_000, False) for t in known], COUNTER


def midnights(zone: str) -> list[int]:
    first, days, _, _ = PLACES[zone]
    day = datetime.fromisoformat(first).date()
    clock = ZoneInfo(zone)
    found = [day + timedelta(days=number) for number in range(days + 1)]
    return [round(datetime(d.year, d.month, d.day, tzinfo=clock).timestamp() * 1000) for d in found]


def made(zone: str, now: int) -> CountingSite:
    edges = midnights(zone)
    site = CountingSite(timezone=zone, begun=edges[0], until=now)
    site.known = [FakeDevice("main", labels={"building": "A"})]
    for name in ("active_energy.import", "guarded.active_energy.import", "active_power"):
        site.reader.known.append(FakeSeries("main", name, "Wh", Kind.COUNTER, edges[0], now))
    return site


async def ask(site: FakeSite, path: str, now: int, **params: Any) -> Any:
    async with (
        served(site, clock=FixedClock(now)) as running,
        ClientSession(running.url) as client,
        client.post(f"/prometheus/api/v1/{path}", data=params) as reply,
    ):
        body = await reply.json()
        assert body["status"] == "success", body
        return body["data"]


@pytest.mark.parametrize("zone", PLACES)
async def test_a_bar_of_a_fixed_step_has_the_whole_local_day(zone: str) -> None:
    edges = midnights(zone)
    *_, special, hours = PLACES[zone]
    clock = ZoneInfo(zone)
    wanted = {
        datetime.fromtimestamp(start / 1000, clock).date().isoformat(): (end - start)
        / QUARTER
        * 100
        for start, end in pairwise(edges)
    }
    assert wanted[special] == hours * 400
    # As Grafana asks: from the first midnight on, 24 hours at a time.
    times = {"start": edges[0] / 1000, "end": edges[-2] / 1000, "step": "1d"}
    query = f"{METRIC} offset -12h"
    data = await ask(made(zone, edges[-1]), "query_range", edges[-1], query=query, **times)
    (series,) = data["result"]
    assert series["metric"] == {"__name__": METRIC, "device": "main", "building": "A"}
    values = [float(value) for _, value in series["values"]]
    assert values == list(wanted.values())[: len(values)]
    assert len(values) >= len(wanted) - 1


@pytest.mark.parametrize("zone", PLACES)
async def test_each_moment_of_a_day_tells_that_day_and_no_other(zone: str) -> None:
    edges = midnights(zone)
    site = made(zone, edges[-1])
    times = {"start": edges[0] / 1000, "end": edges[-1] / 1000 - 1, "step": 1800}
    data = await ask(site, "query_range", edges[-1], query=METRIC, **times)
    for time, value in data["result"][0]["values"]:
        ((start, end),) = ((a, b) for a, b in pairwise(edges) if a <= time * 1000 < b)
        assert float(value) == (end - start) / QUARTER * 100
    assert len(data["result"][0]["values"]) == (edges[-1] - edges[0]) / 1_800_000


async def test_today_is_told_so_far_and_an_unknown_day_not_at_all() -> None:
    zone = "Europe/Berlin"
    edges = midnights(zone)
    now = edges[-2] + 6 * HOUR
    site = made(zone, now)
    site.hole = range(edges[1], edges[2], QUARTER)
    (today,) = (await ask(site, "query", now, query=METRIC))["result"]
    assert float(today["value"][1]) == 6 * 400
    ahead = (await ask(site, "query", now, query=f"{METRIC} offset -12h"))["result"]
    assert float(ahead[0]["value"][1]) == 6 * 400
    middle = (edges[1] + 12 * HOUR) / 1000
    assert (await ask(site, "query", now, query=METRIC, time=middle))["result"] == []
    tomorrow = (edges[-1] + 4 * HOUR) / 1000
    assert (await ask(site, "query", now, query=METRIC, time=tomorrow))["result"] == []


async def test_it_says_what_the_endpoint_of_energy_says() -> None:
    zone = "Europe/Berlin"
    edges = midnights(zone)
    site = made(zone, edges[-1])
    window = {"start": edges[0] / 1000, "end": edges[-1] / 1000, "step": 3600}
    data = await ask(site, "query_range", edges[-1], query=METRIC, **window)
    found = {round(time * 1000): float(value) for time, value in data["result"][0]["values"]}
    async with (
        served(site, clock=FixedClock(edges[-1])) as running,
        ClientSession(running.url) as client,
        client.get(f"/api/v1/energy?start={edges[0] / 1000}&end={edges[-1] / 1000}") as reply,
    ):
        rows = (await reply.json())["energy"]
    assert len(rows) == len(edges) - 1
    assert all(found[row["time_ms"]] == row["value"] for row in rows)


async def test_it_can_be_found_and_is_bounded() -> None:
    zone = "Europe/Berlin"
    edges = midnights(zone)
    site = made(zone, edges[-1])
    found = await ask(site, "series", edges[-1], **{"match[]": f"{{__name__=~'{METRIC}'}}"})
    assert found == [{"__name__": METRIC, "building": "A", "device": "main"}]
    site.begun = 0
    site.reader.known = [
        FakeSeries(f"m{n}", "active_energy.import", "Wh", Kind.COUNTER, 0, edges[-1])
        for n in range(60)
    ]
    async with (
        served(site, clock=FixedClock(edges[-1])) as running,
        ClientSession(running.url) as client,
        client.get(
            "/prometheus/api/v1/query", params={"query": f"sum_over_time({METRIC}[1y])"}
        ) as reply,
    ):
        body = await reply.json()
    assert (reply.status, body["errorType"]) == (422, "execution")
    assert "local days" in body["error"]
