"""A device gets another name: in the store, in memory, in files, and for who still says the old."""

import asyncio
import json
from pathlib import Path

import pytest

from meterd.model.sample import Poll
from meterd.store.db import renames
from meterd.store.db.renames import RenameError
from meterd.store.reader import Reader
from meterd.store.tools.correct import Ask, Corrections
from meterd.store.writer import Writer

from .rigs import METER, NEVER, poll, rows, store, url_of

HOUR = 3_600_000
NOW = 1_700_000_000_000


def at(number: int, device: str = "old") -> Poll:
    return poll(NOW + number * HOUR, 230.0, 100.0, 1000.0 + number, device=device, layout=METER)


async def voltages(reader: Reader, device: str) -> list[int]:
    """The hours, counted from NOW, of which there is a voltage."""
    found = await reader.range([device], ["voltage.l1"], 0, 1 << 50, 0, "avg")
    return [(time - NOW) // HOUR for one in found for time, _ in one.points]


@pytest.mark.parametrize("to_file", [False, True])
async def test_history_goes_where_the_name_goes(tmp_path: Path, to_file: bool) -> None:
    """Sealed, in the journal, uncommitted and taken later under the old name: one series."""
    path = tmp_path / "meterd.db"
    async with store(path, to_file=to_file) as (writer, reader):
        for number in range(5):
            writer.take(at(number))
        await writer.settle()
        writer.take(at(5))
        await writer.flush()
        writer.take(at(6))
        await writer.rename("old", "new", who="anna", now=NOW)
        writer.take(at(7))  # by a bus that does not know yet
        writer.take(at(8, "new"))
        assert await voltages(reader, "new") == list(range(9))
        assert await voltages(reader, "old") == []
        await writer.flush()
        assert await voltages(reader, "new") == list(range(9))
        assert {one.device for one in await reader.series()} == {"new"}
    assert rows(path, "SELECT id, name FROM device") == [(1, "new")]
    assert {row[0] for row in rows(path, "SELECT device FROM v_series")} == {"new"}
    assert renames.of(url_of(path)) == {"old": "new"}
    outside = Reader.outside(url_of(path))
    assert await voltages(outside, "new") == list(range(9))
    outside.close()
    # The next start, still told the old name.
    async with store(path, to_file=to_file) as (writer, reader):
        writer.take(at(9))
        await writer.flush()
        assert await voltages(reader, "new") == list(range(10))
    assert rows(path, "SELECT id, name FROM device") == [(1, "new")]


async def test_renamed_back_and_on(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        writer.take(at(0))
        await writer.rename("old", "new", who="", now=NOW)
        await writer.rename("new", "newer", who="", now=NOW)
        assert writer.memory.catalog.renamed == {"old": "newer", "new": "newer"}
        await writer.rename("newer", "old", who="", now=NOW)
        writer.take(at(1, "new"))
        assert await voltages(reader, "old") == [0, 1]
    assert renames.of(url_of(path)) == {"new": "old", "newer": "old"}


async def test_a_former_name_can_be_another_devices(tmp_path: Path) -> None:
    """Also in a journal file, whose earlier records called the first one so."""
    path = tmp_path / "meterd.db"
    async with store(path, to_file=True) as (writer, reader):
        writer.take(at(0))
        await writer.rename("old", "new", who="", now=NOW)
        writer.memory.catalog.reclaim("old")
        writer.take(at(1, "old"))
        await writer.flush()
        assert (await voltages(reader, "new"), await voltages(reader, "old")) == ([0], [1])
    assert renames.of(url_of(path)) == {}
    async with store(path, to_file=True) as (writer, reader):
        assert (await voltages(reader, "new"), await voltages(reader, "old")) == ([0], [1])


async def test_a_spool_from_before_still_says_the_old_name(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        writer.take(at(0))
        await writer.rename("old", "new", who="", now=NOW)
    async with store(path) as (writer, reader):
        await writer.do(lambda _: writer._engine.write_at_once([at(1), at(2)]))
        assert await voltages(reader, "new") == [0, 1, 2]
    assert rows(path, "SELECT name FROM device") == [("new",)]


@pytest.mark.parametrize(
    ("old", "new", "code"), [("lost", "new", "unknown_device"), ("old", "other", "device_exists")]
)
async def test_what_cannot_be_renamed(tmp_path: Path, old: str, new: str, code: str) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        writer.take(at(0))
        writer.take(at(0, "other"))
        with pytest.raises(RenameError) as refused:
            await writer.rename(old, new, who="", now=NOW)
        assert refused.value.code == code
        assert (await voltages(reader, "old"), await voltages(reader, "other")) == ([0], [0])


async def test_the_error_says_what_it_is_called_now(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, _):
        writer.take(at(0))
        await writer.rename("old", "new", who="", now=NOW)
        with pytest.raises(RenameError, match="it is called new now"):
            await writer.rename("old", "newest", who="", now=NOW)


async def test_what_else_is_called_by_the_name(tmp_path: Path) -> None:
    """Memos, alerts, silences and corrections; a correction can be undone afterwards."""
    path = tmp_path / "meterd.db"
    alerts = {
        "alerts": [{"device": "old", "rule": "gone"}, {"device": "other"}],
        "silences": [{"device": "old"}, {"device": ""}],
    }
    async with store(path) as (writer, reader):
        writer.take(at(0))
        writer.remember("counters old", "{}")
        writer.remember("counters older", "[]")
        writer.remember("alerts", json.dumps(alerts))
        book = Corrections(writer, reader)
        made = await book.mark(Ask("old", "voltage.l1", NOW, NOW + 1, "clamp", "anna"), NOW + HOUR)
        assert await voltages(reader, "old") == []
        await writer.rename("old", "new", who="anna", now=NOW)
        (listed,) = await book.all()
        assert listed.device == "new"
        await book.undo(made.id, "anna", NOW + HOUR)
        assert await voltages(reader, "new") == [0]
    memos = {str(name): body for name, body in rows(path, "SELECT name, body FROM memo")}
    assert (memos["counters new"], memos["counters older"]) == ("{}", "[]")
    assert "counters old" not in memos
    state = json.loads(str(memos["alerts"]))
    assert [one["device"] for one in state["alerts"]] == ["new", "other"]
    assert [one["device"] for one in state["silences"]] == ["new", ""]
    (one,) = json.loads(str(memos["renames"]))
    assert one == {"device": 1, "old": "old", "new": "new", "time": NOW, "who": "anna"}


async def test_what_was_remembered_is_recalled_by_the_new_name(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        writer.take(at(0))
        writer.remember("counters old", "{}")
    async with store(path) as (writer, _):
        await writer.rename("old", "new", who="", now=NOW)
        assert (writer.recall("counters new"), writer.recall("counters old")) == ("{}", None)


async def test_a_rename_by_another_process_is_met_again(tmp_path: Path) -> None:
    """As by a tool while a server's connection was away: what is in memory follows."""
    path = tmp_path / "meterd.db"
    writer = Writer(url_of(path), commit=NEVER)
    await writer.open()
    reader = Reader(url_of(path), writer.memory)
    writer.take(at(0))
    await writer.flush()
    writer.take(at(1))

    def elsewhere(session: object) -> None:
        with writer._engine.open().transaction() as connection:
            renames.write(connection, renames.Rename(1, "old", "new", NOW))
        writer._engine.fail()

    await writer.do(elsewhere)
    await writer.flush()
    assert await voltages(reader, "new") == [0, 1]
    await asyncio.gather(writer.close())
    reader.close()
    assert rows(path, "SELECT name FROM device") == [("new",)]
