"""What goes beside commits and blocks: nothing is deleted for a device that is another's."""

from pathlib import Path

from tests.store.rigs import Hands

from .engines import Engine, database_of
from .rig import meterd
from .test_cluster import ask, expire, need
from .test_conformance import HOUR, START

DAY = 24 * HOUR
KEEP = 10 * DAY / 1000


def blocks(urls: list[str]) -> dict[object, object]:
    rows = ask(urls, "SELECT device_id, count(*) FROM block GROUP BY device_id")
    return {row[0]: row[1] for row in rows}


async def test_raw_samples_are_deleted_by_who_has_the_device(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands, later = Hands(START), Hands(START)
    hour = range(START, START + HOUR, 10_000)
    async with (
        meterd(urls, "a", later, keep=KEEP) as a,
        meterd(urls, "b", hands, keep=KEEP) as b,
    ):
        await a.beat("x")
        await b.beat("y")
        await a.tell("x", hour)
        await b.tell("y", hour)
        hands.now = later.now = START + 3 * DAY
        for one in (a, b):
            await one.writer.settle()
        assert blocks(urls) == {1: 1, 2: 1}
        # It does not know yet that the device is another's, and its clock is far ahead.
        expire(server, tmp_path)
        await b.beat("x", "y")
        later.now = START + 40 * DAY
        later.elapsed += 37 * DAY / 1000
        await a.writer.settle()
        assert blocks(urls) == {1: 1, 2: 1}
        assert a.leases.held == frozenset()
        await a.beat("z")
        later.elapsed += DAY / 1000
        later.now += DAY
        await a.writer.settle()
        assert blocks(urls) == {1: 1, 2: 1}
        hands.now = START + 40 * DAY
        hands.elapsed += 37 * DAY / 1000
        await b.writer.settle()
        assert blocks(urls) == {}


async def test_what_nobody_has_any_more_is_deleted_too(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands = Hands(START)
    hour = range(START, START + HOUR, 10_000)
    async with meterd(urls, "a", hands) as a:
        await a.beat("x", "y")
        await a.tell("x", hour)
        await a.tell("y", hour)
        hands.now = START + 3 * DAY
        await a.writer.settle()
    hands = Hands(START + 40 * DAY)
    async with meterd(urls, "b", hands, keep=KEEP) as b:
        await b.beat("y")
        await b.tell("y", range(hands.now, hands.now + 1000, 100))
        await b.writer.settle()
        assert 1 not in blocks(urls)


async def test_plain_rows_are_deleted_by_who_has_the_device(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands, later = Hands(START), Hands(START)
    async with (
        meterd(urls, "a", later, rows=KEEP) as a,
        meterd(urls, "b", hands, rows=KEEP) as b,
    ):
        await a.beat("x")
        await b.beat("y")
        await a.tell("x", range(START, START + 1000, 100))
        await b.tell("y", range(START, START + 1000, 100))
        assert ask(urls, "SELECT count(*) FROM sample") == [(60,)]
        later.now = START + 40 * DAY
        later.elapsed += 40 * DAY / 1000
        await a.writer.settle()
        assert ask(urls, "SELECT count(*) FROM sample") == [(30,)]
        expire(server, tmp_path)
        await a.beat("y")
        await b.writer.settle()
        assert ask(urls, "SELECT count(*) FROM sample") == [(30,)]


async def test_journal_rows_of_a_device_that_is_anothers_by_now_stay(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    """Sealing deletes old rows of every device: also of one that has nothing to be sealed."""
    hands = Hands(START)
    hour = range(START, START + HOUR, 10_000)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x", "y")
        a.take("x", hour)
        # The one poll of this hour; so few wait for more of them.
        a.take("y", range(START, START + 1))
        await a.writer.flush()
        server.ask("UPDATE lease SET until = 1 WHERE device_id = 2", database_of(tmp_path))
        await b.beat("y")
        hands.now = START + 2 * HOUR
        await a.writer.settle()
        left = {row[0] for row in ask(urls, "SELECT device_id FROM journal")}
        assert 2 in left
    need(urls, "x", hour)
    need(urls, "y", [START])
