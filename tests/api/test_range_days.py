"""Steps of days, weeks, months and years: those of the site's clock, as long as they are."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientSession

from meterd.api.range import RangeAnswer
from meterd.model.sample import Layout, Poll
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.api.conftest import FixedClock, served
from tests.api.fake import FakeDevice, FakeSite
from tests.store.rigs import Hands

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
LAYOUT = Layout.of([("active_power", "W"), ("device.up", "1")])
EVERY = 10 * MINUTE
# A clock change in the middle: 25 and 23 hours, and half an hour on Lord Howe.
PLACES = {
    "Europe/Berlin": ("2026-10-20", "2026-11-02"),
    "America/New_York": ("2026-03-01", "2026-03-16"),
    "Australia/Lord_Howe": ("2026-03-30", "2026-04-10"),
    "Asia/Kathmandu": ("2026-05-28", "2026-06-06"),
    "UTC": ("2026-10-20", "2026-11-02"),
}
Key = Callable[[date], Any]
STEPS: dict[str, Key] = {
    "1d": lambda day: day,
    "3d": lambda day: (day - date(1970, 1, 1)).days // 3,
    "1w": lambda day: day.isocalendar()[:2],
    "1mo": lambda day: (day.year, day.month),
    "1y": lambda day: day.year,
}


def ms(zone: str, text: str) -> int:
    """Local midnight of a day."""
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def values(start: int, end: int) -> dict[int, float]:
    """Samples with a hole of two days, by time."""
    middle = (start + end) // 2
    times = range(start, end, EVERY)
    return {t: float(t // EVERY % 997) for t in times if not middle < t < middle + 2 * DAY}


@pytest.fixture(params=PLACES)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakeSite]:
    """Days in the store with their roll-ups, the newest hours in memory only."""
    zone = request.param
    start, end = (ms(zone, text) for text in PLACES[zone])
    url = f"sqlite:///{tmp_path / 'meterd.db'}"
    hands = Hands(start)
    writer = Writer(url, commit=1e9, clock=hands)
    await writer.open()
    reader = Reader(url, writer.memory)
    for time, value in values(start, end).items():
        writer.take(Poll("main", time, LAYOUT, (value, 1.0)))
        if time == end - 18 * HOUR:
            hands.now = time
            await writer.flush()
            await writer.settle()
    made = FakeSite(timezone=zone, known=[FakeDevice("main", interval=EVERY / 1000)])
    made.reader = reader  # type: ignore[assignment]
    try:
        yield made
    finally:
        await writer.close()
        with sqlite3.connect(tmp_path / "meterd.db") as connection:
            (rolled,) = connection.execute("SELECT count(*) FROM rollup").fetchone()
        reader.close()
        assert rolled > 2, "roll-ups have to take part"


async def ask(site: FakeSite, query: str, now: int) -> Any:
    async with (
        served(site, clock=FixedClock(now)) as running,
        ClientSession(running.url) as client,
        client.get(f"/api/v1/range?quantity=active_power&{query}") as reply,
    ):
        body = await reply.json()
        assert reply.status == 200, body
        RangeAnswer.model_validate_json(await reply.read())
        return body


def buckets(zone: str, key: Key, start: int, end: int) -> dict[int, list[float]]:
    """An oracle: each sample's local date, by the standard library; the bucket's first moment."""
    clock = ZoneInfo(zone)
    low, high = (ms(zone, text) for text in PLACES[zone])
    found: dict[Any, list[float]] = {}
    for time, value in values(low, high).items():
        if start <= time < end:
            day = datetime.fromtimestamp(time / 1000, clock).date()
            found.setdefault(key(day), []).append(value)
    begins: dict[int, list[float]] = {}
    for bucket, some in found.items():
        day = datetime.fromtimestamp(start / 1000, clock).date()
        while key(day) != bucket:
            day += timedelta(days=1)
        while key(day - timedelta(days=1)) == bucket:
            day -= timedelta(days=1)
        begins[ms(zone, day.isoformat())] = some
    return begins


FOLDS: dict[str, Callable[[list[float]], float]] = {
    "avg": lambda some: sum(some) / len(some),
    "min": min,
    "max": max,
    "last": lambda some: some[-1],
    "sum": sum,
    "count": len,
}


async def test_each_bucket_is_a_whole_one_of_the_sites_clock(site: FakeSite) -> None:
    zone = site.timezone
    low, high = (ms(zone, text) for text in PLACES[zone])
    aggs = "&".join(f"agg={name}" for name in FOLDS)
    windows = ((low, high), (low + 5 * HOUR + 7 * MINUTE, high - 30 * HOUR))
    for step, (start, end) in product(STEPS, windows):
        body = await ask(site, f"start={start / 1000}&end={end / 1000}&step={step}&{aggs}", high)
        assert (body["step"], body["timezone"], body["raised"]) == (step, zone, None)
        wanted = buckets(zone, STEPS[step], start, end)
        for series in body["series"]:
            fold = FOLDS[series["agg"]]
            points = [(time, pytest.approx(fold(some))) for time, some in wanted.items()]
            assert [tuple(point) for point in series["points"]] == points, series["agg"]


async def test_a_step_in_hours_or_seconds_is_of_utc(site: FakeSite) -> None:
    low, high = (ms(site.timezone, text) for text in PLACES[site.timezone])
    for step in ("24h", "86400", "1440m"):
        body = await ask(site, f"start={low / 1000}&end={high / 1000}&step={step}&agg=count", high)
        times = [time for time, _ in body["series"][0]["points"]]
        assert all(time % DAY == 0 for time in times)
        assert body["step_ms"] == DAY
        assert "step" not in body


async def test_a_step_that_meterd_chooses_is_of_days_of_the_site(site: FakeSite) -> None:
    low, high = (ms(site.timezone, text) for text in PLACES[site.timezone])
    window = f"start={low / 1000}&end={high / 1000}&agg=count"
    wanted = buckets(site.timezone, STEPS["1d"], low, high)
    for more in ("max_points=16", "step=1h&max_points=16"):
        body = await ask(site, f"{window}&{more}", high)
        assert (body["step"], body["step_ms"]) == ("1d", DAY)
        assert [time for time, _ in body["series"][0]["points"]] == list(wanted)


@pytest.mark.parametrize(
    ("step", "status", "ms"),
    [("0d", 400, 0), ("1mo", 200, 30 * DAY), ("2y", 200, 730 * DAY), ("1.5d", 200, 1.5 * DAY)],
)
async def test_a_step_has_a_nominal_length(step: str, status: int, ms: int) -> None:
    site = FakeSite(timezone="Europe/Berlin", known=[FakeDevice("main")])
    now = round(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
    async with (
        served(site, clock=FixedClock(now)) as running,
        ClientSession(running.url) as client,
        client.get(f"/api/v1/range?quantity=active_power&start=now-4000d&step={step}") as reply,
    ):
        assert reply.status == status
        if status == 200:
            assert (await reply.json())["step_ms"] == ms
