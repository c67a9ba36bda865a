"""Meterds that are told the same devices share them evenly, and hand over without a loss."""

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from meterd.errors import StoreCode, StoreError
from tests.store.rigs import Hands

from .engines import Engine, database_of
from .rig import One, meterd
from .test_cluster import ask, expire, need
from .test_conformance import START

NAMES = ("u", "v", "w", "x")


async def test_a_meterd_that_comes_later_is_given_its_share(
    urls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        assert await a.turn(*NAMES) == set(NAMES)
        for name in NAMES:
            await a.tell(name, range(100))
            a.take(name, range(100, 150))  # and not committed yet
        a.writer.remember("counters u", "7")
        assert await b.turn(*NAMES) == frozenset()
        # Two are polled no more at once, but are still there for the writer to commit.
        assert await a.beat(*NAMES) == {"w", "x"}
        assert await b.turn(*NAMES) == frozenset()
        await a.leases.hand_over()
        assert await b.turn(*NAMES) == {"u", "v"}
        assert b.writer.recall("counters u") == "7"
        for name in NAMES:
            await (b if name in ("u", "v") else a).tell(name, range(150, 200))
        for _ in range(3):
            assert await a.turn(*NAMES) == {"w", "x"}
            assert await b.turn(*NAMES) == {"u", "v"}
    assert "dropped" not in caplog.text
    for name in NAMES:
        need(urls, name, range(200))


async def test_a_device_is_kept_until_its_polls_are_committed(urls: list[str]) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.turn("x", "y")
        await b.turn("x", "y")
        a.take("x", range(100))

        async def fail() -> None:
            raise StoreError("full", code=StoreCode.FULL)

        flush = a.leases.share.flush
        a.leases.share.flush = fail
        assert await a.turn("x", "y") == {"y"}
        assert await b.turn("x", "y") == frozenset()
        a.leases.share.flush = flush
        await a.turn("x", "y")
        assert await b.turn("x", "y") == {"x"}
    need(urls, "x", range(100))


async def test_who_dies_while_devices_move_leaves_none_behind(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    async with meterd(urls, "a") as a:
        async with meterd(urls, "b") as b:
            await a.turn(*NAMES)
            await b.turn(*NAMES)
            await a.turn(*NAMES)
            assert await b.turn(*NAMES) == {"u", "v"}
        # It ended, and gave its own back.
        assert await a.turn(*NAMES) == set(NAMES)
        async with meterd(urls, "c") as c:
            await c.turn(*NAMES)
            await a.turn(*NAMES)
            server.ask("UPDATE lease SET until = 1 WHERE holder LIKE 'c %'", database_of(tmp_path))
            assert await a.turn(*NAMES) == set(NAMES)
            assert len(c.leases.held) == 0
    assert ask(urls, "SELECT count(*) FROM lease WHERE until > 0 AND device_id < 16384") == [(0,)]


async def test_meterds_with_other_devices_leave_each_other_theirs(urls: list[str]) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        for _ in range(3):
            assert await a.turn(*NAMES) == set(NAMES)
            assert await b.turn(*NAMES, "y") == {"y"}


async def test_shares_stay_even_when_meterds_come_and_go(urls: list[str]) -> None:
    names = [f"d{number}" for number in range(7)]
    async with meterd(urls, "a") as a, meterd(urls, "b") as b, meterd(urls, "c") as c:
        for _ in range(4):
            for one in (a, b, c):
                await one.turn(*names)
        held = [one.leases.held for one in (a, b, c)]
        assert sorted(len(one) for one in held) == [2, 2, 3]
        assert sorted(name for one in held for name in one) == names
        await c.leases.close()
        for _ in range(3):
            for one in (a, b):
                await one.turn(*names)
        assert sorted(len(one.leases.held) for one in (a, b)) == [3, 4]


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.long)])
async def test_meterds_that_come_and_go_lose_and_double_nothing(
    urls: list[str], caplog: pytest.LogCaptureFixture, times: int
) -> None:
    """Every poll that was taken is there once: all of them ended as they should."""
    said, clock = random.Random(8), iter(range(1, 1 << 40))
    taken: dict[str, list[int]] = {name: [] for name in NAMES}
    async with AsyncExitStack() as stack:
        up: list[tuple[One, AsyncExitStack]] = []
        for _ in range(times * 25):
            if not up or (len(up) < 3 and said.random() < 0.25):
                own = await stack.enter_async_context(AsyncExitStack())
                up.append((await own.enter_async_context(meterd(urls, said.choice("abc"))), own))
            elif len(up) > 1 and said.random() < 0.15:
                await up.pop(said.randrange(len(up)))[1].aclose()
            one, _ = said.choice(up)
            await one.beat(*NAMES)
            for name in one.leases.held:
                time = next(clock)
                taken[name].append(time)
                one.take(name, range(time, time + 1))
            if said.random() < 0.7:
                await one.leases.hand_over()
            held = [name for each, _ in up for name in each.leases.held]
            assert len(held) == len(set(held))
    assert "dropped" not in caplog.text
    for name in NAMES:
        assert taken[name]
        need(urls, name, taken[name])


async def test_run_hands_over_by_itself(urls: list[str]) -> None:
    hands = Hands()
    told: list[frozenset[str]] = []
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.turn("x", "y")
        await b.turn("x", "y")
        a.leases._clock = hands

        async def changed(held: frozenset[str]) -> None:
            told.append(held)

        async def pause(_: float) -> None:
            await asyncio.sleep(0.01)

        hands.sleep = pause  # type: ignore[assignment, method-assign]
        running = asyncio.create_task(a.leases.run(lambda: ["x", "y"], changed))
        async with asyncio.timeout(60):
            while await b.turn("x", "y") != {"x"}:
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert told == [{"y"}]


async def test_a_store_that_was_restored_is_taken_by_those_that_had_it(
    server: Engine, urls: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    name = database_of(tmp_path)
    async with meterd(urls, "a") as a:
        await a.beat("x")
        for _ in range(3):
            expire(server, tmp_path)
            server.ask("UPDATE lease SET holder = 'z' WHERE device_id = 1", name)
            await a.beat("x")
        await a.tell("x", range(START, START + 100))
        a.take("x", range(START + 100, START + 200))
        # As an administrator restores a copy from before: leases are over, tokens are older.
        server.ask("UPDATE lease SET until = until - 90000, token = token - 1", name)
        server.ask("UPDATE lease SET holder = 'z' WHERE device_id = 1", name)
        with pytest.raises(StoreError, match="an older one than before"):
            await a.writer.flush()
        assert a.leases.held == {"x"}
        assert a.writer.status.queued == 300
        async with meterd(urls, "b") as b:
            assert await a.beat("x") == {"x"}
            assert await b.beat("x") == frozenset()
            await a.writer.flush()
            assert ask(urls, "SELECT token FROM lease WHERE device_id = 1") == [(5,)]
    need(urls, "x", range(START, START + 200))
