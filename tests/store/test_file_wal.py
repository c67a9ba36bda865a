"""The journal in a file: the same answers as from the table, at every restart."""

import shutil
from array import array
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Layout
from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.db import store_url
from meterd.store.db.connections import Database
from meterd.store.tools import backup, check
from meterd.store.tools.move import move
from meterd.store.wal import file_wal
from meterd.store.wal.record_log import AlternatingLog
from meterd.store.writer import Writer

from .rigs import Hands, poll, raw, rows, samples, store
from .test_hours import HOUR, START, alike, answers, feed, history
from .test_trouble import found


async def test_commits_go_to_the_file_and_hours_to_blocks(tmp_path: Path) -> None:
    path, plain = tmp_path / "meterd.db", tmp_path / "plain.db"
    hands, polls = Hands(START), history(1, START, 30)
    async with store(plain, clock=Hands(START)) as (writer, reader):
        await feed(writer, Hands(START), polls)
        expected = await answers(reader, START, START + 31 * HOUR)
    for start in range(0, len(polls), 1500):
        async with store(path, clock=hands, to_file=True) as (writer, reader):
            await feed(writer, hands, polls[start : start + 1500])
            if start % 2:
                await writer.settle()
        assert rows(path, "SELECT count(*) FROM journal") == [(0,)]
        assert len({time for time, _, _ in samples(path)}) == min(len(polls), start + 1500)
    async with store(path, clock=hands, to_file=True) as (writer, reader):
        alike(await answers(reader, START, START + 31 * HOUR), expected)
        await writer.settle()
        alike(await answers(reader, START, START + 31 * HOUR), expected)
    # Only what is in no block yet is left in the file.
    assert len(file_wal.read(file_wal.path_beside(path)).polls) <= 360
    assert rows(path, "SELECT sum(n) FROM block") == [
        (10800 - len(file_wal.read(file_wal.path_beside(path)).polls),)
    ]


async def test_a_file_that_is_too_small_leaves_the_rest_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_wal.FileWal.__init__, "__defaults__", (1 << 14,))
    path = tmp_path / "meterd.db"
    hands, polls = Hands(START), history(2, START, 5)
    async with store(path, clock=hands, to_file=True) as (writer, _):
        for start in range(0, len(polls), 100):
            for one in polls[start : start + 100]:
                writer.take(one)
            await writer.flush()
    assert rows(path, "SELECT count(*) > 3 FROM journal") == [(1,)]
    assert len(file_wal.read(file_wal.path_beside(path)).polls) > 100
    before = samples(path)
    assert len({time for time, _, _ in before}) == len(polls)
    async with store(path, clock=hands, to_file=True) as (writer, _):
        hands.now = START + 8 * HOUR
        await writer.settle()
    assert samples(path) == before


async def test_the_way_back_to_the_table_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path, to_file=True) as (writer, _):
        for time in range(10):
            writer.take(poll(time, float(time)))
        await writer.flush()
    async with store(path) as (writer, reader):
        writer.take(poll(10, 10.0))
        await writer.flush()
        assert await raw(reader) == [(time, float(time)) for time in range(11)]
    assert not file_wal.path_beside(path).exists()
    assert [time for time, _, _ in samples(path)] == list(range(11))


async def test_a_file_beside_another_database_keeps_its_names(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        # The same numbers, with other names.
        writer.take(poll(1, 1.0, device="other"))
    shutil.copy(path, tmp_path / "backup.db")
    path.unlink()
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(2, 2.0))
        await writer.flush()
    (tmp_path / "backup.db").rename(path)
    async with store(path, to_file=True) as (writer, reader):
        writer.take(poll(3, 3.0))
        await writer.flush()
        found = await reader.range(None, None, 0, 10, 0, "avg")
    expected = [("main", [(2, 2.0), (3, 3.0)]), ("other", [(1, 1.0)])]
    assert sorted((one.device, one.points) for one in found) == expected
    async with store(path, to_file=True, clock=Hands(30 * HOUR)) as (writer, reader):
        await writer.settle()
        found = await reader.range(None, None, 0, 10, 0, "avg")
    assert sorted((one.device, one.points) for one in found) == expected
    names = rows(path, "SELECT name FROM device ORDER BY name")
    assert names == [("main",), ("other",)]


async def test_a_database_that_is_gone_leaves_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
    path.unlink()
    async with store(path, to_file=True) as (_, reader):
        assert await raw(reader) == [(1, 1.0)]
    assert samples(path) == [(1, "voltage.l1", 1.0)]


async def test_a_record_of_nobody_is_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
    halves = AlternatingLog(file_wal.path_beside(path), 0)
    stranger = Chunk(1, array("q", [2]), (ChunkColumn(99, range(1), array("d", [2.0])),))
    halves.append(bytes(4) + commit_record.encode([stranger], {}))
    halves.close()
    contents = file_wal.read(file_wal.path_beside(path))
    assert [one.time for one in contents.polls] == [1]
    assert "series 99, which it does not name" in str(contents.damages[0][0])
    async with store(path, to_file=True) as (writer, reader):
        assert await raw(reader) == [(1, 1.0)]
        writer.take(poll(3, 3.0))
        await writer.settle()
    assert len(found(tmp_path, "meterd.damaged-journal-file-*")) == 1
    async with store(path, to_file=True) as (_, reader):
        assert await raw(reader) == [(1, 1.0), (3, 3.0)]
    assert len(found(tmp_path, "meterd.damaged-journal-file-*")) == 1
    assert len(samples(path)) == 2


def place_of(path: Path) -> Database:
    return store_url.find(f"sqlite:///{path}")


LATER = Layout.of([("x.later", "A")])


async def commits(path: Path, count: int) -> None:
    """A record for each commit; the second device is named by the fourth."""
    async with store(path, to_file=True) as (writer, _):
        for time in range(1, count + 1):
            writer.take(poll(time, float(time)))
            if time > 3:
                writer.take(poll(time, -float(time), device="other", layout=LATER))
            await writer.flush()


def expected(count: int, *lost: int) -> list[tuple[int, str, float | None]]:
    times = [time for time in range(1, count + 1) if time not in lost]
    made: list[tuple[int, str, float | None]] = [(t, "voltage.l1", float(t)) for t in times]
    return sorted([*made, *((t, "x.later", -float(t)) for t in times if t > 3)])


def flip(path: Path, number: int, within: int) -> None:
    """A bit of that record: `within` bytes from its begin."""
    (file, *_), at = [file_wal.path_beside(path)], 4096
    data = bytearray(file.read_bytes())
    for _ in range(number - 1):
        at += 16 + int.from_bytes(data[at : at + 4], "little")
    data[at + within] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("within", [0, 5, 13, 16 + 5, 16 + 20], ids=str)
@pytest.mark.parametrize("number", [1, 2, 4, 7])
async def test_a_flipped_bit_in_the_file_loses_its_record_alone(
    tmp_path: Path, number: int, within: int, caplog: pytest.LogCaptureFixture
) -> None:
    path, copy, other = tmp_path / "meterd.db", tmp_path / "copy.db", tmp_path / "other.db"
    await commits(path, 7)
    assert samples(path) == expected(7)
    flip(path, number, within)
    # Who only reads gets all the rest, and says what is missing.
    assert samples(path) == expected(7, number)
    assert f"record {number} " in caplog.text
    (told,) = check.problems(place_of(path))
    assert f"record {number} " in told
    backup.backup(place_of(path), copy)
    assert samples(copy) == expected(7, number)
    move(place_of(path), f"sqlite:///{other}")
    assert samples(other) == expected(7, number)
    # So does a start; the lost one is kept aside, named, and the next ones go behind the others.
    async with store(path, to_file=True) as (writer, _):
        (notice,) = writer.notices
        assert f"record {number} " in notice.text
        writer.take(poll(8, 8.0))
        writer.take(poll(8, -8.0, device="other", layout=LATER))
        await writer.flush()
        assert samples(path) == expected(8, number)
        await writer.settle()
    assert samples(path) == expected(8, number)
    assert len(found(tmp_path, "meterd.damaged-journal-file-*")) == 1


async def test_a_flip_in_the_heads_of_the_file_loses_nothing_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await commits(path, 5)
    data = bytearray(file_wal.path_beside(path).read_bytes())
    data[10] ^= 1
    file_wal.path_beside(path).write_bytes(data)
    (told,) = check.problems(place_of(path))
    assert "head" in told
    async with store(path, to_file=True) as (writer, _):
        assert "nothing is lost" in writer.notices[0].text
        writer.take(poll(6, 6.0))
        writer.take(poll(6, -6.0, device="other", layout=LATER))
    assert samples(path) == expected(6)
    assert list(check.problems(place_of(path))) == []


async def test_a_file_without_any_head_is_kept_and_another_begun(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await commits(path, 5)
    file_wal.path_beside(path).write_bytes(bytes(1 << 14))
    async with store(path, to_file=True) as (writer, _):
        assert "kept as" in writer.notices[0].text
        writer.take(poll(6, 6.0))
    assert [time for time, _, _ in samples(path)] == [6]
    assert len(found(tmp_path, "meterd.db.journal.damaged-*")) == 1


async def test_names_that_are_lost_are_never_guessed(tmp_path: Path) -> None:
    """The file's names are damaged, and the database beside it has others under its numbers."""
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        writer.take(poll(1, 1.0, device="stranger"))
    shutil.move(path, tmp_path / "strange.db")
    await commits(path, 3)
    path.unlink()
    shutil.move(tmp_path / "strange.db", path)
    flip(path, 1, 30)
    async with store(path, to_file=True) as (writer, _):
        await writer.flush()
        assert [notice.text.partition("record ")[2][0] for notice in writer.notices] == list("123")
    assert samples(path) == [(1, "voltage.l1", 1.0)]
    names = rows(path, "SELECT name FROM device")
    assert names == [("stranger",)]
    assert len(found(tmp_path, "meterd.damaged-journal-file-*")) == 3


async def test_records_of_an_earlier_meterd_are_read(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await commits(path, 2)
    halves = AlternatingLog(file_wal.path_beside(path), 0)
    records = list(halves.bodies())
    plain = []
    for record in records:
        length = int.from_bytes(record[:4], "little") & ~(1 << 31)
        plain.append(length.to_bytes(4, "little") + record[8:])
    assert halves.restart(plain)
    halves.close()
    assert samples(path) == expected(2)


def test_a_server_has_no_place_for_the_file() -> None:
    with pytest.raises(StoreError, match="leave it out"):
        Writer("postgresql://u:p@localhost/meterd", to_file=True)
