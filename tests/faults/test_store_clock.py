"""T1–T4: the wall clock steps, begins in 1970, and has days of 23 and 25 hours."""

import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from meterd.model.sample import Layout, Poll
from tests.store.rigs import Hands, poll, raw, rows, samples, store, url_of

from .stores import nursery

HOUR = 3_600_000
DAY = 24 * HOUR
START = 19_700 * DAY
FAKE = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


async def test_steps_back_and_forward_lose_and_overwrite_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    times: list[int] = []
    # Seconds by which the clock is set before each quarter of an hour, at odd milliseconds.
    steps = [0, 0, -3600, 0, 86_400, 0, -86_400, 7, -11, 0, 3600, 0]
    async with store(path, clock=hands, keep=7 * 86_400.0) as (writer, reader):
        for number, step in enumerate(steps):
            hands.now += step * 1000 + number
            for _ in range(90):
                hands.now += 10_000
                hands.elapsed += 10
                times.append(hands.now)
                writer.take(poll(hands.now, float(len(times))))
            await writer.settle()
        assert len(set(times)) == len(times)
        assert sorted(times) == [time for time, _ in await raw(reader)]
        hands.now += 3 * DAY
        hands.elapsed += 3 * 86_400
        await writer.settle()
        by_time = {time: float(number) for number, time in enumerate(times, 1)}
        assert dict(await raw(reader)) == by_time
    assert len(samples(path)) == len(times)


async def test_a_clock_that_began_in_1970_is_followed_when_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(5_000)
    times = []
    async with store(path, clock=hands) as (writer, reader):
        for jump in (0, START, 0):
            hands.now += jump
            for _ in range(400):
                hands.now += 10_000
                hands.elapsed += 10
                times.append(hands.now)
                writer.take(poll(hands.now, 230.0))
            await writer.settle()
        assert [time for time, _ in await raw(reader)] == times
    async with store(path, clock=hands) as (_, reader):
        assert [time for time, _ in await raw(reader)] == times


@pytest.mark.needs("faketime")
@pytest.mark.skipif(not FAKE.exists(), reason=f"needs {FAKE}")
async def test_a_process_whose_clock_is_set_keeps_all_its_polls(tmp_path: Path) -> None:
    path, said = tmp_path / "meterd.db", tmp_path / "time"
    said.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(FAKE),
        "FAKETIME_TIMESTAMP_FILE": str(said),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with nursery(**environment) as some:
        child = await some.child(url=url_of(path), first=0, clock=True)
        for offset in ("+0", "-3600", "+86400", "+0"):
            said.write_text(f"{offset}\n")
            await child.commits(10)
        child.kill(signal.SIGTERM)
        await child.gone()
    assert child.end is not None
    times = {time for time, _, _ in samples(path)}
    assert child.end[0] >= 40
    assert len(times) == child.end[0]
    # Three clocks were seen: now, an hour ago, and tomorrow.
    assert max(times) - min(times) > 86_400_000 + 3_600_000


ZONES = [
    ("Europe/Berlin", datetime(2025, 3, 29, tzinfo=UTC), 23.0),
    ("Europe/Berlin", datetime(2025, 10, 25, tzinfo=UTC), 25.0),
    ("Australia/Lord_Howe", datetime(2025, 4, 5, tzinfo=UTC), 24.5),
    ("Australia/Lord_Howe", datetime(2025, 10, 4, tzinfo=UTC), 23.5),
    ("America/Santiago", datetime(2025, 9, 6, tzinfo=UTC), 23.0),
    ("America/Santiago", datetime(2025, 4, 5, tzinfo=UTC), 25.0),
    ("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC), 24.0),
]
COUNTER = Layout.of([("active_energy.import", "Wh")])
NAME = "main", "active_energy.import", "Wh"


def midnights(zone: str, around: datetime) -> list[int]:
    """Local midnights of some days, Unix ms; a day that was skipped has none."""
    local = ZoneInfo(zone)
    first = around.astimezone(local).date() - timedelta(days=1)
    days = (first + timedelta(days=number) for number in range(5))
    found = (datetime(day.year, day.month, day.day, tzinfo=local) for day in days)
    return sorted({round(moment.timestamp() * 1000) for moment in found})


@pytest.mark.parametrize(("zone", "around", "hours"), ZONES)
async def test_local_days_add_up_to_the_whole(
    tmp_path: Path, zone: str, around: datetime, hours: float
) -> None:
    edges = midnights(zone, around)
    lengths = [(end - start) / HOUR for start, end in pairwise(edges)]
    assert hours in lengths
    path = tmp_path / "meterd.db"
    hands = Hands(edges[0])
    energy, read = 5_000.0, dict[int, float]()
    async with store(path, clock=hands) as (writer, reader):
        for number, time in enumerate(range(edges[0], edges[-1] + 60_000, 60_000)):
            energy = round(energy + number % 17 / 10, 1)
            read[time] = energy
            writer.take(Poll("main", time, COUNTER, (energy,)))
        hands.now = edges[-1] + 3 * DAY
        await writer.settle()
        found = [
            sum(one.increase or 0 for one in reader.quarters(NAME, start, end).values())
            for start, end in pairwise(edges)
        ]
    expected = [round((read[end] - read[start]) * 1000) for start, end in pairwise(edges)]
    assert found == expected
    assert sum(found) == round((read[edges[-1]] - read[edges[0]]) * 1000)
    assert rows(path, "SELECT count(*) > 2 FROM rollup") == [(1,)]
