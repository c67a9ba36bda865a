"""Files that are deleted, replaced or moved while a writer has them open."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.event import EventKind
from meterd.store.db import store_url
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.tools import check

from .rigs import Hands, poll, raw, samples, store, url_of

HOUR = 3_600_000


def problems(path: Path) -> list[str]:
    return list(check.problems(store_url.find(url_of(path))))


def bodies(folder: Path, pattern: str) -> list[bytes]:
    return [file.read_bytes() for file in folder.glob(pattern)]


def delete(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def named(path: Path, *ends: str) -> list[Path]:
    return [path.with_name(path.name + end) for end in ends]


WAYS: dict[str, Callable[[Path], object]] = {
    "database": delete,
    "database, log and index": lambda path: delete(*named(path, "", "-wal", "-shm")),
    "log": lambda path: delete(*named(path, "-wal")),
    "index": lambda path: delete(*named(path, "-shm")),
    "log and index": lambda path: delete(*named(path, "-wal", "-shm")),
    "journal": lambda path: delete(*named(path, ".journal")),
    "lock": lambda path: delete(*named(path, ".lock")),
    "everything": lambda path: delete(*path.parent.glob(f"{path.name}*")),
    "database moved": lambda path: [path.rename(path.with_name("elsewhere.db")), None][1],
    "log overwritten by a copy": lambda path: _another(*named(path, "-wal")),
}


def _another(path: Path) -> None:
    """The same bytes under another inode."""
    body = path.read_bytes()
    path.unlink()
    path.with_name("another").write_bytes(body)
    path.with_name("another").rename(path)


@pytest.mark.parametrize("to_file", [False, True], ids=["table", "file"])
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_polled_is_lost_with_a_file(tmp_path: Path, way: str, to_file: bool) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    path = folder / "meterd.db"
    async with store(path, to_file=to_file) as (writer, reader):
        for time in range(5):
            writer.take(poll(time, float(time)))
            await writer.flush()
            assert len(await raw(reader)) == time + 1
        WAYS[way](path)
        for time in range(5, 10):
            writer.take(poll(time, float(time)))
            await writer.flush()
            # Of what no file holds any more, nothing is confirmed.
            assert [t for t, _, _ in samples(path)] == list(range(time + 1))
        assert writer.status.writable
        told = [one for one in writer.notices if one.kind is EventKind.STORE_BEGUN_ANEW]
        # The table's journal is no file, and a lock that is made again holds all that it held.
        untold = way == "lock" or (way == "journal" and not to_file)
        assert [str(path) in one.text for one in told] == ([] if untold else [True])
        assert len(told) == writer.status.begun_anew
        assert await raw(reader) == [(time, float(time)) for time in range(10)]
    assert [t for t, _, _ in samples(path)] == list(range(10))
    assert problems(path) == []


async def other_store(path: Path, device: str) -> None:
    """A store that numbers its devices and series in another way."""
    async with store(path, clock=Hands(3 * HOUR)) as (writer, _):
        for name in ("first", "second", device):
            for time in range(100, 105):
                writer.take(poll(time, float(time), device=name))
        await writer.flush()
        await writer.settle()


def by_device(path: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    connection = store_url.find(url_of(path))
    from meterd.store.reader import Reader

    reader = Reader.outside(url_of(path))
    try:
        for one in reader.names():
            (track,) = reader.columns([(one.device, one.quantity, one.unit)], 0, 1 << 50)
            values = zip(track.times.tolist(), track.values.tolist(), strict=True)
            found[one.device] = [(int(time), value) for time, value in values]
    finally:
        reader.close()
        connection.rest()
    return found


@pytest.mark.parametrize("to_file", [False, True], ids=["table", "file"])
async def test_another_store_in_its_place_keeps_its_numbers_and_its_pages(
    tmp_path: Path, to_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "meterd.db", tmp_path / "other.db"
    await other_store(other, "main")
    async with store(path, to_file=to_file) as (writer, reader):
        for time in range(5):
            writer.take(poll(time, float(time)))
            await writer.flush()
        # Its log stays where it was, and is none of the new file's.
        other.rename(path)
        with pytest.raises(StoreError, match="another file"):
            await raw(reader)
        writer.take(poll(5, 5.0))
        writer.take(poll(5, 55.0, device="new"))
        await writer.flush()
        assert await raw(reader) == [(t, float(t)) for t in (*range(6), *range(100, 105))]
    assert problems(path) == []
    expected = [(time, float(time)) for time in range(100, 105)]
    found = by_device(path)
    assert found.pop("first") == found.pop("second") == expected
    assert found == {
        "main": [*((time, float(time)) for time in range(6)), *expected],
        "new": [(5, 55.0)],
    }
    assert "is another file by now while meterd runs" in caplog.text


async def test_a_database_that_was_moved_gets_what_its_log_holds(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "meterd.db", tmp_path / "elsewhere.db"
    async with store(path) as (writer, _):
        for time in range(5):
            writer.take(poll(time, float(time)))
            await writer.flush()
        path.rename(elsewhere)
        writer.take(poll(5, 5.0))
        await writer.flush()
    with closing(sqlite3.connect(elsewhere)) as old:
        assert old.execute("SELECT count(*) FROM journal").fetchone() == (5,)
    assert problems(elsewhere) == []


@pytest.mark.parametrize(
    "content", [b"", b"no database at all\n" * 1000], ids=["empty", "no database"]
)
async def test_whatever_is_put_in_its_place_a_store_goes_on(tmp_path: Path, content: bytes) -> None:
    path, other = tmp_path / "meterd.db", tmp_path / "other"
    other.write_bytes(content)
    async with store(path) as (writer, reader):
        writer.take(poll(1, 1.0))
        await writer.flush()
        other.rename(path)
        writer.take(poll(2, 2.0))
        await writer.flush()
        assert await raw(reader) == [(1, 1.0), (2, 2.0)]
    assert [time for time, _, _ in samples(path)] == [1, 2]
    # Nothing was thrown away.
    assert not content or bodies(tmp_path, "*.corrupt-*") == [content]


async def test_another_programs_database_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path, other, away = tmp_path / "meterd.db", tmp_path / "other.db", tmp_path / "away.db"
    with closing(sqlite3.connect(other)) as theirs, theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    before = other.read_bytes()
    async with store(path) as (writer, reader):
        writer.take(poll(1, 1.0))
        await writer.flush()
        path.rename(away)
        other.rename(path)
        writer.take(poll(2, 2.0))
        for _ in range(2):
            with pytest.raises(StoreError, match="another program's"):
                await writer.flush()
        assert not writer.status.writable
        assert path.read_bytes() == before
        # The right one is back: nothing was lost meanwhile.
        away.rename(path)
        await writer.flush()
        assert await raw(reader) == [(1, 1.0), (2, 2.0)]
    assert [time for time, _, _ in samples(path)] == [1, 2]


async def test_where_its_disk_is_not_mounted_any_more_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away = tmp_path / "disk", tmp_path / "away"
    folder.mkdir()
    path = folder / "meterd.db"
    async with store(path, precautions=SpoolOptions(memory=16)) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        with monkeypatch.context() as unmounted:
            unmounted.setattr("meterd.store.db.file_identity.disk", lambda _: 4711)
            folder.rename(away)
            folder.mkdir()
            for time in (2, 3, 4):
                writer.take(poll(time, float(time)))
                with pytest.raises(StoreError, match="on another disk than before"):
                    await writer.flush()
            # The spool would be hidden, too, once the disk is back: the oldest is dropped instead.
            assert list(folder.iterdir()) == []
            assert (writer.status.queued, writer.status.dropped) == (2, 1)
        folder.rmdir()
        away.rename(folder)
        await writer.flush()
    assert [time for time, _, _ in samples(path)] == [1, 3, 4]


async def test_what_is_sealed_into_a_file_that_is_gone_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(0)
    async with store(path, clock=hands) as (writer, _):
        times = list(range(0, 2 * HOUR, 60_000))
        for time in times:
            writer.take(poll(time, 230.0))
        await writer.flush()
        hands.now = 3 * HOUR
        apply = writer._engine._session.apply  # type: ignore[union-attr]

        def vanish(change: object) -> int | None:
            path.unlink(missing_ok=True)
            return apply(change)  # type: ignore[arg-type]

        monkeypatch.setattr(writer._engine._session, "apply", vanish)
        await writer.settle()
    assert [time for time, _, _ in samples(path)] == times


async def test_a_journal_file_of_another_store_is_put_aside(tmp_path: Path) -> None:
    path, other = tmp_path / "meterd.db", tmp_path / "other.db"
    async with store(other, to_file=True) as (writer, _):
        writer.take(poll(1, 1.0, device="other"))
        await writer.flush()
    theirs = (tmp_path / "other.db.journal").read_bytes()
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        (tmp_path / "other.db.journal").rename(tmp_path / "meterd.db.journal")
        writer.take(poll(2, 2.0))
        await writer.flush()
    assert by_device(path) == {"main": [(1, 1.0), (2, 2.0)]}
    assert bodies(tmp_path, "*.journal.stray-*") == [theirs]
