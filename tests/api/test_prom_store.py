"""PromQL over a real store: what the writer took is what the query finds, committed or not."""

import asyncio
from pathlib import Path

import pytest

from meterd.api.promapi.store_source import StoreSource, devices
from meterd.model.sample import Fault, Poll, failed
from meterd.promql.engine import instant, query_range
from meterd.promql.result import ResultSeries
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.api.fake import NOW, FakeDevice, FakeSite, good

EVERY = 5000
START = NOW - 600_000


def told() -> list[Poll]:
    """Ten minutes: slow rows with each twelfth poll, a minute of silence, and a null."""
    fast = good("main", 0, {"active_power": (100.0, "W")})
    slow = good("main", 0, {"active_power": (100.0, "W"), "active_energy.import": (0.0, "Wh")})
    polls = []
    for number, time in enumerate(range(START, NOW, EVERY)):
        if 60 <= number < 72:
            polls.append(failed("main", time, Fault("timeout", "no answer")))
            continue
        shape = slow if number % 12 == 0 else fast
        power = None if number == 100 else 100.0 + number
        values = (power, 5.0 * number, 1.0) if shape is slow else (power, 1.0)
        polls.append(Poll("main", time, shape.layout, values, took=0.02))
    return polls


def values(series: tuple[ResultSeries, ...] | str) -> list[tuple[int, float]]:
    assert not isinstance(series, str)
    (one,) = series
    ago = [(time - START) // EVERY for time in one.times.tolist()]
    return list(zip(ago, one.values.tolist(), strict=True))


@pytest.mark.parametrize("is_committed", [True, False])
async def test_what_was_polled_is_what_is_found(tmp_path: Path, *, is_committed: bool) -> None:
    site = FakeSite(known=[FakeDevice("main", labels={"building": "A"})])
    url = f"sqlite:///{tmp_path / 'meterd.db'}"
    writer = Writer(url, commit=3600)
    await writer.open()
    reader = Reader(url, writer.memory)
    try:
        for poll in told():
            site.latest.take(poll)
            writer.take(poll)
        if is_committed:
            await writer.flush()
        source = StoreSource(reader, devices(site))
        await asyncio.to_thread(_look, source)
    finally:
        reader.close()
        await writer.close()


def _look(source: StoreSource) -> None:
    power = 'meterd_active_power_watts{device="main", building="A"}'
    found = values(query_range(source, power, START, NOW, 20 * EVERY).data)
    # 60: the first poll that was missed; 100: the value that was not known.
    assert found == [(0, 100.0), (20, 120.0), (40, 140.0), (80, 180.0), (120, 219.0)]
    energy = "increase(meterd_active_energy_import_watthours_total[10m])"
    ((_, rise),) = values(instant(source, energy, NOW).data)
    assert rise == pytest.approx(600, rel=0.1)
    assert values(instant(source, "meterd_device_up", START + 65 * EVERY).data) == [(65, 0.0)]
    assert instant(source, power, START + 65 * EVERY).data == ()
    assert instant(source, power, -(10**15)).data == ()
    assert len(values(query_range(source, power, 0, 2 * NOW, NOW // 2).data)) == 1


async def test_a_store_that_is_not_made_yet_has_no_series(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'meterd.db'}"
    writer = Writer(url, commit=3600)
    reader = Reader(url, writer.memory)
    try:
        source = StoreSource(reader, {})
        found = await asyncio.to_thread(instant, source, "meterd_device_up", NOW)
        assert found.data == ()
    finally:
        reader.close()
