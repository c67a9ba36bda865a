"""D2, D3, D4: power cuts, full disks and disks that become read-only, on real file systems."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Layout, Poll
from meterd.store.engine import spool_policy
from meterd.store.engine import store_thread as workers
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.writer import Writer
from tests.store.rigs import raw, samples, store, url_of
from tests.store.test_kill import check

from .stores import image, mounted, nursery, run

KINDS = ("ext4", "xfs")
WIDE = Layout.of([(f"x.c{column}", "V") for column in range(40)])


def power_fails(mount: Path) -> None:
    """Nothing reaches the disk from now on, and what was not synced never will."""
    run("xfs_io", "-x", "-c", "shutdown", str(mount))


async def cuts(folder: Path, kind: str, count: int, *, file: bool) -> int:
    """Cuts the power so often; how many polls were confirmed."""
    disk, mount, confirmed = image(folder / "disk", kind), folder / "mount", list[range]()
    total = 0
    moments = random.Random(5)
    async with nursery() as some:
        for turn in range(count):
            with mounted(mount, "-o", "loop", str(disk)):
                path = mount / f"{turn // 10}.db"
                confirmed = [] if turn % 10 == 0 else confirmed
                child = await some.child(url=url_of(path), first=turn * 1_000_000, file=file)
                await child.commits(moments.randint(1, 12))
                await asyncio.sleep(moments.uniform(0.0, 0.05))
                # The process first: a sync that meets the shutdown may return as if it had
                # worked, and without power no process would be there to hear of it.
                child.kill()
                power_fails(mount)
                await child.gone()
                confirmed += child.confirmed
                total += sum(map(len, child.confirmed))
            with mounted(mount, "-o", "loop", str(disk)):
                if path.exists():
                    check(path, confirmed)
    return total


@pytest.mark.needs("xfs_io")
@pytest.mark.needs("mkfs.xfs")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_power_cut_loses_nothing_that_was_confirmed(tmp_path: Path, kind: str) -> None:
    assert await cuts(tmp_path, kind, 2, file=False) > 0


@pytest.mark.long
@pytest.mark.needs("xfs_io")
@pytest.mark.needs("mkfs.xfs")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", [False, True], ids=["table", "file"])
async def test_fifty_power_cuts_lose_nothing_that_was_confirmed(
    tmp_path: Path, kind: str, file: bool
) -> None:
    assert await cuts(tmp_path, kind, 50, file=file) > 500


def noise(count: int) -> list[Poll]:
    """What does not compress fills a disk."""
    said = random.Random(7)
    return [Poll("main", t, WIDE, tuple(said.random() for _ in range(40))) for t in range(count)]


def fill(mount: Path) -> Path:
    """Somebody else's file takes all the room there is."""
    junk = mount / "junk"
    with junk.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue
    return junk


async def refused(writer: Writer) -> str:
    try:
        await writer.flush()
    except StoreError as error:
        return error.code
    return ""


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


async def test_a_full_disk_is_survived_with_a_reserve_and_recovered_from_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = noise(800)
    monkeypatch.setattr(workers, "_RETRY", 0.3)
    monkeypatch.setattr(spool_policy, "_RESERVE_EVERY", 0.1)
    with mounted(tmp_path / "mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs") as mount:
        path, reserve = mount / "meterd.db", mount / "meterd.db.reserve"
        plan = SpoolOptions(reserve=1 << 19)
        async with store(path, commit=0.05, precautions=plan) as (writer, reader):
            await until(reserve.exists)
            junk, codes, taken = fill(mount), set[str](), 0
            for one in polls:
                writer.take(one)
                taken += 1
                if taken % 25 == 0:
                    codes.add(await refused(writer))
            assert codes == {"", "full"}
            # The reserve went, and let some polls in; the rest waits, and is served.
            assert not reserve.exists()
            assert 0 < writer.status.committed < taken * 40
            assert not writer.status.writable
            assert len(await raw(reader, "x.c0")) == taken
            junk.unlink()
            await until(lambda: writer.status.writable)
            await writer.flush()
            assert writer.status.dropped == 0
            await until(reserve.exists)
        assert path.exists()
        assert len(samples(path)) == taken * 40


@pytest.mark.needs("mkfs.ext4")
async def test_a_disk_that_becomes_read_only_keeps_reads_and_spools_elsewhere(
    tmp_path: Path,
) -> None:
    disk = image(tmp_path / "disk", "ext4")
    plan = SpoolOptions(memory=8000, spool=tmp_path / "spool")
    with mounted(tmp_path / "mount", "-o", "loop", str(disk)) as mount:
        path = mount / "meterd.db"
        async with store(path, precautions=plan) as (writer, reader):
            for one in noise(50):
                writer.take(one)
            await writer.flush()
            # As the kernel does it after an error: open files stay open, and are read-only.
            run("mount", "-o", "remount,abort", str(mount))
            for one in noise(200)[50:]:
                writer.take(one)
                if one.time % 20 == 0:
                    assert await refused(writer) == "unavailable"
            assert not writer.status.writable
            assert writer.status.spooled > 0
            assert len(await raw(reader, "x.c0")) > 50
    with mounted(tmp_path / "mount", "-o", "loop", str(disk)):
        async with store(path, precautions=plan) as (writer, reader):
            await writer.settle()
            assert len(await raw(reader, "x.c0")) == 200
        assert len(samples(path)) == 200 * 40
