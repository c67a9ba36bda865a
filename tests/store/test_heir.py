"""A store that takes the place of another: all that waits there comes to it, once."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from meterd.errors import StoreCode, StoreError
from meterd.store import writer as writers
from meterd.store.engine import spool_policy
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.engine.storage_engine import StorageEngine
from meterd.store.writer import Writer

from .rigs import opened, poll, raw, samples, store, url_of
from .test_spool_thread import Hang
from .test_trouble import found


def away(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """The disk of that store is gone, as far as it matters."""

    def gone(name: str) -> None:
        original = getattr(StorageEngine, name)

        def failing(self: StorageEngine, *args: object) -> object:
            if self._database.path == path:
                raise StoreError("the disk is away", code=StoreCode.UNAVAILABLE)
            return original(self, *args)

        monkeypatch.setattr(StorageEngine, name, failing)

    for name in ("commit", "write_at_once"):
        gone(name)


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("spool", [None, "elsewhere"])
async def test_what_waits_in_memory_and_in_the_spool_of_a_store_that_is_away_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: str | None, is_deleted: bool
) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    plan = SpoolOptions(spool=None if spool is None else tmp_path / spool)
    async with store(two) as (heir, reader):
        old = Writer(url_of(one), commit=1e6, precautions=plan)
        await old.open()
        old.take(poll(1, 1.0))
        await old.flush()
        away(monkeypatch, one)
        for time in range(2, 6):
            old.take(poll(time, float(time)))
            with pytest.raises(StoreError):
                await old.flush()
            if time < 5:
                assert old._spool_policy.spool_waiting()
        assert (old.status.queued, old.status.spooled) == (1, 3)
        heir.take(poll(6, 6.0))
        if is_deleted:
            for file in (*found(tmp_path, "*.spool-*"), *found(tmp_path, "elsewhere-*")):
                file.unlink()
        await old.close(heir=heir)
        await heir.settle()
        assert await raw(reader) == [(time, float(time)) for time in range(2, 7)]
        assert (heir.status.queued, heir.status.spooled, heir.status.dropped) == (0, 0, 0)
    assert [time for time, _, _ in samples(two)] == [2, 3, 4, 5, 6]
    assert [time for time, _, _ in samples(one)] == [1]
    assert found(tmp_path, "*.spool-*") == found(tmp_path, "elsewhere-*") == []


async def test_a_store_that_hangs_and_comes_back_later_takes_nothing_from_its_heir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    monkeypatch.setattr(writers, "_END", 0.05)
    async with store(two) as (heir, reader):
        old = Writer(url_of(one), commit=1e6)
        await old.open()
        old.take(poll(1, 1.0))
        assert old._spool_policy.spool_waiting()
        with monkeypatch.context() as patch:
            hang = Hang(patch)
            old.take(poll(2, 2.0))
            flushing = asyncio.ensure_future(old.flush())
            await hang.wait()
        old.take(poll(3, 3.0))
        assert old._spool_policy.spool_waiting(1)
        thread = old._thread
        assert thread is not None
        await old.close(heir=heir)
        assert thread.is_alive()
        with pytest.raises(StoreError):
            await flushing
        # It wakes up while the heir has not yet taken what was spooled.
        hang.free.set()
        await asyncio.to_thread(thread.join)
        await heir.settle()
        assert await raw(reader) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [time for time, _, _ in samples(two)] == [1, 2, 3]
    assert found(tmp_path, "*.spool-*") == []


async def test_a_spool_on_a_disk_that_hangs_holds_no_reload_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    monkeypatch.setattr(spool_policy, "_HELD_S", 0.01)
    held, free = threading.Event(), threading.Event()
    async with store(two) as (heir, reader):
        old = Writer(url_of(one), commit=1e6)
        await old.open()
        away(monkeypatch, one)
        old.take(poll(1, 1.0))
        with pytest.raises(StoreError):
            await old.flush()
        assert old._spool_policy.spool_waiting()
        old.take(poll(2, 2.0))

        def hang() -> None:
            with old._spool_policy._spool_lock:
                held.set()
                free.wait(60)

        monkeypatch.setattr(writers, "_END", 0.05)
        hanging = asyncio.create_task(asyncio.to_thread(hang))
        assert await asyncio.to_thread(held.wait, 60)
        await old.close(heir=heir)
        free.set()
        await hanging
        await heir.settle()
        assert await raw(reader) == [(2, 2.0)]
    assert f"stays in {one}.spool" in caplog.text
    assert len(found(tmp_path, "one.db.spool-*")) == 1


async def test_a_successor_of_the_same_spool_finds_it_when_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.db"
    old, new = Writer(url_of(path), commit=1e6), Writer(url_of(path), commit=1e6)
    await old.open()
    with monkeypatch.context() as patch:
        away(patch, path)
        old.take(poll(1, 1.0))
        with pytest.raises(StoreError):
            await old.flush()
        assert old._spool_policy.spool_waiting()
        old.take(poll(2, 2.0))
        await old.close(heir=new)
    async with opened(new):
        await new.settle()
    assert [time for time, _, _ in samples(path)] == [1, 2]


async def test_who_is_killed_before_the_heir_has_taken_it_finds_it_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    async with store(two) as (heir, _):
        away(monkeypatch, two)
        old = Writer(url_of(one), commit=1e6)
        await old.open()
        away(monkeypatch, one)
        for time in (1, 2):
            old.take(poll(time, float(time)))
            assert old._spool_policy.spool_waiting()
        await old.close(heir=heir)
        # What is there at that moment, under a name that no other meterd has locked.
        spooled = found(tmp_path, "*.spool-*")
        assert {file.name[:6] for file in spooled} == {"two.db"}
        for file in spooled:
            shutil.copy(file, tmp_path / file.name.replace("two", "next"))
    async with store(tmp_path / "next.db") as (again, reader):
        await again.settle()
        assert await raw(reader) == [(1, 1.0), (2, 2.0)]
