"""Blocks, roll-ups and plain rows: the same answers as from the journal, whatever came when."""

import functools
import math
import random
from pathlib import Path

import pytest

from meterd.config.settings import StoreSettings
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.reader import Reader
from meterd.store.writer import Writer

from .rigs import NEVER, Hands, opened, poll, rows, store, url_of

HOUR = 3_600_000
DAY = 86_400_000
START = 19_700 * DAY
FAST = Layout.of([("voltage.l1", "V"), ("active_power", "W"), ("device.up", "1")])
SLOW = Layout.of(
    [
        ("voltage.l1", "V"),
        ("active_power", "W"),
        ("active_energy.import", "Wh"),
        ("device.up", "1"),
    ]
)
AGGREGATES = ("avg", "min", "max", "last", "sum", "count")


def history(
    seed: int, start: int, hours: float, every: int = 10_000, energy: float = 1000.0
) -> list[Poll]:
    """Polls with slow rows in each sixth, nulls, and a counter that only rises."""
    return list(_history(seed, start, hours, every, energy))


@functools.cache
def _history(seed: int, start: int, hours: float, every: int, energy: float) -> list[Poll]:
    said = random.Random(seed)
    polls = []
    for number in range(int(hours * HOUR / every)):
        time = start + number * every
        volts, watts = round(said.gauss(230, 2), 1), round(said.uniform(0, 3000), 1)
        energy = round(energy + watts * every / HOUR, 1)
        doubts, up = {}, 1.0
        values: tuple[float | None, ...] = (volts, watts, up)
        if said.random() < 0.01:
            values, doubts = (None, watts, up), {0: QualityFlag(Quality.INVALID, "not available")}
        layout = FAST
        if number % 6 == 0:
            layout, values = SLOW, (*values[:2], energy, up)
        polls.append(Poll("main", time, layout, values, doubts))
    return polls


async def feed(writer: Writer, hands: Hands, polls: list[Poll]) -> None:
    for number, one in enumerate(polls):
        writer.take(one)
        if number % 500 == 499:
            await writer.flush()
    await writer.flush()
    hands.now = max(one.time for one in polls)


Answers = dict[tuple[str, int, str], list[tuple[int, float]]]


async def answers(reader: Reader, start: int, end: int) -> Answers:
    found: Answers = {}
    for step in (0, 60_000, 900_000, HOUR, DAY):
        for agg in AGGREGATES if step else ("avg",):
            for one in await reader.range(None, None, start, end, step, agg):
                found[one.quantity, step, agg] = one.points
    return found


def alike(one: Answers, other: Answers) -> None:
    assert one.keys() == other.keys()
    for key, points in one.items():
        assert [t for t, _ in points] == [t for t, _ in other[key]], key
        for (_, a), (_, b) in zip(points, other[key], strict=True):
            assert math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-9), key


async def test_sealed_and_closed_days_answer_as_the_journal_did(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    window = START + 3 * HOUR + 1, START + 55 * HOUR + 7
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(1, START, 60))
        before = await answers(reader, *window)
        await writer.settle()
        assert await answers(reader, START, START + HOUR)
        alike(await answers(reader, *window), before)
        # Two days are closed, and of the third all but the running hour is sealed.
        assert [n for (n,) in rows(path, "SELECT n FROM block ORDER BY id")] == [
            8640,
            8640,
            *[360] * 11,
        ]
        assert rows(path, "SELECT count(*) FROM rollup") == [(8,)]
        assert rows(path, "SELECT count(*) <= 3 FROM journal") == [(1,)]
        assert await raw_count(reader) == len(history(1, START, 60))
    outside = Reader.outside(url_of(path))
    alike(await answers(outside, *window), before)
    outside.close()


async def raw_count(reader: Reader) -> int:
    (found,) = await reader.range(["main"], ["device.up"], 0, START * 2, 0, "avg")
    return len(found.points)


async def test_a_restart_between_any_two_steps_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    polls = history(2, START, 30)
    hands = Hands(START)
    for start in range(0, len(polls), 700):
        async with opened(Writer(url_of(path), commit=NEVER, clock=hands)) as writer:
            await feed(writer, hands, polls[start : start + 700])
            await writer.settle()
    whole = tmp_path / "whole.db"
    async with store(whole, clock=Hands(START)) as (writer, reader):
        await feed(writer, Hands(START), polls)
        expected = await answers(reader, START, START + 31 * HOUR)
    outside = Reader.outside(url_of(path))
    alike(await answers(outside, START, START + 31 * HOUR), expected)
    outside.close()


@pytest.mark.parametrize("seed", range(3))
async def test_late_and_repeated_polls_find_their_place(tmp_path: Path, seed: int) -> None:
    said = random.Random(seed)
    polls = history(seed, START, 28)
    late = [one for one in polls if said.random() < 0.1]
    again = [one for one in polls if said.random() < 0.05]
    hands = Hands(START)
    async with store(tmp_path / "a.db", clock=hands) as (writer, reader):
        left_out = {one.time for one in late}
        await feed(writer, hands, [one for one in polls if one.time not in left_out])
        await writer.settle()
        for some in (late, again):
            await feed(writer, hands, some)
            hands.now = START + 29 * HOUR
            await writer.settle()
        found = await answers(reader, START, START + 31 * HOUR)
    async with store(tmp_path / "b.db", clock=Hands(START)) as (writer, reader):
        await feed(writer, Hands(START), polls)
        alike(found, await answers(reader, START, START + 31 * HOUR))


async def test_a_slow_device_is_sealed_by_the_day_and_carried_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    polls = history(4, START, 50, every=300_000)
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        for start in range(0, len(polls), 30):
            await feed(writer, hands, polls[start : start + 30])
            await writer.settle()
            (found,) = await reader.range(["main"], ["device.up"], 0, START * 2, 0, "avg")
            assert [t for t, _ in found.points] == [one.time for one in polls[: start + 30]]
        assert [n for (n,) in rows(path, "SELECT n FROM block ORDER BY id")] == [288, 288]
        assert rows(path, "SELECT count(*) <= 4 FROM journal") == [(1,)]


async def test_quarters_of_a_counter_add_up_over_journal_blocks_and_days(tmp_path: Path) -> None:
    polls = history(5, START, 60)
    energies = [one.value("active_energy.import") for one in polls]
    known = [value for value in energies if value is not None]
    hands = Hands(START)
    name = ("main", "active_energy.import", "Wh")
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, polls)
        before = reader.quarters(name, START, START + 60 * HOUR)
        assert sum(one.increase or 0 for one in before.values()) == round(
            (known[-1] - known[0]) * 1000
        )
        await writer.settle()
        after = reader.quarters(name, START, START + 60 * HOUR)
        assert {n: q.increase for n, q in after.items()} == {
            n: q.increase for n, q in before.items()
        }


async def test_a_hole_over_days_is_filled_when_the_counter_returns(tmp_path: Path) -> None:
    day = history(6, START, 20)
    later = [
        Poll(one.device, one.time, one.layout, one.values, one.doubts)
        for one in history(16, START + 4 * DAY, 30, energy=90_000.0)
    ]
    hands = Hands(START)
    name = ("main", "active_energy.import", "Wh")
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, day)
        hands.now = START + 3 * DAY
        await writer.settle()
        await feed(writer, hands, later)
        await writer.settle()
        found = reader.quarters(name, START, START + 6 * DAY)
        rise = later_value(later) - first_value(day)
        assert sum(one.increase or 0 for one in found.values()) == round(rise * 1000)
        assert any(one.estimated for one in found.values())


def first_value(polls: list[Poll]) -> float:
    return next(v for one in polls if (v := one.value("active_energy.import")) is not None)


def later_value(polls: list[Poll]) -> float:
    return first_value(polls[::-1])


async def test_raw_samples_go_by_the_day_and_roll_ups_stay(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(7, START, 100))
        await writer.settle()
        before = await answers(reader, START, START + 4 * DAY)
    hands.elapsed += 100 * 3600
    async with store(path, clock=hands, keep=86_400.0) as (writer, reader):
        await writer.settle()
        assert rows(path, "SELECT min(t0) FROM block") == [(START + 3 * DAY,)]
        after = await answers(reader, START, START + 4 * DAY)
        for agg in ("avg", "min", "max", "sum", "count"):
            for step in (900_000, HOUR, DAY):
                key = "voltage.l1", step, agg
                assert after[key] == before[key]
        assert after["voltage.l1", DAY, "last"] == before["voltage.l1", DAY, "last"]


async def test_a_clock_that_leaps_deletes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands, keep=86_400.0) as (writer, _):
        await feed(writer, hands, history(8, START, 40))
        hands.elapsed += 40 * 3600
        await writer.settle()
        hands.now += 365 * DAY
        await writer.settle()
        assert rows(path, "SELECT count(*) FROM block") != [(0,)]


async def test_a_clock_that_is_ahead_at_the_start_deletes_nothing_until_it_is_believed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands, keep=86_400.0) as (writer, _):
        await feed(writer, hands, history(8, START, 40))
        await writer.settle()
    hands.now += 365 * DAY
    async with store(path, clock=hands, keep=86_400.0) as (writer, _):
        await writer.settle()
        hands.elapsed += 3599
        await writer.settle()
        # A block a day.
        assert rows(path, "SELECT count(*) FROM block") == [(2,)]
        hands.elapsed += 1
        await writer.settle()
        assert rows(path, "SELECT count(*) FROM block") == [(0,)]


async def test_plain_rows_are_there_for_people(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(9, START, 30))
        await writer.settle()
        (hourly,) = await reader.range(
            ["main"], ["active_power"], START, START + 28 * HOUR, HOUR, "max"
        )
        number = "SELECT id FROM series WHERE quantity = 'active_power'"
        found = rows(
            path,
            "SELECT (id >> 32) * 3600000, max FROM hour "
            f"WHERE (id & 4294967295) = ({number}) ORDER BY 1",
        )
        assert found[:28] == [tuple(point) for point in hourly.points]


async def test_a_late_poll_does_not_hide_the_newest_one(tmp_path: Path) -> None:
    """It came last, and after a restart the series would have ended before."""
    path = tmp_path / "meterd.db"
    hands = Hands(START + 3 * DAY)
    async with store(path, clock=hands) as (writer, _):
        writer.take(poll(START, 230.0))
        await writer.settle()
        for times in ((START + 3 * HOUR, START + 5 * HOUR), (START + 2 * HOUR,)):
            for time in times:
                writer.take(poll(time, 230.0))
            await writer.flush()
    async with store(path, clock=hands) as (writer, _):
        await writer.settle()
    assert rows(path, "SELECT time FROM newest") == [(START + 5 * HOUR,)]
    async with store(path, clock=hands) as (_, reader):
        assert [(one.first, one.last) for one in await reader.series()] == [
            (START, START + 5 * HOUR)
        ]


async def test_hours_are_rows_only_where_that_is_wanted(tmp_path: Path) -> None:
    path, hands = tmp_path / "meterd.db", Hands(START)
    days = f"SELECT DISTINCT (id >> 32) / 24 - {START // DAY} FROM hour ORDER BY 1"
    async with store(path, clock=hands, hours=False) as (writer, reader):
        await feed(writer, hands, history(1, START, 30))
        hands.now = START + 3 * DAY
        await writer.settle()
        assert rows(path, days) == []
        assert rows(path, "SELECT count(*) FROM rollup WHERE n > 0") == [(8,)]
        (found,) = await reader.range(["main"], ["voltage.l1"], START, START + DAY, HOUR, "count")
        assert len(found.points) == 24
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, history(2, START + 3 * DAY, 2))
        hands.now = START + 6 * DAY
        await writer.settle()
        # Between the two the counter rose.
        assert rows(path, days) == [(1,), (2,), (3,)]
    # What is kept no more is not left to be wrong.
    async with store(path, clock=hands, hours=False) as (writer, _):
        writer.take(poll(START + 3 * DAY + 5, 999.0))
        await writer.settle()
        hands.now += DAY
        await writer.settle()
        assert (3,) not in rows(path, days)


def test_hours_are_rows_on_servers_unless_told_otherwise() -> None:
    server = "postgresql://u:p@db/meterd"
    assert not StoreSettings().plain_hours
    assert StoreSettings(hours=True).plain_hours
    assert StoreSettings(url=server).plain_hours
    assert StoreSettings(url=(server, server.replace("db", "other"))).plain_hours
    assert not StoreSettings(url=server, hours=False).plain_hours
