"""A counter's days: holes of any length, files in any order, frozen counters, unread ends."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from meterd.model.sample import Layout, Poll
from meterd.store.blocks.rollup import QuarterRollup
from meterd.store.reader import Reader

from .rigs import Hands, rows, store

MINUTE = 60_000
QUARTER, HOUR, DAY = 15 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE
START = 20_000 * DAY
NAME = ("main", "active_energy.import", "Wh")
COUNTER = Layout.of([NAME[1:]])
BOTH = Layout.of([NAME[1:], ("active_power", "W")])
POWER = Layout.of([("active_power", "W")])
DAILY = "SELECT sum(increase) FROM v_daily WHERE quantity = 'active_energy.import'"
HOURLY = "SELECT sum(increase) FROM v_hourly WHERE quantity = 'active_energy.import'"


def reads(times: Iterable[int], watts: float = 1000.0) -> list[Poll]:
    """A steady load since START."""
    return [Poll("main", t, COUNTER, (5000.0 + (t - START) * watts / HOUR,), {}) for t in times]


async def written(path: Path, *files: list[Poll], now: int | None = None, **options: object) -> int:
    """Each by a process of its own, as imports are; the newest time."""
    newest = max(poll.time for polls in files for poll in polls)
    for polls in files:
        hands = Hands(now or newest + 3 * DAY)
        async with store(path, clock=hands, **options) as (writer, _):
            for poll in polls:
                writer.take(poll)
            await writer.flush()
            await writer.settle()
    return newest


def told(path: Path, start: int, end: int) -> dict[int, QuarterRollup]:
    reader = Reader.outside(f"sqlite:///{path}")
    try:
        return reader.quarters(NAME, start, end)
    finally:
        reader.close()


def energy(found: dict[int, QuarterRollup], start: int, end: int) -> float:
    """In Wh, of the quarter hours from `start` to before `end`."""
    some = (one for number, one in found.items() if start <= number * QUARTER < end)
    return sum(one.increase or 0 for one in some) / 1000


@pytest.mark.parametrize("days", [2, 41, 58, 130])
@pytest.mark.parametrize("split", [True, False])
async def test_a_hole_books_its_whole_energy_however_long(
    tmp_path: Path, days: int, *, split: bool
) -> None:
    path, back = tmp_path / "m.db", START + days * DAY
    first = reads(range(START, START + DAY, HOUR))
    later = reads(range(back, back + DAY + 1, HOUR))
    await written(path, first, later) if split else await written(path, [*first, *later])
    found = told(path, START, back + DAY)
    assert energy(found, START, back + DAY) == (days + 1) * 24_000
    for day in (1, days // 2, days - 1):
        assert energy(found, START + day * DAY, START + (day + 1) * DAY) == 24_000
    hole = [one for number, one in found.items() if START + DAY <= number * QUARTER < back]
    assert len(hole) == (days - 1) * 96
    assert all(one.estimated and one.covered == QUARTER for one in hole)
    assert not found[START // QUARTER].estimated
    # The same for who asks by SQL.
    assert rows(path, DAILY) == rows(path, HOURLY) == [((days + 1) * 24_000.0,)]


async def test_quarterly_and_yearly_readings_tell_all_of_the_energy(tmp_path: Path) -> None:
    for every, count in ((91 * DAY, 3), (365 * DAY, 2)):
        path = tmp_path / f"{every}.db"
        end = await written(
            path, *([one] for one in reads(START + every * n for n in range(count)))
        )
        found = told(path, START, end)
        assert energy(found, START, end) == (count - 1) * every // HOUR * 1000
        assert all(one.estimated for one in found.values())


async def test_a_hole_before_days_whose_samples_are_deleted_is_booked_too(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    await written(path, reads(range(START, START + DAY, HOUR)), now=START + 3 * DAY)
    hands = Hands(START + 30 * DAY)
    async with store(path, clock=hands, keep=86_400.0) as (writer, _):
        await writer.settle()
        # A clock that is ahead is believed after an hour.
        hands.now, hands.elapsed = hands.now + 2 * HOUR, hands.elapsed + 7200
        await writer.settle()
    assert rows(path, "SELECT count(*) FROM block") == [(0,)]
    back = START + 60 * DAY
    await written(path, reads(range(back, back + DAY + 1, HOUR)))
    assert energy(told(path, START, back + DAY), START, back + DAY) == 61 * 24_000


@pytest.mark.parametrize("beginnings", [1, 3])
async def test_a_register_that_begins_anew_each_midnight_keeps_its_energy_without_its_samples(
    tmp_path: Path, beginnings: int
) -> None:
    """Once a day or more often, as a charging station does: its last value is its highest."""
    path, days = tmp_path / "m.db", 6
    lasts = 24 // beginnings  # hours

    def register(day: int, hour: int) -> float:
        return hour % lasts * (100.0 + 50 * day + 10 * (hour // lasts))

    polls = [
        Poll("main", START + day * DAY + hour * HOUR, COUNTER, (register(day, hour),), {})
        for day in range(days)
        for hour in range(24)
    ]
    end = START + days * DAY
    await written(path, polls)
    ends = range(lasts - 1, 24, lasts)
    expected = [sum(register(day, hour) for hour in ends) for day in range(days)]

    def by_day() -> list[float]:
        found = told(path, START, end)
        return [energy(found, START + day * DAY, START + (day + 1) * DAY) for day in range(days)]

    assert by_day() == expected
    hands = Hands(end + 30 * DAY)
    async with store(path, clock=hands, keep=86_400.0) as (writer, _):
        await writer.settle()
        # A clock that is ahead is believed after an hour.
        hands.now, hands.elapsed = hands.now + 2 * HOUR, hands.elapsed + 7200
        await writer.settle()
    assert rows(path, "SELECT count(*) FROM block") == [(0,)]
    assert by_day() == expected


async def test_files_in_any_order_come_to_the_same(tmp_path: Path) -> None:
    days = [
        reads(range(START + n * DAY + 7 * MINUTE, START + (n + 1) * DAY, QUARTER)) for n in range(6)
    ]
    del days[3]  # nobody has that file
    answers = []
    for place in range(4):
        path, mixed = tmp_path / f"{place}.db", days.copy()
        random.Random(place).shuffle(mixed)
        await written(path, *(mixed if place else days))
        sums = (rows(path, DAILY)[0][0], rows(path, HOURLY)[0][0])
        answers.append((told(path, START, START + 7 * DAY), sums))
    plain = [[(n, q.increase, q.covered) for n, q in found.items()] for found, _ in answers]
    assert plain == plain[:1] * 4
    chunk = (6 * DAY - QUARTER) / HOUR * 1000
    assert energy(answers[0][0], START, START + 7 * DAY) == pytest.approx(chunk)
    assert [sums for _, sums in answers] == [pytest.approx((chunk, chunk))] * 4


async def test_a_counter_may_pause_while_its_device_is_polled(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.db"
    watched = [Poll("main", t, POWER, (1000.0,), {}) for t in range(START, START + 9 * DAY, HOUR)]
    counted = {p.time: p for p in reads(range(START, START + 9 * DAY, HOUR))}
    gone = range(START + 2 * DAY + HOUR, START + 6 * DAY)
    polls = [
        one
        if one.time in gone
        else Poll("main", one.time, BOTH, (*counted[one.time].values, 1000.0), {})
        for one in watched
    ]
    for start in range(9):
        day = range(START + start * DAY, START + (start + 1) * DAY)
        await written(
            path, [one for one in polls if one.time in day], now=START + (start + 2) * DAY
        )
    found = told(path, START, START + 9 * DAY)
    assert energy(found, START, START + 9 * DAY) == 9 * 24_000 - 1000
    assert energy(found, START + 4 * DAY, START + 5 * DAY) == 24_000
    assert found[(START + 4 * DAY) // QUARTER].estimated
    assert rows(path, DAILY) == [(9 * 24_000 - 1000.0,)]


async def test_a_counter_is_known_between_its_first_and_last_reading(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.db"
    first, last = START + 7 * MINUTE, START + DAY - QUARTER + 5 * MINUTE
    await written(path, reads([*range(first, last, 5 * MINUTE), last]))
    found = told(path, START - DAY, START + 2 * DAY)
    assert min(found) == START // QUARTER
    assert max(found) == START // QUARTER + 95
    assert found[min(found)].covered == 8 * MINUTE
    assert found[max(found)].covered == 5 * MINUTE
    assert {one.covered for one in [*found.values()][1:-1]} == {QUARTER}


async def test_before_it_is_committed_a_counter_counts_as_well(tmp_path: Path) -> None:
    async with store(tmp_path / "m.db", clock=Hands(START)) as (writer, reader):
        for poll in reads(range(START, START + HOUR + 1, MINUTE)):
            writer.take(poll)
        assert energy(reader.quarters(NAME, START, START + HOUR), START, START + HOUR) == 1000


def frozen(every: int, start: int, end: int, load: float = 1000.0) -> list[tuple[int, float]]:
    """Two days of a counter that shows nothing new from `start` to before `end`."""
    found, shown = [], 0.0
    for time in range(START, START + 2 * DAY + 1, every):
        if not start <= time < end:
            shown = round((time - START) * load / HOUR, 1)
        found.append((time, 5000 + shown))
    return found


@pytest.mark.parametrize("every", [10_000, MINUTE, 5 * MINUTE, QUARTER])
async def test_a_counter_that_was_frozen_is_spread_over_that_time(
    tmp_path: Path, every: int
) -> None:
    path = tmp_path / "m.db"
    start, end = START + 34 * HOUR, START + 35 * HOUR
    polls = [Poll("main", time, COUNTER, (value,), {}) for time, value in frozen(every, start, end)]
    async with store(path, clock=Hands(START + 4 * DAY)) as (writer, reader):
        for poll in polls:
            writer.take(poll)
        found = [reader.quarters(NAME, START, START + 2 * DAY)]
        await writer.flush()
        await writer.settle()
        found.append(reader.quarters(NAME, START, START + 2 * DAY))
    for one in found:
        assert energy(one, START, START + 2 * DAY) == 48_000
        for hour in range(32, 38):
            at = START + hour * HOUR
            assert energy(one, at, at + HOUR) == pytest.approx(1000, abs=1)
        guessed = {number * QUARTER for number, q in one.items() if q.estimated}
        assert set(range(start, end, QUARTER)) <= guessed
        assert guessed <= {*range(start - QUARTER, end + QUARTER, QUARTER)}
    assert rows(path, DAILY) == [(48_000.0,)]


@pytest.mark.parametrize("minutes", [20, 30, 50])
async def test_a_counter_that_was_frozen_over_midnight_is_spread_over_both_days(
    tmp_path: Path, minutes: int
) -> None:
    start = START + DAY - minutes * MINUTE
    values = frozen(MINUTE, start, start + HOUR + 15 * MINUTE)
    await written(tmp_path / "m.db", [Poll("main", t, COUNTER, (v,), {}) for t, v in values])
    found = told(tmp_path / "m.db", START, START + 2 * DAY)
    assert energy(found, START, START + 2 * DAY) == 48_000
    for hour in range(20, 28):
        at = START + hour * HOUR
        assert energy(found, at, at + HOUR) == pytest.approx(1000, abs=200), hour
    assert found[(START + DAY) // QUARTER - 1].estimated
    assert found[(START + DAY) // QUARTER].estimated
    # Each window tells the same of it.
    for at in (START, START + DAY):
        part = told(tmp_path / "m.db", at, at + DAY)
        assert {n: q.increase for n, q in part.items()} == {
            n: q.increase for n, q in found.items() if at <= n * QUARTER < at + DAY
        }


@pytest.mark.parametrize("watts", [1000.0, 0.0, None])
async def test_power_tells_whether_a_counter_was_frozen(
    tmp_path: Path, watts: float | None
) -> None:
    start, end = START + 34 * HOUR, START + 35 * HOUR
    layout = COUNTER if watts is None else BOTH
    polls = []
    for time, value in frozen(MINUTE, start, end):
        power = () if watts is None else (watts if start <= time < end else 1000.0,)
        polls.append(Poll("main", time, layout, (value, *power), {}))
    await written(tmp_path / "m.db", polls)
    found = told(tmp_path / "m.db", START, START + 2 * DAY)
    # No power for an hour, and then a jump: so it was, whatever the reason.
    half = energy(found, start, start + HOUR // 2)
    assert half == (0 if watts == 0.0 else pytest.approx(500, abs=20))
    assert found[start // QUARTER].estimated == (watts != 0.0)
    assert energy(found, START, START + 2 * DAY) == 48_000


async def test_a_counter_that_nothing_passed_was_not_frozen(tmp_path: Path) -> None:
    """A pump for an hour a day; a kettle after a quiet hour; a counter of whole kWh."""
    loads: dict[str, Callable[[int], float]] = {
        "pump": lambda t: 2000.0 if 8 * HOUR <= t % DAY < 9 * HOUR else 0.0,
        "kettle": lambda t: 0.0 if 6 * HOUR <= t % DAY < 8 * HOUR else 900.0,
        "coarse": lambda _: 700.0,
    }
    for name, load in loads.items():
        total, polls = 0.0, []
        for time in range(START, START + 2 * DAY, MINUTE):
            shown = total // 1000 * 1000 if name == "coarse" else round(total, 1)
            polls.append(Poll("main", time, COUNTER, (5000 + shown,), {}))
            total += load(time) / 60
        await written(tmp_path / f"{name}.db", polls)
        found = told(tmp_path / f"{name}.db", START, START + 2 * DAY)
        assert not any(one.estimated for one in found.values()), name
