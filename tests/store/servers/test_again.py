"""In a cluster, too: corrections stay, and an older store gets again what is in memory."""

from pathlib import Path

import pytest

from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.tools.correct import Ask, Corrections
from tests.store.rigs import Hands

from .engines import Engine, database_of
from .rig import meterd
from .test_cluster import expire, need
from .test_conformance import HOUR, START, stored


async def test_marks_stay_when_another_meterd_takes_the_device(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands = Hands(START)
    # One row of the journal over hours, of which most are sealed.
    times = range(START, START + 3 * HOUR, 10_000)
    marked = range(START + HOUR, START + 2 * HOUR, 10_000)
    async with meterd(urls, "a", hands) as a, meterd(urls, "b", hands) as b:
        await a.beat("x", "y")
        await b.beat("z")
        await b.tell("z", times)
        await a.tell("x", times)
        await a.tell("y", times)
        hands.now = START + 2 * HOUR + HOUR // 2
        ask = Ask("x", "voltage.l1", marked[0], marked[-1] + 1, "clamp was off", "anna")
        made = await Corrections(a.writer, a.reader).mark(ask, hands.now)
        assert made.n == len(marked)
        expire(server, tmp_path)
        await b.beat("x", "y", "z")
        await b.writer.flush()
        left = [time for time in times if time not in marked]
        assert await b.sees("x") == left
        assert await b.sees("y") == list(times)
        hands.now = START + 30 * HOUR
        await b.writer.settle()
        assert await b.sees("x") == left
    need(urls, "y", times)
    need(urls, "z", times)


@pytest.mark.parametrize("is_told", [False, True], ids=["commit", "beat"])
async def test_an_older_store_gets_again_what_is_in_memory(
    server: Engine, urls: list[str], tmp_path: Path, is_told: bool
) -> None:
    name = database_of(tmp_path)
    hands = Hands(START)
    async with meterd(urls, "a", hands) as a:
        await a.beat("x", "y")
        await a.tell("x", range(START, START + 100))
        # The copy ends here: what comes now is not in it.
        before = server.ask("SELECT device_id, token, writes, until FROM lease", name)
        rows = {row[0] for row in server.ask("SELECT id FROM journal", name)}
        await a.tell("x", range(START + 100, START + 200))
        await a.tell("y", range(START, START + 100))
        for one, token, writes, until in before:
            values = f"token = {token}, writes = {writes}, until = {until}"
            server.ask(f"UPDATE lease SET {values} WHERE device_id = {one}", name)
        for one in {row[0] for row in server.ask("SELECT id FROM journal", name)} - rows:
            server.ask(f"DELETE FROM journal WHERE id = {one}", name)
        if is_told:
            await a.beat("x", "y")
        await a.tell("x", range(START + 200, START + 300))
        assert a.writer.status.writable
    need(urls, "x", range(START, START + 300))
    need(urls, "y", range(START, START + 100))
    assert len(stored(urls[0])) == 6


async def test_what_is_spooled_waits_for_the_leases_of_its_devices(
    server: Engine, urls: list[str], tmp_path: Path
) -> None:
    hands = Hands(START)
    plan = SpoolOptions(spool=tmp_path / "spool")
    x, y = range(START, START + 50), range(START, START + 30)
    async with meterd(urls, "a", hands, precautions=plan) as a:
        await a.beat("x", "y")
        a.take("x", x)
        a.take("y", y)
        # As while the server is away.
        assert a.writer._spool_policy.spool_waiting()
        spooled = a.writer.status.spooled
        assert spooled == 3 * (len(x) + len(y))
        a.writer._spool_policy._replay_not_before = float("inf")
    async with meterd(urls, "b", hands, precautions=plan) as b:
        await b.writer.settle()
        # Nothing is leased yet.
        assert b.writer.status.spooled == spooled
        await b.beat("x")
        hands.elapsed += 2
        await b.writer.settle()
        assert b.writer.status.spooled == spooled
        # Nobody is to be expected for y any more.
        hands.elapsed += 1000
        await b.writer.settle()
        assert (b.writer.status.spooled, b.writer.status.dropped) == (0, 3 * len(y))
        assert await b.sees("x") == list(x)
        (told,) = b.writer.notices
        assert "of y, from" in told.text
    need(urls, "x", x)
