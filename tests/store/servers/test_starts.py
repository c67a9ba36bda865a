"""Several meterds that are started at the same moment, each a process of its own."""

import asyncio
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection

from meterd.errors import StoreCode, StoreError
from meterd.store.db import galera_lock, migrate, store_url
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, opened, poll

from .engines import Maria, database_of
from .rig import meterd
from .test_conformance import differences, stored

MEMBER = """
import asyncio, sys
from meterd.model.sample import Layout, Poll
from meterd.store.cluster.leases import Leases
from meterd.store.writer import Writer

async def main(number, *urls):
    sys.stdin.readline()
    leases = Leases(urls, name=f"m{number}")
    writer = Writer(urls, commit=0.5, share=leases.share)
    await writer.open()
    name = f"d{number}"
    while not leases.held:
        await leases.beat([name])
    for time in range(100):
        writer.take(Poll(name, time, Layout.of([("voltage.l1", "V")]), (float(time),), {}))
    await writer.flush()
    await writer.close()
    await leases.close()

asyncio.run(main(*sys.argv[1:]))
"""

LONE = """
import asyncio, sys
from meterd.errors import StoreError
from meterd.store.writer import Writer

async def main(*urls):
    sys.stdin.readline()
    writer = Writer(urls, commit=0.5)
    try:
        await writer.open()
    except StoreError as error:
        print(error.code, flush=True)
        return
    print("open", flush=True)
    sys.stdin.readline()
    await writer.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def started(script: str, *arguments: str) -> asyncio.subprocess.Process:
    """A process that has said nothing yet: it begins with the first line that it is given."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *arguments), stdin=pipe, stdout=pipe, stderr=pipe
    )


def rotated(urls: list[str], number: int) -> list[str]:
    turn = number % len(urls)
    return [*urls[turn:], *urls[:turn]]


@pytest.mark.parametrize(
    "turn", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 5))]
)
async def test_a_cluster_that_starts_on_an_empty_database_makes_it_once(
    urls: list[str], turn: int
) -> None:
    fleet = [await started(MEMBER, str(number), *rotated(urls, number)) for number in range(3)]
    said = await asyncio.gather(*(one.communicate(b"\n") for one in fleet))
    assert [one.returncode for one in fleet] == [0, 0, 0], said
    with store_url.find(urls).reading() as connection:
        assert migrate.version(connection) == migrate.versions()[-1]
        assert differences(connection) == []
    found = stored(urls[0])
    assert {name[0] for name in found} == {"d0", "d1", "d2"}
    assert all(points == [(t, float(t)) for t in range(100)] for points in found.values())


async def test_of_lone_meterds_that_start_at_once_one_has_the_store(urls: list[str]) -> None:
    fleet = [await started(LONE, *rotated(urls, number)) for number in range(3)]
    try:
        for one in fleet:
            assert one.stdin is not None
            one.stdin.write(b"\n")
        said = [await one.stdout.readline() for one in fleet if one.stdout is not None]
        assert said.count(b"open\n") == 1, said
        assert said.count(b"already_running\n") == 2, said
    finally:
        await asyncio.gather(*(one.communicate(b"\n") for one in fleet))


async def test_tables_that_another_is_making_are_no_damage(
    urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making the table of the version and filling it, on MariaDB all can see it."""
    async with opened(Writer(rotated(urls, 1), commit=NEVER)):
        half = StoreError("alembic_version is empty", code=StoreCode.CORRUPT)
        seen = iter([half])

        def version(connection: Connection) -> str | None:
            for error in seen:
                raise error
            return migrate.versions()[-1]

        monkeypatch.setattr(migrate, "version", version)
        with pytest.raises(StoreError) as refused:
            async with opened(Writer(rotated(urls, 1), commit=NEVER)):
                pass
        assert refused.value.code == "already_running"


async def test_a_cluster_keeps_away_from_a_lone_meterd(
    urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterd.store.cluster.lease_state._SHORT", 0.5)
    async with opened(Writer(rotated(urls, 1), commit=NEVER)):
        with pytest.raises(StoreError, match="a meterd without `cluster:` writes") as refused:
            async with meterd(urls, "a"):
                pass
        assert refused.value.code == "already_running"
    async with meterd(urls, "a") as a:
        assert await a.beat("x") == {"x"}


@pytest.mark.long
@pytest.mark.needs("mariadbd", "rsync")
class TestSeat:
    """On a Galera cluster without `cluster:`."""

    async def test_a_second_meterd_on_another_node_is_refused(
        self, galera: Maria, tmp_path: Path
    ) -> None:
        first, second, _ = galera.urls(database_of(tmp_path))
        async with opened(Writer(first, commit=NEVER)) as writer:
            with pytest.raises(StoreError, match="add `cluster:` to both") as refused:
                await Writer(second, commit=NEVER).open()
            assert refused.value.code == "already_running"
            writer.take(poll(1000, 230.0))
            await writer.flush()
        began = time.monotonic()
        async with opened(Writer(second, commit=NEVER)) as writer:
            writer.take(poll(2000, 231.0))
        # It was given back, so that nobody waits until it is over.
        assert time.monotonic() - began < galera_lock._LENGTH
        (points,) = stored(first).values()
        assert points == [(1000, 230.0), (2000, 231.0)]

    async def test_who_lost_the_seat_writes_nothing_and_says_so(
        self, galera: Maria, tmp_path: Path
    ) -> None:
        name = database_of(tmp_path)
        first, second, _ = galera.urls(name)
        async with opened(Writer(first, commit=NEVER)) as writer:
            writer.take(poll(1000, 230.0))
            await writer.flush()
            # As if its machine had slept, and another one had started meanwhile.
            taken = "UPDATE meterd_seat SET holder = 'another', until = until + 20000"
            galera.ask(taken, name, node=1)
            writer.take(poll(2000, 231.0))
            with pytest.raises(StoreError, match="another meterd writes") as refused:
                await writer.flush()
            assert refused.value.code == "already_running"
            assert not writer.status.writable
            (points,) = stored(second).values()
            assert points == [(1000, 230.0)]
            galera.ask("UPDATE meterd_seat SET holder = '', until = 0", name)
            await writer.flush()
        (points,) = stored(second).values()
        assert points == [(1000, 230.0), (2000, 231.0)]

    async def test_one_that_was_killed_is_waited_for(self, galera: Maria, tmp_path: Path) -> None:
        name = database_of(tmp_path)
        first, second, _ = galera.urls(name)
        killed = await started(LONE, first)
        assert killed.stdin is not None
        assert killed.stdout is not None
        killed.stdin.write(b"\n")
        assert await killed.stdout.readline() == b"open\n"
        killed.kill()
        await killed.communicate()
        async with opened(Writer(second, commit=NEVER)) as writer:
            assert writer.status.writable
