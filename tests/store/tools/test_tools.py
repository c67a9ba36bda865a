"""What people ask of a store and do to it: info, check, backup, restore, compact."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.db.connections import Database
from meterd.store.tools import backup, check, compact, overview
from meterd.store.wal import file_wal
from meterd.store.wal.scanner import DamagedRange, Record
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, Hands, opened, poll, rows, samples, store, url_of
from tests.store.test_hours import DAY, HOUR, START, feed, history

_FILLED: dict[tuple[float, int], tuple[int, dict[str, bytes]]] = {}


async def filled(path: Path, hours: float = 60, seed: int = 1) -> int:
    """A settled store; returns its samples. The files of each kind are made once."""
    if (known := _FILLED.get((hours, seed))) is not None:
        for end, body in known[1].items():
            path.with_name(path.name + end).write_bytes(body)
        return known[0]
    count = await _fill(path, hours, seed)
    there = files_in(path.parent, f"{path.name}*")
    bodies = {one.name.removeprefix(path.name): one.read_bytes() for one in there}
    _FILLED[hours, seed] = count, bodies
    return count


async def _fill(path: Path, hours: float, seed: int) -> int:
    hands = Hands(START)
    polls = history(seed, START, hours)
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, polls)
        await writer.settle()
    return sum(len(one.values) for one in polls)


def place(path: Path) -> Database:
    return store_url.find(url_of(path))


def files_in(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def execute(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)
    connection.close()


async def test_info_counts_samples_bytes_and_days(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    count = await filled(path)
    told = overview.info(place(path))
    assert (told.samples, told.devices, told.series) == (count, 1, 4)
    assert (told.oldest, told.newest) == (START, START + 60 * HOUR - 10_000)
    assert told.bytes_per_sample is not None
    assert 0.5 < told.bytes_per_sample < 3
    assert told.size is not None
    assert told.size >= told.block_bytes > 0
    assert told.blocks == rows(path, "SELECT count(*) FROM block")[0][0]


async def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    for work in (overview.info, lambda one: list(check.problems(one))):
        with pytest.raises(StoreError, match="no store yet"):
            work(place(tmp_path / "meterd.db"))


async def test_a_sound_store_has_no_problems(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, history(2, START, 60))
        await writer.settle()
        # While it is written to.
        assert list(check.problems(place(path))) == []
        await feed(writer, hands, history(3, START + 5 * DAY, 30, energy=90_000.0))
        await writer.settle()
    assert list(check.problems(place(path))) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE block SET body = zeroblob(40) WHERE rowid = (SELECT min(id) FROM block)", "dama"),
        ("UPDATE block SET n = n + 1 WHERE id = (SELECT max(id) FROM block)", "its row says"),
        ("UPDATE rollup SET max = 999 WHERE id = (SELECT min(id) FROM rollup)", "max"),
        ("UPDATE rollup SET quarters = x'00' WHERE id = (SELECT min(id) FROM rollup)", "damaged"),
        ("DELETE FROM rollup WHERE id = (SELECT max(id) FROM rollup)", "is missing"),
        ("UPDATE journal SET body = x'0102030405'", "journal row"),
        ("DELETE FROM series WHERE quantity = 'active_power'", "has no series"),
    ],
)
async def test_what_is_wrong_is_named(tmp_path: Path, statement: str, says: str) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 50.5)
    execute(path, statement)
    found = list(check.problems(place(path)))
    assert any(says in line for line in found), found
    assert any("main" in line or "journal" in line or "unknown" in line for line in found)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("rollup", name) for name in ("n", "min", "max", "sum", "increase", "day", "series_id")),
        *(("rollup", name) for name in ("first_time", "first", "last_time", "last")),
        *(("hour", name) for name in ("n", "min", "max", "sum", "increase")),
    ],
)
async def test_a_plain_column_that_differs_from_the_packed_ones_is_found(
    tmp_path: Path, table: str, column: str
) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 26)
    # Not even the blocks are there to ask.
    execute(path, "DELETE FROM block")
    assert list(check.problems(place(path))) == []
    chosen = f"WHERE id = (SELECT min(id) FROM {table} WHERE {column} IS NOT NULL)"
    far = "1e7" if column in ("min", "max", "sum", "first", "last", "increase") else "900001"
    execute(path, f"UPDATE {table} SET {column} = {column} + {far} {chosen}")
    wrong = next(check.problems(place(path)))
    assert column.removesuffix("_id") in wrong


async def test_an_hour_too_much_or_missing_is_found(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 26)
    execute(path, "DELETE FROM hour WHERE id = (SELECT min(id) FROM hour)")
    (wrong,) = check.problems(place(path))
    assert "2023-12-09: 00:00 is missing" in wrong


async def test_values_changed_behind_their_checksum_are_found(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 50)
    other = tmp_path / "other.db"
    await filled(other, 50, seed=9)
    # A sound block of other values: only the roll-ups know.
    ((body,),) = rows(other, "SELECT body FROM block ORDER BY id LIMIT 1")
    execute(path, "UPDATE block SET body = ? WHERE id = (SELECT min(id) FROM block)", body)
    found = list(check.problems(place(path)))
    assert any("are not what its blocks say" in line for line in found)


async def test_a_backup_of_a_running_store_is_a_store(tmp_path: Path) -> None:
    path, copy = tmp_path / "meterd.db", tmp_path / "copy.db"
    hands = Hands(START)
    noted: list[int] = []
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, history(4, START, 30))
        await writer.settle()
        size = backup.backup(place(path), copy, noted.append)
        before = samples(copy)
        await feed(writer, hands, history(5, START + 2 * DAY, 1))
    assert size == copy.stat().st_size
    assert sum(noted) * 4096 == size
    assert files_in(tmp_path, "*.part*") == []
    assert before == samples(copy)
    assert len(samples(path)) > len(before) == sum(len(p.values) for p in history(4, START, 30))
    assert list(check.problems(place(copy))) == []
    with pytest.raises(StoreError, match="exists"):
        backup.backup(place(path), copy)


async def test_a_backup_holds_what_the_journal_file_holds(tmp_path: Path) -> None:
    path, copy = tmp_path / "meterd.db", tmp_path / "copy.db"
    hands = Hands(START)
    async with store(path, clock=hands, to_file=True) as (writer, _):
        await feed(writer, hands, history(4, START, 5.5))
        await writer.settle()
        confirmed = samples(path)
        backup.backup(place(path), copy)
        assert samples(copy) == confirmed
        await feed(writer, hands, history(5, START + 6 * HOUR, 1))
    assert sorted(file.name for file in files_in(tmp_path, "copy.db*")) == ["copy.db"]
    assert list(check.problems(place(copy))) == []
    backup.restore(place(path), copy, START)
    assert samples(path) == confirmed
    async with store(path, clock=hands, to_file=True) as (writer, _):
        await writer.settle()
    assert samples(path) == confirmed


async def test_a_journal_file_that_begins_anew_during_a_backup_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "meterd.db", tmp_path / "copy.db"
    hands, looks = Hands(START), list[int]()
    async with store(path, clock=hands, to_file=True) as (writer, _):
        await feed(writer, hands, history(4, START, 2.5))
        stale = file_wal.read_records(place(path))
        await writer.settle()
        real = file_wal.read_records

        def records(database: Database) -> list[Record | DamagedRange]:
            looks.append(1)
            return stale if len(looks) == 1 else real(database)

        monkeypatch.setattr(file_wal, "read_records", records)
        backup.backup(place(path), copy)
        assert samples(copy) == samples(path)
    assert len(looks) == 4
    assert rows(copy, "SELECT count(*) FROM journal") == [(1,)]


async def test_a_copy_that_has_no_room_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 5)
    left = tmp_path / "copy.db.part-wal"
    left.write_bytes(b"what a copy that was killed has left")

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_PAGES", 1)
        with pytest.raises(StoreError, match="disk is full"):
            backup.backup(place(path), tmp_path / "copy.db", full)
    with pytest.raises(KeyboardInterrupt):
        backup.backup(place(path), tmp_path / "copy.db", interrupted)
    assert files_in(tmp_path, "copy.db*") == []
    with pytest.raises(StoreError, match="make it first"):
        backup.backup(place(path), tmp_path / "nowhere" / "copy.db")
    assert backup.backup(place(path), tmp_path / "copy.db") > 0


def interrupted(_: int) -> None:
    raise KeyboardInterrupt


async def test_a_backup_is_put_back_and_the_old_file_kept(tmp_path: Path) -> None:
    path, copy = tmp_path / "meterd.db", tmp_path / "copy.db"
    await filled(path, 5)
    backup.backup(place(path), copy)
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        writer.take(poll(START + 9 * HOUR, 1.0))
        await writer.flush()
        with pytest.raises(StoreError) as refused:
            backup.restore(place(path), copy, START)
        assert refused.value.code == "already_running"
    newer = samples(path)
    aside = backup.restore(place(path), copy, START)
    assert samples(path) == samples(copy) != newer
    assert samples(aside[-1]) == newer


async def test_what_is_no_backup_is_not_put_back(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await filled(path, 2)
    (tmp_path / "text.db").write_bytes(b"no database at all\n" * 100)
    sqlite3.connect(tmp_path / "empty.db").close()
    before = path.read_bytes()
    for name, says in (("text", "not a database"), ("empty", "empty"), ("nothing", "not there")):
        with pytest.raises(StoreError, match=says):
            backup.restore(place(path), tmp_path / f"{name}.db", START)
    assert path.read_bytes() == before


async def test_compacting_merges_the_blocks_of_past_days(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        for start in range(0, 30, 3):
            await feed(writer, hands, history(start, START + start * HOUR, 3))
            hands.now = START + (start + 3) * HOUR + 200_000
            await writer.settle()
    before = samples(path)
    assert rows(path, "SELECT count(*) > 2 FROM block") == [(1,)]
    count, left = await compact.compact(url_of(path), hands.now)
    assert count > left
    assert rows(path, f"SELECT count(*) FROM block WHERE t0 < {START + DAY}") == [(1,)]
    assert samples(path) == before
    assert list(check.problems(place(path))) == []
