"""A writer goes on with other options: it stays open and locked, and no commit is lost."""

import errno
import json
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Layout, Poll
from meterd.store.compaction.session import StoreSession
from meterd.store.db.lockfile import holder_of
from meterd.store.db.writer_lease import NAME
from meterd.store.engine.spool_policy import SpoolOptions, WriterOptions
from meterd.store.reader import Reader
from meterd.store.wal.record_log import RecordLog
from meterd.store.writer import Writer
from meterd.testing import FakeClock

POWER = Layout.of([("active_power", "W")])
T0 = 1_800_000_000_000


async def made(path: Path, *, to_file: bool = False, clock: FakeClock | None = None) -> Writer:
    writer = Writer(f"sqlite:///{path}", commit=3600.0, to_file=to_file, clock=clock)
    await writer.open()
    return writer


def take(writer: Writer, first: int, count: int = 10) -> None:
    for number in range(first, first + count):
        writer.take(Poll("main", T0 + number * 1000, POWER, (float(number),)))


def copied(path: Path, folder: Path, also: str = "m.db") -> Path:
    """The store's files, as they are at this moment, and those whose names begin with `also`."""
    folder.mkdir()
    for file in path.parent.iterdir():
        if file.is_file() and file.name.startswith((path.name, also)):
            shutil.copy(file, folder / file.name)
    return folder / path.name


def away(*_: object, **__: object) -> None:
    raise StoreError("the disk is away", code=StoreCode.UNAVAILABLE)


def spools(folder: Path) -> list[str]:
    return sorted(file.name[:3] for file in folder.glob("*spool-*"))


async def after_a_crash(path: Path, folder: Path) -> list[float]:
    """What the next start finds, where this process is gone at this moment."""
    copy = copied(path, folder)
    writer = await made(copy)
    await writer.settle()
    reader = Reader(f"sqlite:///{copy}", writer.memory)
    found = await reader.range(["main"], None, 0, 2**60, 0, "avg")
    reader.close()
    await writer.close()
    return [value for one in found for _, value in one.points]


@pytest.mark.parametrize("kinds", [(False, True), (True, False), (False, True, False, True)])
async def test_the_journal_moves_and_every_commit_survives_a_crash(
    tmp_path: Path, kinds: tuple[bool, ...]
) -> None:
    path = tmp_path / "m.db"
    writer = await made(path, to_file=kinds[0])
    count = 0
    for number, (_, to_file) in enumerate(pairwise((*kinds, kinds[-1]))):
        take(writer, count)
        count += 10
        await writer.flush()
        found = await after_a_crash(path, tmp_path / f"{number} before")
        assert found == [float(one) for one in range(count)]
        writer.tune(WriterOptions(commit=3600.0, to_file=to_file))
        take(writer, count)
        count += 10
        assert holder_of(path) is not None
        await writer.flush()
        found = await after_a_crash(path, tmp_path / f"{number} after")
        assert found == [float(one) for one in range(count)]
        assert path.with_name("m.db.journal").exists() is to_file
    await writer.close()


async def test_a_journal_that_cannot_move_yet_moves_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.db"
    writer = await made(path, to_file=True)
    take(writer, 0)
    await writer.flush()
    with monkeypatch.context() as patch:
        patch.setattr(StoreSession, "commit", away)
        writer.tune(WriterOptions(commit=3600.0, to_file=False))
        take(writer, 10)
        with pytest.raises(StoreError):
            await writer.flush()
        assert path.with_name("m.db.journal").exists()
    await writer.flush()
    assert not path.with_name("m.db.journal").exists()
    assert await after_a_crash(path, tmp_path / "after") == [float(one) for one in range(20)]
    await writer.close()


def on_another_disk(patch: pytest.MonkeyPatch) -> None:
    """A rename cannot lead there."""

    def refused(self: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, f"{self} and {target} are on two disks")

    patch.setattr(Path, "rename", refused)


@pytest.mark.parametrize("is_far", [False, True])
async def test_what_is_in_the_old_spool_is_moved_to_the_new_one_and_is_there_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_far: bool
) -> None:
    path = tmp_path / "m.db"
    options = [
        WriterOptions(
            commit=3600.0,
            precautions=SpoolOptions(memory=40, spool=tmp_path / name, reserve=0),
        )
        for name in ("old spool", "new spool")
    ]
    writer = Writer(f"sqlite:///{path}", commit=3600.0, precautions=options[0].precautions)
    await writer.open()
    with monkeypatch.context() as patch:
        patch.setattr(StoreSession, "commit", away)
        if is_far:
            on_another_disk(patch)
        for number, one in enumerate(options):
            writer.tune(one)
            take(writer, number * 30, 30)
            with pytest.raises(StoreError):
                await writer.flush()
        assert set(spools(tmp_path)) == {"new"}
        assert writer.status.spooled > 40
        assert writer._spool_policy.spool_waiting()
    for file in copied(path, tmp_path / "crash", "new spool").parent.glob("new*"):
        file.rename(file.with_name(file.name.replace("new spool", "m.db.spool")))
    everything = [float(n) for n in range(60)]
    assert (
        sorted(await after_a_crash(tmp_path / "crash" / "m.db", tmp_path / "found")) == everything
    )
    await writer.settle()
    assert writer.status.spooled == 0
    assert spools(tmp_path) == []
    assert sorted(await after_a_crash(path, tmp_path / "after")) == everything
    await writer.close()


async def test_what_cannot_be_moved_to_the_new_spool_goes_to_the_store_from_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(
        f"sqlite:///{tmp_path / 'm.db'}",
        commit=3600.0,
        precautions=SpoolOptions(spool=tmp_path / "old spool", reserve=0),
    )
    await writer.open()
    take(writer, 0)
    assert writer._spool_policy.spool_waiting()
    with monkeypatch.context() as patch:
        on_another_disk(patch)

        def full(self: RecordLog, _: bytes) -> None:
            raise StoreError(f"{self.path}: no space is left", code=StoreCode.FULL)

        patch.setattr(RecordLog, "append", full)
        plan = SpoolOptions(spool=tmp_path / "new spool", reserve=0)
        patch.setattr(StoreSession, "commit", away)
        writer.tune(WriterOptions(commit=3600.0, precautions=plan))
        take(writer, 10)
        with pytest.raises(StoreError):
            await writer.flush()
        assert spools(tmp_path) == ["old"]
        assert f"{tmp_path / 'old spool-000001'} stays there" in caplog.text
        assert "new spool-000001: no space is left" in caplog.text
        assert writer.status.spooled == 10
    await writer.settle()
    assert spools(tmp_path) == []
    assert writer.status.dropped == 0
    found = await after_a_crash(tmp_path / "m.db", tmp_path / "after")
    assert sorted(found) == [float(n) for n in range(20)]
    await writer.close()


async def test_retention_is_that_of_the_new_options(tmp_path: Path) -> None:
    path, clock = tmp_path / "m.db", FakeClock(utc_ms=T0 + 30 * 86_400_000)
    writer = await made(path, clock=clock)
    take(writer, 0)
    await writer.settle()
    writer.tune(WriterOptions(commit=3600.0, keep=86_400.0))
    await writer.settle()
    assert await after_a_crash(path, tmp_path / "after") == []
    await writer.close()


async def test_what_the_spooler_makes_safe_follows_the_commit_interval(tmp_path: Path) -> None:
    writer = await made(tmp_path / "m.db")
    spooler = writer._store_thread.spooler
    before = spooler._due - spooler.safe
    writer.tune(WriterOptions(commit=5.0))
    await writer.flush()
    assert before > 3600.0 > 60.0 > spooler._due - spooler.safe
    await writer.close()


async def test_how_often_is_written_is_said_to_other_machines_at_once(tmp_path: Path) -> None:
    """They take a writer for dead that is silent for longer than it said."""
    path = tmp_path / "m.db"
    writer = Writer(f"sqlite:///{path}", commit=10.0)
    await writer.open()
    take(writer, 0)
    await writer.flush()
    writer.tune(WriterOptions(commit=900.0))
    take(writer, 10)
    await writer.flush()
    with closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM memo WHERE name = ?", (NAME,)).fetchone()
    assert json.loads(body)["lease"] == 2700.0
    await writer.close()


async def test_hours_become_rows_from_the_next_commit_on(tmp_path: Path) -> None:
    path, clock = tmp_path / "m.db", FakeClock()
    hour, day = 3_600_000, 86_400_000
    writer = Writer(f"sqlite:///{path}", commit=3600.0, hours=False, clock=clock)
    await writer.open()

    async def past(number: int) -> int:
        """Polls of an hour, sealed; the rows of hours that there are."""
        writer.take(Poll("main", T0 // hour * hour + number * day, POWER, (5.0,)))
        clock.utc_ms = T0 // hour * hour + number * day + 12 * hour
        await writer.settle()
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM hour").fetchone()[0])

    assert await past(0) == 0
    writer.tune(WriterOptions(commit=3600.0, hours=True))
    await writer.flush()
    assert await past(1) == 1
    await writer.close()
