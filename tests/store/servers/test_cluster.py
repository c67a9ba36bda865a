"""Two meterds on one store: each device has one of them, and nothing is lost or there twice."""

import asyncio
import logging
import random
from pathlib import Path

import pytest
from sqlalchemy import text

from meterd.errors import StoreError
from meterd.model.sample import Layout
from meterd.store.cluster.leases import Leases
from meterd.store.db import store_url
from meterd.store.engine import store_thread as workers
from meterd.store.writer import Writer
from tests.store.rigs import METER, NEVER, Hands, opened, poll

from .engines import Engine, database_of
from .rig import PERIOD, meterd
from .test_conformance import HOUR, START, stored


def expire(server: Engine, tmp_path: Path) -> None:
    """As if their meterd had been silent for long."""
    server.ask("UPDATE lease SET until = 1 WHERE device_id < 16384", database_of(tmp_path))


def ask(urls: list[str], question: str) -> list[tuple[object, ...]]:
    with store_url.find(urls).reading() as connection:
        return [tuple(row) for row in connection.execute(text(question))]


def need(urls: list[str], device: str, times: range | list[int]) -> None:
    found = stored(urls[0])
    for quantity, unit, factor in (
        ("voltage.l1", "V", 1.0),
        ("active_power", "W", -1.0),
        ("active_energy.import", "Wh", 10.0),
    ):
        assert found[device, quantity, unit] == [(time, time * factor) for time in times]


async def test_a_device_is_leased_to_one_meterd_at_a_time(urls: list[str]) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        assert await a.beat("x") == {"x"}
        assert await b.beat("x", "y") == {"y"}
        for _ in range(3):
            assert await a.beat("x", "y") == {"x"}
            assert await b.beat("x", "y") == {"y"}
    async with meterd(urls, "c") as c:
        # Both gave theirs back when they ended.
        assert await c.beat("x", "y") == {"x", "y"}


async def test_many_that_start_at_once_never_share_a_device(urls: list[str]) -> None:
    names = [f"d{number}" for number in range(12)]
    fleet = [Leases(urls, name=f"m{number}", period=PERIOD) for number in range(4)]
    said = random.Random(5)

    async def start(leases: Leases) -> None:
        for _ in range(4):
            await asyncio.sleep(said.uniform(0, 0.02))
            await leases.beat(said.sample(names, len(names)))
            await leases.hand_over()

    await asyncio.gather(*map(start, fleet))
    # Whoever was first had too many; twice round, and all that it gave back is taken.
    for leases in fleet * 2:
        await leases.beat(names)
        await leases.hand_over()
    held = [name for leases in fleet for name in leases.held]
    assert sorted(held) == sorted(names)
    assert [len(leases.held) for leases in fleet] == [3, 3, 3, 3]
    rows = ask(urls, "SELECT id, name FROM device")
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(names)
    for leases in fleet:
        await leases.close()


async def test_several_writers_share_journal_series_and_blocks(urls: list[str]) -> None:
    hands = Hands(START)
    hour = range(START, START + HOUR, 10_000)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x")
        await b.beat("y")
        for start in range(0, len(hour), 40):
            some = hour[start : start + 40]
            await asyncio.gather(a.tell("x", some), b.tell("y", some))
        before = ask(urls, "SELECT count(*) FROM journal")
        hands.now = START + 30 * HOUR
        await a.writer.settle()
        assert {row[0] for row in ask(urls, "SELECT DISTINCT device_id FROM block")} == {1}
        assert ask(urls, "SELECT count(*) FROM journal") < before
        need(urls, "y", hour)
        await b.writer.settle()
        assert ask(urls, "SELECT count(*) FROM journal") == [(0,)]
    need(urls, "x", hour)
    need(urls, "y", hour)
    series = ask(urls, "SELECT id, device_id FROM series")
    assert len({row[0] for row in series}) == 6
    assert all(int(str(one)) >> 16 == owner for one, owner in series)


async def test_polls_with_other_columns_in_turns_are_one_journal_row(urls: list[str]) -> None:
    few = Layout.of([("voltage.l1", "V")])
    async with meterd(urls, "a") as a:
        await a.beat("x")
        for time in range(100):
            if time % 5:
                a.writer.take(poll(time, float(time), device="x", layout=few))
            else:
                a.take("x", range(time, time + 1))
        await a.writer.flush()
        assert ask(urls, "SELECT count(*) FROM journal") == [(1,)]
    found = stored(urls[0])
    assert len(found["x", "voltage.l1", "V"]) == 100
    assert len(found["x", "active_power", "W"]) == 20


async def test_another_meterd_adopts_what_was_not_sealed(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands = Hands(START)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x", "y")
        await a.tell("x", range(START, START + 5000, 100))
        await a.tell("y", range(START, START + 5000, 100))
        a.writer.remember("counters x", "7")
        await a.writer.flush()
        expire(server, tmp_path)
        assert await b.beat("x") == {"x"}
        assert b.writer.recall("counters x") == "7"
        await b.tell("x", range(START + 5000, START + 6000, 100))
        await a.tell("y", range(START + 5000, START + 6000, 100))
        hands.now = START + 30 * HOUR
        await b.writer.settle()
        assert {row[0] for row in ask(urls, "SELECT DISTINCT device_id FROM block")} == {1}
        await a.writer.settle()
    for device in ("x", "y"):
        need(urls, device, range(START, START + 6000, 100))


async def test_a_stale_token_writes_nothing_of_that_device(
    server: Engine, urls: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.beat("x", "y")
        await a.tell("x", range(100))
        expire(server, tmp_path)
        await b.beat("x")
        await b.tell("x", range(100, 200))
        # It does not know yet: no beat came. What it polled meanwhile is refused, the rest not.
        for time in range(50, 150):
            a.writer.take(poll(time, 0.0, 0.0, 0.0, device="x", layout=METER))
        await a.tell("y", range(10))
        assert a.leases.held == {"y"}
        assert "300 samples of x are dropped" in caplog.text
        assert await a.beat("x", "y") == {"y"}
    need(urls, "x", range(200))
    need(urls, "y", range(10))


async def test_sealing_with_a_stale_token_changes_nothing(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands = Hands(START)
    hour = range(START, START + HOUR, 10_000)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x")
        await a.tell("x", hour)
        expire(server, tmp_path)
        await b.beat("x")
        hands.now = START + 30 * HOUR
        await a.writer.settle()
        assert ask(urls, "SELECT count(*) FROM block") == [(0,)]
        await b.writer.settle()
        assert ask(urls, "SELECT count(*) FROM block") == [(1,)]
    need(urls, "x", hour)


async def test_a_device_that_comes_back_is_adopted_anew(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        for turn in range(6):
            one, other = (a, b) if turn % 2 == 0 else (b, a)
            expire(server, tmp_path)
            assert await one.beat("x") == {"x"}
            await one.tell("x", range(turn * 100, turn * 100 + 100))
            assert await other.beat("x") == frozenset()
    need(urls, "x", range(600))
    assert ask(urls, "SELECT token FROM lease WHERE device_id = 1") == [(6,)]


async def test_what_a_lone_meterd_left_is_taken_over(urls: list[str]) -> None:
    async with opened(Writer(urls, commit=NEVER)) as lone:
        for device in ("x", "y"):
            for time in range(100):
                values = (float(time), -float(time), time * 10.0)
                lone.take(poll(time, *values, device=device, layout=METER))
                if time == 50:
                    await lone.flush()
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.beat("x")
        await b.beat("y")
        await asyncio.gather(a.tell("x", range(100, 200)), b.tell("y", range(100, 200)))
        assert ask(urls, "SELECT count(*) FROM journal WHERE device_id IS NULL") == [(0,)]
    # And back again.
    async with opened(Writer(urls, commit=NEVER)) as lone:
        for time in range(200, 300):
            lone.take(poll(time, float(time), -float(time), time * 10.0, device="x", layout=METER))
    need(urls, "x", range(300))
    need(urls, "y", range(200))


async def test_leases_are_kept_while_the_server_is_away_or_not_as_one_likes(
    server: Engine, urls: list[str]
) -> None:
    if len(server.servers) > 1:
        pytest.skip("another node answers")
    hands = Hands()
    going, pausing = (
        Leases(urls, period=PERIOD, alone=word, clock=hands) for word in ("poll", "pause")
    )
    await going.beat(["x"])
    await pausing.beat(["y"])
    server.servers[0].kill()
    try:
        for leases in (going, pausing):
            await leases.beat(["x", "y"])
            assert len(leases.held) == 1
        hands.elapsed += 2 * PERIOD + 1
        assert going.held == {"x"}
        assert pausing.held == frozenset()
    finally:
        server.servers[0].start()
        server.await_up()
    # Nobody took it meanwhile, so it is still the same lease.
    await pausing.beat(["y"])
    assert pausing.held == {"y"}
    for leases in (going, pausing):
        await leases.close()
    assert ask(urls, "SELECT max(token) FROM lease WHERE device_id < 16384") == [(1,)]


@pytest.mark.parametrize("times", [1, pytest.param(8, marks=pytest.mark.long)])
async def test_turns_under_load_lose_nothing_that_was_confirmed_and_double_nothing(
    server: Engine, urls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Both commit all the time while leases go to and fro; each holder tells its own times."""
    monkeypatch.setattr(workers, "_RETRY", 0.1)
    names = ["x", "y", "z"]
    confirmed: dict[str, set[int]] = {name: set() for name in names}
    taken: dict[str, set[int]] = {name: set() for name in names}
    said, clock = random.Random(6), iter(range(1, 1 << 40))
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        for _ in range(times * 40):
            one = said.choice((a, b))
            if said.random() < 0.2:
                expire(server, tmp_path)
            await one.beat(*said.sample(names, 2))
            for name in one.leases.held:
                time = next(clock)
                taken[name].add(time)
                values = (float(time), -float(time), time * 10.0)
                one.writer.take(poll(time, *values, device=name, layout=METER))
            before = one.leases.held
            await one.writer.flush()
            # What was still ours after the commit is there for sure.
            for name in before & one.leases.held:
                confirmed[name] |= {max(taken[name])}
    found = stored(urls[0])
    for name in names:
        points = found[name, "voltage.l1", "V"]
        times_found = [time for time, _ in points]
        assert len(set(times_found)) == len(times_found)
        assert confirmed[name] <= set(times_found) <= taken[name]
        assert all(time == value for time, value in points)


async def test_a_lone_meterd_keeps_away_from_a_cluster(urls: list[str]) -> None:
    async with meterd(urls, "a") as a:
        await a.beat("x")
        with pytest.raises(StoreError, match="meterd a and its cluster write") as refused:
            await Writer(urls).open()
        assert refused.value.code == "already_running"
    async with opened(Writer(urls, commit=NEVER)):
        pass


def test_a_file_is_no_store_for_a_cluster() -> None:
    with pytest.raises(StoreError, match="needs a store on a server"):
        Leases("sqlite:///meterd.db")


async def test_what_was_sealed_before_anybody_looked_is_seen(urls: list[str]) -> None:
    """As an import is: its series were in no journal that another meterd has read."""
    hands = Hands(START + 30 * HOUR)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x")
        await b.beat("y")
        later, earlier = range(START, START + HOUR, 60_000), range(START - 99 * HOUR, START, HOUR)
        for times in (later, earlier, range(START + HOUR, START + 9 * HOUR, HOUR)):
            a.take("x", times)
            await a.writer.settle()
            assert ask(urls, "SELECT count(*) FROM journal") == [(0,)]
            await b.beat("y")
            seen = await b.sees("x")
            assert seen == await a.sees("x")
            assert seen[0] <= times[0]
            assert seen[-1] >= times[-1]
            told = [(one.quantity, one.first, one.last) for one in await b.reader.series()]
            assert told == [(one.quantity, one.first, one.last) for one in await a.reader.series()]
