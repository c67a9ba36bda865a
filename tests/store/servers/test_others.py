"""Readers of one meterd see what the other ones committed: at once, sealed, and after a move."""

from pathlib import Path

from tests.store.rigs import Hands

from .engines import Engine, database_of
from .rig import One, meterd
from .test_cluster import expire, need
from .test_conformance import HOUR, START


def series(one: One) -> set[str]:
    return {f"{info.device} {info.quantity}" for info in one.reader.names()}


async def test_what_another_meterd_committed_is_seen_after_a_beat(urls: list[str]) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await a.beat("x")
        await b.beat("y")
        await a.tell("x", range(1000, 1100))
        for start in range(2000, 2500, 100):
            await b.tell("y", range(start, start + 100))
            await a.beat("x")
            assert await a.sees("y") == list(range(2000, start + 100))
        assert series(a) >= {"y voltage.l1", "y active_power", "x voltage.l1"}
        assert await a.sees("x") == list(range(1000, 1100))
        await b.beat("y")
        assert await b.sees("x") == list(range(1000, 1100))
        # The writer's own polls are the writer's own: nothing of others is sealed or written.
        assert a.writer.status.queued == 0
        found = await a.reader.range(["x", "y"], None, 0, 1 << 50, 0, "avg")
        assert {(one.device, one.quantity) for one in found} == {
            (device, quantity)
            for device in "xy"
            for quantity in ("voltage.l1", "active_power", "active_energy.import")
        }


async def test_what_another_meterd_seals_is_never_missing_nor_twice(urls: list[str]) -> None:
    hands = Hands(START)
    hour = range(START, START + HOUR, 10_000)
    more = range(START + HOUR, START + HOUR + 50_000, 10_000)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x")
        await b.beat("y")
        await b.tell("y", hour)
        await a.beat("x")
        assert await a.sees("y") == list(hour)
        hands.now = START + 30 * HOUR
        await b.writer.settle()
        # Before our next beat the same polls are in memory and in blocks, and come out once.
        assert await a.sees("y") == list(hour)
        await a.beat("x")
        assert await a.sees("y") == list(hour)
        assert a.reader.day("y", START // (24 * HOUR), {("y", "voltage.l1", "V")}) is not None
        await b.tell("y", more)
        await a.beat("x")
        assert await a.sees("y") == [*hour, *more]
    need(urls, "y", [*hour, *more])


async def test_late_polls_of_another_meterd_replace_what_stood_there(urls: list[str]) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await b.beat("y")
        await b.tell("y", range(2000, 2100))
        await a.beat("x")
        await b.tell("y", range(1000, 1100))
        await a.beat("x")
        assert await a.sees("y") == [*range(1000, 1100), *range(2000, 2100)]
        # It is not ours to say when the series began.
        await a.tell("x", range(10))
        await a.writer.settle()
        assert a.leases.held == {"x"}


async def test_a_device_that_moves_is_seen_all_the_time(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        for turn in range(4):
            one, other = (a, b) if turn % 2 == 0 else (b, a)
            expire(server, tmp_path)
            await one.beat("x")
            # Adopted, but the writer has not looked yet.
            assert await one.sees("x") == list(range(turn * 100))
            await other.beat("x")
            assert await other.sees("x") == list(range(turn * 100))
            await one.tell("x", range(turn * 100, turn * 100 + 100))
            for _ in range(3):
                for each in (other, one):
                    await each.beat("x")
                    assert await each.sees("x") == list(range(turn * 100 + 100))


async def test_a_damaged_row_of_another_meterd_hides_no_other_one(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    async with meterd(urls, "a") as a, meterd(urls, "b") as b:
        await b.beat("y")
        await b.tell("y", range(100))
        server.ask("UPDATE journal SET body = 'x'", database_of(tmp_path))
        await b.tell("y", range(100, 200))
        await a.beat("x")
        assert await a.sees("y") == list(range(100, 200))
