"""What is left of days whose raw samples are deleted: a point each five minutes."""

from pathlib import Path

import numpy as np
import pytest

from meterd.model.sample import Poll
from meterd.store.reader import Reader

from .rigs import Hands, rows, store, url_of
from .trimming import DAY, ENERGY, EVERY, HOUR, LAYOUT, POWER, START, history, trimmed, watts

FIVE = 300_000


def read(path: Path, name: tuple[str, str, str], start: int, end: int) -> list[tuple[int, float]]:
    reader = Reader.outside(url_of(path))
    try:
        ((times, values),) = reader.columns([name], start, end)
    finally:
        reader.close()
    assert bool(np.all(np.diff(times) > 0))
    return list(zip(times.tolist(), values.tolist(), strict=True))


async def test_a_gauge_is_the_mean_of_each_quarter_hour(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await trimmed(path, history(4), keep=2)
    found = read(path, POWER, START, START + 5 * DAY)
    lost = [point for point in found if point[0] < START + 2 * DAY]
    assert lost == [(t, watts(t)) for t in range(START, START + 2 * DAY, FIVE)]
    # The rest is as it was polled.
    assert len(found) - len(lost) == (2 * DAY + HOUR) // EVERY


async def test_a_counter_is_what_it_showed_then(tmp_path: Path) -> None:
    path, polls = tmp_path / "meterd.db", history(4)
    told = {one.time: one.values[1] for one in polls}
    await trimmed(path, polls, keep=2)
    found = read(path, ENERGY, START, START + 5 * DAY)
    lost = [point for point in found if point[0] <= START + 2 * DAY]
    assert [t for t, _ in lost] == list(range(START + FIVE, START + 2 * DAY + 1, FIVE))
    # As it was polled but for a rounded digit, and it never falls.
    for time, value in lost:
        assert value == pytest.approx(told[time], abs=0.11)
    values = [value for _, value in found]
    assert values == sorted(values)


async def test_a_counter_that_was_reset_gives_only_the_last_reading_of_that_day(
    tmp_path: Path,
) -> None:
    path, polls = tmp_path / "meterd.db", history(4, reset=6 * HOUR)
    told = {one.time: one.values[1] for one in polls}
    await trimmed(path, polls, keep=2)
    found = read(path, ENERGY, START, START + 2 * DAY)
    first = [(t, value) for t, value in found if t <= START + DAY]
    assert first == [(START + DAY, told[START + DAY - EVERY])]
    # The next day has its points again.
    assert len(found) == 1 + DAY // FIVE - 1


async def test_answers_of_raw_samples_do_not_make_up_any(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await trimmed(path, history(4), keep=2)
    reader = Reader.outside(url_of(path))
    (found,) = await reader.range(["main"], ["active_power"], START, START + 5 * DAY, 0, "avg")
    reader.close()
    assert found.points[0][0] == START + 2 * DAY


async def test_what_comes_late_for_a_day_without_raw_samples_leaves_its_roll_ups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "meterd.db"
    polls = history(4)
    await trimmed(path, polls, 1)
    wanted = "SELECT id, n, sum, increase FROM rollup ORDER BY id"
    before, hours = rows(path, wanted), rows(path, "SELECT * FROM hour ORDER BY id")
    hands = Hands(polls[-1].time)
    async with store(path, clock=hands) as (writer, reader):
        writer.take(Poll("main", START + 5 * HOUR + 7, LAYOUT, (500.0, 5000.0), {}))
        await writer.settle()
        first = await reader.range(["main"], ["active_power"], START, START + DAY, DAY, "count")
    assert rows(path, wanted) == before
    assert [point for one in first for point in one.points] == [(START, DAY / EVERY)]
    assert rows(path, "SELECT * FROM hour ORDER BY id") == hours
    assert "main: 1 polls came too late" in caplog.text


async def test_what_came_too_late_is_told_once_and_does_not_stay_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "meterd.db"
    polls = history(4)
    await trimmed(path, polls, 1)
    hands = Hands(polls[-1].time)
    async with store(path, clock=hands) as (writer, _):
        # In one row of the journal with a poll of this hour, which keeps that row.
        writer.take(Poll("main", START + 5 * HOUR + 7, LAYOUT, (500.0, 5000.0), {}))
        writer.take(Poll("main", polls[-1].time + 1, LAYOUT, (500.0, 5000.0), {}))
        for _ in range(3):
            await writer.settle()
    assert caplog.text.count("came too late") == 1
