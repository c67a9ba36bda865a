"""What the second thread does while the store fails, or hangs: everything is spooled in time."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.event import EventKind
from meterd.store import writer as writers
from meterd.store.compaction.session import StoreSession
from meterd.store.engine import spool_thread
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.wal import record_log
from meterd.store.wal.spool import files
from meterd.store.writer import Writer

from .rigs import Hands, opened, poll, raw, samples, store, url_of
from .test_trouble import foreign_lock, found, impatient

COMMIT = 30.0


def kinds(writer: Writer) -> list[EventKind]:
    return [notice.kind for notice in writer.notices]


async def test_polls_are_spooled_one_commit_interval_after_the_store_went_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    path, hands = tmp_path / "meterd.db", Hands()
    async with store(path, clock=hands, commit=COMMIT) as (writer, reader):
        look = writer._store_thread.spooler.look
        with foreign_lock(path):
            writer.take(poll(1, 1.0))
            with pytest.raises(StoreError):
                await writer.flush()
            hands.elapsed += COMMIT - 1
            look()
            assert (writer.status.queued, writer.status.spooled) == (1, 0)
            hands.elapsed += 1
            look()
            assert (writer.status.queued, writer.status.spooled) == (0, 1)
            # Nothing waits any more, and the store is as far away as before.
            with pytest.raises(StoreError):
                await writer.flush()
            assert is_away(writer)
            # It is seen all the same.
            assert await raw(reader) == [(1, 1.0)]
            writer.take(poll(2, 2.0))
            hands.elapsed += COMMIT
            look()
            assert (writer.status.queued, writer.status.spooled) == (0, 2)
        await writer.settle()
        assert writer.status.writable
        assert kinds(writer) == [EventKind.STORE_NOT_WRITABLE, EventKind.STORE_WRITABLE]
    assert [time for time, _, _ in samples(path)] == [1, 2]


async def test_a_store_that_takes_polls_in_time_spools_nothing(tmp_path: Path) -> None:
    path, hands = tmp_path / "meterd.db", Hands()
    async with store(path, clock=hands, commit=COMMIT) as (writer, _):
        look = writer._store_thread.spooler.look
        for time in range(5):
            writer.take(poll(time, 1.0))
            hands.elapsed += COMMIT
            look()
            await writer.flush()
            look()
        assert kinds(writer) == []
        assert writer.status.spooled == 0
    assert found(tmp_path, "*.spool*") == []
    assert len(samples(path)) == 5


def is_away(writer: Writer) -> bool:
    return not writer.status.writable


def pass_by(writer: Writer, hands: Hands, seconds: float) -> None:
    for _ in range(round(seconds)):
        writer._store_thread.spooler.look()
        hands.elapsed += 1
    writer._store_thread.spooler.look()


async def test_a_process_that_stood_still_is_no_store_that_does_not_answer(tmp_path: Path) -> None:
    hands = Hands()
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, _):
        for _ in range(5):
            hands.elapsed += 1000
            writer._store_thread.spooler.look()
        assert kinds(writer) == []


class Hang:
    """A disk that does not answer: each commit stays in the middle until `free`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.free = threading.Event(), threading.Event()
        real = StoreSession.commit

        def commit(session: StoreSession, *args: object, **options: object) -> object:
            self.began.set()
            assert self.free.wait(60)
            return real(session, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(StoreSession, "commit", commit)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.began.wait, 60)


async def test_a_thread_that_hangs_in_a_commit_is_told_and_its_polls_are_spooled_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hands = tmp_path / "meterd.db", Hands()
    async with store(path, clock=hands, commit=COMMIT) as (writer, reader):
        look = writer._store_thread.spooler.look
        writer.take(poll(1, 1.0))
        await writer.flush()
        hang = Hang(monkeypatch)
        writer.take(poll(2, 2.0))
        flushing = asyncio.ensure_future(writer.flush())
        await hang.wait()
        writer.take(poll(3, 3.0))
        pass_by(writer, hands, spool_thread.LATE)
        assert writer.status.writable
        pass_by(writer, hands, 2.0)
        assert is_away(writer)
        assert "not answered" in writer.status.error
        assert writer.status.code == "unreachable"
        hands.elapsed += COMMIT
        look()
        assert (writer.status.queued, writer.status.spooled) == (0, 2)
        writer.take(poll(4, 4.0))
        # What the commit did is confirmed, and does not confirm what came since.
        hang.free.set()
        await flushing
        assert writer.status.queued <= 1
        await writer.settle()
        assert writer.status.writable
        assert await raw(reader) == [(time, float(time)) for time in range(1, 5)]
        assert kinds(writer) == [EventKind.STORE_NOT_WRITABLE, EventKind.STORE_WRITABLE]
    assert [(time, value) for time, _, value in samples(path)] == [
        (time, float(time)) for time in range(1, 5)
    ]


async def test_memory_is_bounded_while_the_thread_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hands = tmp_path / "meterd.db", Hands()
    plan = SpoolOptions(memory=80)
    async with store(path, clock=hands, commit=1e6, precautions=plan) as (writer, _):
        hang = Hang(monkeypatch)
        writer.take(poll(0, 0.0))
        flushing = asyncio.ensure_future(writer.flush())
        await hang.wait()
        pass_by(writer, hands, spool_thread.LATE + 2)
        for time in range(1, 40):
            writer.take(poll(time, float(time)))
            writer._store_thread.spooler.look()
            assert writer.status.queued <= 10
        assert writer.status.queued + writer.status.spooled == 40
        hang.free.set()
        await flushing
        await writer.settle()
    assert [time for time, _, _ in samples(path)] == list(range(40))


async def test_the_end_does_not_wait_for_a_thread_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "meterd.db"
    monkeypatch.setattr(writers, "_END", 0.05)
    async with opened(Writer(url_of(path), commit=COMMIT)) as writer:
        hang = Hang(monkeypatch)
        for time in range(5):
            writer.take(poll(time, float(time)))
        flushing = asyncio.ensure_future(writer.flush())
        await hang.wait()
        thread = writer._thread
    assert thread is not None
    assert thread.is_alive()
    assert "5 samples are spooled, 0 are lost" in caplog.text
    with pytest.raises(StoreError):
        await flushing
    hang.free.set()
    await asyncio.to_thread(thread.join)
    async with store(path) as (writer, reader):
        await writer.settle()
        assert await raw(reader) == [(time, float(time)) for time in range(5)]
    assert len(samples(path)) == 5


async def test_a_spool_that_cannot_be_written_is_told_once_and_goes_on_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impatient(monkeypatch)
    path, hands = tmp_path / "meterd.db", Hands()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with store(path, clock=hands, commit=COMMIT) as (writer, _):
        look = writer._store_thread.spooler.look
        with foreign_lock(path):
            writer.take(poll(1, 1.0))
            with pytest.raises(StoreError):
                await writer.flush()
            with monkeypatch.context() as patch:
                patch.setattr(record_log, "_write", full)
                for _ in range(3):
                    hands.elapsed += COMMIT
                    look()
                assert "make room" in writer.status.spool_error
                assert kinds(writer).count(EventKind.SPOOL_FAILED) == 1
                assert caplog.text.count("the spool cannot be written") == 1
                assert writer.status.queued == 1
            look()
            assert (writer.status.spool_error, writer.status.spooled) == ("", 1)
        await writer.settle()
    assert len(samples(path)) == 1


async def test_a_bug_that_meets_the_spooler_is_told_once_of_its_kind_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with store(tmp_path / "meterd.db", clock=Hands(), commit=COMMIT) as (writer, _):
        spooler_ = writer._store_thread.spooler
        await asyncio.to_thread(spooler_.end)  # we look in its place
        count = 0

        def one(*_: object) -> None:
            nonlocal count
            count += 1
            raise RuntimeError(f"a bug, the {count}. time")  # it says something else each time

        def other(*_: object) -> None:
            raise LookupError("another one")

        with monkeypatch.context() as patch:
            patch.setattr(writer._spool_policy, "check_spool_files", one)
            for _ in range(50):
                spooler_.guarded_look()
            assert caplog.text.count("Traceback") == 1
            assert kinds(writer) == [EventKind.SPOOL_FAILED]
            assert "the 50. time), 50 times" in writer.status.spool_error
            patch.setattr(writer._spool_policy, "check_spool_files", other)
            spooler_.guarded_look()
            assert caplog.text.count("Traceback") == 2
            assert kinds(writer) == [EventKind.SPOOL_FAILED] * 2
        spooler_.guarded_look()
        assert writer.status.spool_error == ""
        assert "works again, after 51 looks" in caplog.text


async def test_a_file_of_the_spool_that_is_deleted_is_told_and_its_polls_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impatient(monkeypatch)
    path, hands = tmp_path / "meterd.db", Hands()
    async with store(path, clock=hands, commit=COMMIT) as (writer, reader):
        look = writer._store_thread.spooler.look
        with foreign_lock(path):
            writer.take(poll(1, 1.0))
            with pytest.raises(StoreError):
                await writer.flush()
            hands.elapsed += COMMIT
            look()
            (file,) = files(tmp_path / "meterd.db.spool")
            file.unlink()
            for _ in range(3):
                look()
            assert files(tmp_path / "meterd.db.spool") == [file.with_name("meterd.db.spool-000002")]
            assert kinds(writer).count(EventKind.STORE_BEGUN_ANEW) == 1
            assert f"{file} is deleted while meterd runs" in caplog.text
            assert (writer.status.spooled, writer.status.spool_error) == (1, "")
        await writer.settle()
        assert await raw(reader) == [(1, 1.0)]
    assert len(samples(path)) == 1


async def test_a_spool_that_is_full_tells_what_is_lost_by_name_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impatient(monkeypatch)
    path, hands = tmp_path / "meterd.db", Hands()
    start = 1_700_000_000_000
    plan = SpoolOptions(size=1 << 12)
    async with store(path, clock=hands, commit=COMMIT, precautions=plan) as (writer, _):
        with foreign_lock(path):
            taken = 0
            while not writer.status.dropped:
                writer.take(poll(start + taken * 1000, 1.0, device="cellar"))
                taken += 1
                with pytest.raises(StoreError):
                    await writer.flush()
                hands.elapsed += COMMIT
                writer._store_thread.spooler.look()
            lost = writer.status.dropped
        (told,) = [n for n in writer.notices if n.kind is EventKind.POLLS_LOST]
        assert told.data["samples"] == lost
        assert (told.data["first"], told.data["last"]) == (start, start + (lost - 1) * 1000)
        assert f"{lost} samples are lost, of cellar, from 2023-11-14T22:13:20Z to" in told.text
        assert told.text in caplog.text
        await writer.settle()
    assert [time for time, _, _ in samples(path)] == [
        start + 1000 * number for number in range(lost, taken)
    ]
