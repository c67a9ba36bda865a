"""D1, D6, D10, D11: processes killed, and system calls that fail or wait, at chosen places."""

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meterd.store.db import migrate
from tests.store.rigs import rows, samples, url_of
from tests.store.test_kill import check
from tests.store.test_migrate import FIXTURES

from .stores import Nursery, nursery

KILLS_A_STORE = 10
FEW = (1, 5, 34, 90, 200)
COMMITS = 40

pytestmark = pytest.mark.needs("strace")


async def killed_at_writes(folder: Path, writes: tuple[int, ...], *, file: bool) -> int:
    """Kills a writer at each of these writes; how many polls were confirmed in all."""
    total, confirmed = 0, list[range]()
    async with nursery() as some:
        for turn, number in enumerate(writes):
            path = folder / f"{turn // KILLS_A_STORE}.db"
            confirmed = [] if turn % KILLS_A_STORE == 0 else confirmed
            fault = f"pwrite64:signal=SIGKILL:when={number}"
            first = turn * 1_000_000
            child = await some.traced(fault, url=url_of(path), first=first, file=file)
            await child.gone()
            confirmed += child.confirmed
            total += sum(map(len, child.confirmed))
            if path.exists():
                check(path, confirmed)
    return total


@pytest.mark.parametrize("file", [False, True], ids=["table", "file"])
async def test_no_confirmed_poll_is_lost_by_kill_9_at_a_write(tmp_path: Path, file: bool) -> None:
    assert await killed_at_writes(tmp_path, FEW, file=file) > 100


@pytest.mark.long
@pytest.mark.parametrize("file", [False, True], ids=["table", "file"])
async def test_no_confirmed_poll_is_lost_by_kill_9_at_any_of_200_writes(
    tmp_path: Path, file: bool
) -> None:
    assert await killed_at_writes(tmp_path, tuple(range(1, 201)), file=file) > 10_000


async def through(some: Nursery, path: Path, fault: str, **order: object) -> float:
    """A writer under a fault that passes; the longest stall of its loop, in seconds."""
    child = await some.traced(fault, url=url_of(path), first=0, **order)
    # Each syncs, and writes more than once: by then the fault has come and gone.
    await child.commits(COMMITS)
    child.kill(signal.SIGTERM)
    await child.gone()
    check(path, child.confirmed)
    assert child.end is not None
    polls, dropped, stall = child.end
    assert polls > 0
    assert dropped == 0
    assert {time for time, _, _ in samples(path)} == set(range(polls))
    return stall


@pytest.mark.parametrize("file", [False, True], ids=["table", "file"])
async def test_a_sync_that_fails_claims_nothing_and_is_tried_again(
    tmp_path: Path, file: bool
) -> None:
    async with nursery() as some:
        fault = "fdatasync,fsync:error=EIO:when=25..28"
        await through(some, tmp_path / "meterd.db", fault, file=file)


async def test_writes_that_meet_a_full_disk_are_tried_again(tmp_path: Path) -> None:
    async with nursery() as some:
        fault = "pwrite64:error=ENOSPC:when=120..125"
        await through(some, tmp_path / "meterd.db", fault)


async def test_a_disk_that_takes_two_seconds_to_sync_holds_up_no_poll(tmp_path: Path) -> None:
    async with nursery() as some:
        fault = "fdatasync,fsync:delay_enter=2000000:when=25"
        stall = await through(some, tmp_path / "meterd.db", fault)
    # Had a poll waited for the disk, it would have waited for the two seconds.
    assert stall < 1.9


_PLAIN = "SELECT time, series, value FROM sample"
_SCHEMA = "SELECT version_num FROM alembic_version"


def restored(path: Path, old: Path) -> set[tuple[object, ...]]:
    """Makes the old store anew; its plain rows."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(old.read_text("utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")
    return set(rows(path, _PLAIN))


async def upgrades_killed(folder: Path, old: Path, writes: tuple[int, ...]) -> None:
    path = folder / "meterd.db"
    async with nursery() as some:
        for number in writes:
            expected = restored(path, old)
            fault = f"pwrite64:signal=SIGKILL:when={number}"
            child = await some.traced(fault, url=url_of(path), first=0)
            await child.gone()
            child = await some.child(url=url_of(path), first=0)
            async with asyncio.timeout(60):
                while rows(path, _SCHEMA) != [(migrate.versions()[-1],)]:
                    await asyncio.sleep(0.05)
            child.kill(signal.SIGTERM)
            await child.gone()
            assert rows(path, "PRAGMA integrity_check") == [("ok",)]
            assert set(rows(path, _PLAIN)) == expected, number


@pytest.mark.parametrize("old", FIXTURES, ids=lambda path: path.stem)
async def test_an_upgrade_killed_at_a_write_is_done_at_the_next_start(
    tmp_path: Path, old: Path
) -> None:
    await upgrades_killed(tmp_path, old, (20, 70))


@pytest.mark.long
@pytest.mark.parametrize("old", FIXTURES, ids=lambda path: path.stem)
async def test_an_upgrade_killed_at_any_write_is_done_at_the_next_start(
    tmp_path: Path, old: Path
) -> None:
    await upgrades_killed(tmp_path, old, tuple(range(2, 152, 3)))
