import json
import logging
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.head.head import Head
from meterd.store.wal.record_log import RecordLog
from meterd.store.wal.spool import Spool, files, pack, unpack

from .rigs import METER, poll, raw, samples, store
from .test_trouble import foreign_lock, found, impatient

OTHER = Layout.of([("voltage.l1", "V"), ("x.own", "A")])


def polls(count: int) -> list[Poll]:
    said = random.Random(3)
    made = []
    for time in range(count):
        device = said.choice(("main", "küche", "ups"))
        layout = said.choice((METER, OTHER))
        values: list[float | None] = [round(said.uniform(0, 250), 1) for _ in layout.quantities]
        doubts = {}
        if said.random() < 0.1:
            values[0], doubts = None, {0: QualityFlag(Quality.INVALID, "not available")}
        made.append(Poll(device, time, layout, values, doubts))
    return made


def cells(some: list[Poll]) -> list[tuple[object, ...]]:
    return sorted(
        (s.device, s.time, s.quantity, s.unit, s.value or 0.0, s.quality, s.reason)
        for one in some
        for s in one.samples()
    )


def taken(some: list[Poll]) -> Head:
    head = Head()
    for one in some:
        head.take(one)
    return head


def test_a_record_says_the_same_without_any_store() -> None:
    some = polls(300)
    record = pack(taken(some).uncommitted(1 << 30))
    assert cells(list(unpack(record))) == cells(some)


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    record = bytearray(pack(taken(polls(10)).uncommitted(1 << 30)))
    for at in range(4, len(record)):
        bad = bytes(record[:at]) + bytes((record[at] ^ 1,)) + bytes(record[at + 1 :])
        with pytest.raises(StoreError) as refused:
            list(unpack(bad))
        assert refused.value.code == "corrupt"


async def test_a_record_that_cannot_be_read_is_kept_and_the_others_come_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "meterd.db"
    good = pack(taken([poll(1, 1.0)]).uncommitted(10))
    size = int.from_bytes(good[:4], "little")
    told = zlib.compress(json.dumps({"samples": 1, "devices": [], "series": []}).encode())
    nameless = len(told).to_bytes(4, "little") + told + good[4 + size :]
    log = RecordLog(tmp_path / "meterd.db.spool-000001")
    for record in (nameless, good, b"\0\0\0\0"):
        log.append(record)
    log.close()
    async with store(path) as (writer, reader):
        await writer.settle()
        assert await raw(reader) == [(1, 1.0)]
        assert writer.status.spooled == 0
    assert len(found(tmp_path, "meterd.damaged-spool-*")) == 2
    assert found(tmp_path, "*.spool-*") == []


def test_one_file_that_cannot_be_opened_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "spool-000001").mkdir()
    log = RecordLog(tmp_path / "spool-000002")
    log.append(pack(taken([poll(1, 1.0)]).uncommitted(10)))
    log.close()
    spool = Spool(tmp_path / "spool", 1 << 20)
    with pytest.raises(StoreError, match="spool-000001"):
        spool.open()
    assert spool.samples == 1
    spool.close()


def filled(path: Path, size: int, count: int) -> tuple[Spool, int]:
    spool, dropped = Spool(path, size), 0
    spool.open()
    for time in range(count):
        dropped += spool.put(taken([poll(time, 230.0)]).uncommitted(10))[0].samples
    return spool, dropped


def left(spool: Spool) -> list[int]:
    times = []
    while (record := spool.oldest()) is not None:
        times += [one.time for one in unpack(record)]
        spool.done(record)
    return times


def test_a_spool_gives_back_what_it_got_in_order_and_is_gone(tmp_path: Path) -> None:
    spool, dropped = filled(tmp_path / "spool", 1 << 16, 100)
    assert (dropped, spool.samples) == (0, 100)
    assert left(spool) == list(range(100))
    assert spool.samples == 0
    assert not spool
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool, dropped = filled(tmp_path / "spool", 1 << 12, 200)
    assert dropped > 0
    assert spool.samples == 200 - dropped
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1 << 12
    assert left(spool) == list(range(dropped, 200))


def test_a_spool_is_found_again_and_a_torn_end_is_left_out(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path / "spool", 1 << 16, 100)
    spool.close()
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-3])
    again, _ = filled(tmp_path / "spool", 1 << 16, 0)
    assert again.samples == 99
    assert left(again) == list(range(99))


def test_what_comes_while_a_spool_is_read_is_not_lost(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path / "spool", 1 << 16, 3)
    record = spool.oldest()
    assert record is not None
    spool.done(record)
    spool.put(taken([poll(3, 230.0)]).uncommitted(10))
    assert left(spool) == [1, 2, 3]


def test_a_spool_adopts_what_another_one_has_left_behind_what_is_being_read(
    tmp_path: Path,
) -> None:
    filled(tmp_path / "one", 1 << 12, 20)[0].close()
    # As after a start at which nobody came to open it.
    there = Spool(tmp_path / "one", 1 << 12).give_up()
    assert len(there) > 2
    spool, _ = filled(tmp_path / "two", 1 << 16, 3)
    assert spool.oldest() is not None
    assert spool.adopt([*there, tmp_path / "two-000001"]) == {}
    spool.put(taken([poll(20, 230.0)]).uncommitted(10))
    assert spool.samples == 24
    assert {file.name[:3] for file in tmp_path.iterdir()} == {"two"}
    assert left(spool) == [0, 1, 2, *range(21)]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_told_and_stays_when_the_others_are_adopted(
    tmp_path: Path,
) -> None:
    filled(tmp_path / "one", 1 << 16, 3)[0].close()
    (tmp_path / "one-000002").mkdir()
    spool, _ = filled(tmp_path / "two", 1 << 16, 0)
    assert list(spool.adopt(files(tmp_path / "one"))) == [tmp_path / "one-000002"]
    assert left(spool) == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["one-000002"]


def stranger(file: Path) -> None:
    """Another file takes its name."""
    file.with_name("stranger").write_bytes(b"not ours")
    file.with_name("stranger").rename(file)


@pytest.mark.parametrize("way", [Path.unlink, stranger, lambda file: file.rename(f"{file}.bak")])
@pytest.mark.parametrize("moment", ["written", "read", "found again"])
def test_what_was_in_a_file_that_is_gone_is_in_another_one(
    tmp_path: Path, way: Callable[[Path], object], moment: str
) -> None:
    told: list[str] = []
    path = tmp_path / "spool"
    spool = Spool(path, 1 << 12, renewed=told.append)
    spool.open()
    for time in range(20):
        spool.put(taken([poll(time, 230.0)]).uncommitted(10))
    if moment == "found again":
        spool.close()
        spool = Spool(path, 1 << 12, renewed=told.append)
        spool.open()
    if moment == "read":
        record = spool.oldest()
        assert record is not None
        spool.done(record)
    there = files(path)
    assert len(there) > 2
    way(there[0])
    way(there[-1])
    assert spool.look()
    assert [one.partition(" ")[0] for one in told] == [str(there[0]), str(there[-1])]
    assert not spool.look()
    spool.put(taken([poll(20, 230.0)]).uncommitted(10))
    spool.close()
    # What a start after a power cut would find, beside what is none of ours.
    again = Spool(path, 1 << 12)
    again.open()
    assert set(range(1, 21)) <= set(left(again))


def test_a_file_that_goes_while_a_record_is_written_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, _ = filled(tmp_path / "spool", 1 << 16, 3)
    append = RecordLog.append

    def gone(self: RecordLog, body: bytes) -> None:
        self.path.unlink(missing_ok=True)
        append(self, body)

    with monkeypatch.context() as patch:
        patch.setattr(RecordLog, "append", gone)
        # The file that takes what this one held goes as well, with each of its records.
        spool.put(taken([poll(3, 230.0)]).uncommitted(10))
    assert spool.look()
    assert left(spool) == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == []


def test_where_the_folder_is_gone_nothing_is_lost_before_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    spool, _ = filled(folder / "spool", 1 << 16, 3)
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="folder"):
        spool.look()
    folder.mkdir()
    assert spool.look()
    assert left(spool) == [0, 1, 2]


def test_another_files_name_is_not_taken_from_it(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path / "spool", 1 << 16, 3)
    (file,) = tmp_path.iterdir()
    stranger(file)
    assert left(spool) == [0, 1, 2]
    assert file.read_bytes() == b"not ours"


def test_two_meterds_of_one_folder_have_files_of_their_own(tmp_path: Path) -> None:
    ours, _ = filled(tmp_path / "spool", 1 << 16, 0)
    theirs, _ = filled(tmp_path / "spool", 1 << 16, 0)
    for time in range(40):
        (ours, theirs)[time % 2].put(taken([poll(time, 230.0)]).uncommitted(10))
    late, _ = filled(tmp_path / "spool", 1 << 16, 0)
    assert late.samples == 0
    assert left(ours) == list(range(0, 40, 2))
    theirs.close()
    late.open()
    assert left(late) == list(range(1, 40, 2))
    assert list(tmp_path.iterdir()) == []


SMALL = SpoolOptions(memory=80)


async def test_what_memory_cannot_hold_is_spooled_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meterd.store")
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    async with store(path, precautions=SMALL) as (writer, reader):
        with foreign_lock(path):
            for moment in range(50):
                writer.take(poll(moment, float(moment)))
                with pytest.raises(StoreError):
                    await writer.flush()
            status = writer.status
            assert (status.writable, status.code) == (False, "unavailable")
            assert status.queued <= 10
            assert status.spooled + status.queued == 50
            assert status.dropped == 0
        writer.take(poll(50, 50.0))
        await writer.settle()
        assert writer.status.spooled == 0
        assert writer.status.committed == 51
        assert await raw(reader) == [(moment, float(moment)) for moment in range(51)]
    assert [(t, v) for t, _, v in samples(path)] == [(m, float(m)) for m in range(51)]
    assert not found(tmp_path, "*.spool-*")


async def test_what_the_store_did_not_take_at_the_end_is_there_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    async with store(path, precautions=SMALL) as (writer, _):
        writer.take(poll(0, 0.0))
        await writer.flush()
        held = foreign_lock(path)
        held.__enter__()
        for moment in range(1, 30):
            writer.take(poll(moment, float(moment)))
            with pytest.raises(StoreError):
                await writer.flush()
    held.__exit__(None, None, None)
    assert len(samples(path)) == 1
    left_behind, _ = filled(tmp_path / "meterd.db.spool", 1 << 20, 0)
    assert left_behind.samples == 29
    left_behind.close()
    async with store(path) as (writer, reader):
        writer.take(poll(30, 30.0))
        await writer.settle()
        assert await raw(reader) == [(moment, float(moment)) for moment in range(31)]
    assert [t for t, _, _ in samples(path)] == list(range(31))


async def test_a_record_that_comes_back_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    for _ in range(2):
        # As after a crash between the commit and the end of the record.
        spool, _ = filled(tmp_path / "meterd.db.spool", 1 << 16, 20)
        spool.close()
        async with store(path) as (writer, reader):
            await writer.settle()
            assert await raw(reader) == [(moment, 230.0) for moment in range(20)]
    assert len(samples(path)) == 20


async def test_a_server_has_its_spool_where_the_settings_say(tmp_path: Path) -> None:
    spool = tmp_path / "elsewhere" / "polls"
    spool.parent.mkdir()
    filled(spool, 1 << 16, 5)[0].close()
    path = tmp_path / "meterd.db"
    async with store(path, precautions=SpoolOptions(spool=spool)) as (writer, _):
        await writer.settle()
    assert len(samples(path)) == 5
