"""The journal in a file: the same answers as from the table, at every restart."""

import shutil
from array import array
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store import filed
from meterd.store.format import journal
from meterd.store.format.columns import Column, Span
from meterd.store.records import Halves
from meterd.store.writer import Writer

from .rigs import Hands, poll, raw, rows, samples, store
from .test_sealing import HOUR, START, alike, answers, feed, history
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
    assert len(filed.read(filed.place(path))) <= 360
    assert rows(path, "SELECT sum(n) FROM block") == [(10800 - len(filed.read(filed.place(path))),)]


async def test_a_file_that_is_too_small_leaves_the_rest_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filed.Filed.__init__, "__defaults__", (1 << 14,))
    path = tmp_path / "meterd.db"
    hands, polls = Hands(START), history(2, START, 5)
    async with store(path, clock=hands, to_file=True) as (writer, _):
        for start in range(0, len(polls), 100):
            for one in polls[start : start + 100]:
                writer.take(one)
            await writer.flush()
    assert rows(path, "SELECT count(*) > 3 FROM journal") == [(1,)]
    assert len(filed.read(filed.place(path))) > 100
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
    assert not filed.place(path).exists()
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
    halves = Halves(filed.place(path), 0)
    stranger = Span(1, array("q", [2]), (Column(99, range(1), array("d", [2.0])),))
    halves.append(bytes(4) + journal.encode([stranger], {}))
    halves.close()
    with pytest.raises(StoreError, match="series 99, which it does not name"):
        filed.read(filed.place(path))
    async with store(path, to_file=True) as (writer, reader):
        assert await raw(reader) == [(1, 1.0)]
        writer.take(poll(3, 3.0))
        await writer.settle()
    assert len(found(tmp_path, "meterd.damaged-journal-file-*")) == 1
    async with store(path, to_file=True) as (_, reader):
        assert await raw(reader) == [(1, 1.0), (3, 3.0)]
    assert len(found(tmp_path, "meterd.damaged-journal-file-*")) == 1
    assert len(samples(path)) == 2


def test_a_server_has_no_place_for_the_file() -> None:
    with pytest.raises(StoreError, match="leave it out"):
        Writer("postgresql://u:p@localhost/meterd", to_file=True)
