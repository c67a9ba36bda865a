"""Copies of a store in use whose database and journal file are of different moments."""

import logging
import shutil
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.tools import backup, check

from .rigs import Hands, poll, samples, store, url_of
from .test_hours import HOUR, START, history

EVERY = 10_000
MOMENTS = 7


def problems(path: Path) -> list[str]:
    return list(check.problems(store_url.find(url_of(path))))


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.glob("meterd.db*"):
        shutil.copy(file, target / file.name)
    return target


def kept(folder: Path) -> list[Path]:
    return list(folder.glob("meterd.damaged-copy-*"))


async def copied(folder: Path) -> tuple[list[Path], list[set[int]]]:
    """Copies at some moments, two an hour, and the times that were confirmed by then."""
    path, hands = folder / "meterd.db", Hands(START)
    copies, times = [], list[set[int]]()
    polls = history(1, START, MOMENTS / 2, every=EVERY)
    async with store(path, clock=hands, to_file=True) as (writer, _):
        for moment in range(MOMENTS):
            end = START + (moment + 1) * HOUR // 2
            for one in polls:
                if end - HOUR // 2 <= one.time < end:
                    writer.take(one)
            await writer.flush()
            hands.now = end + 130_000
            await writer.settle()
            copies.append(copy(folder, folder / f"copy-{moment}"))
            times.append({one.time for one in polls if one.time < end})
    return copies, times


async def test_no_two_moments_are_taken_for_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    copies, times = await copied(live)
    silent, told = [], 0
    for of_database in range(MOMENTS):
        for of_file in range(MOMENTS):
            folder = tmp_path / f"{of_database}-{of_file}"
            shutil.copytree(copies[of_database], folder)
            path = folder / "meterd.db"
            shutil.copy(copies[of_file] / "meterd.db.journal", folder / "meterd.db.journal")
            lacking = times[min(of_database, of_file)] - {time for time, _, _ in samples(path)}
            # What `db check` looks at first: the rest takes a second each.
            wrong = next(check.problems(store_url.find(url_of(path))), "")
            told += bool(wrong)
            assert not wrong or of_database != of_file
            if lacking and not wrong.startswith("the journal file is"):
                silent.append((of_database, of_file, len(lacking)))
    assert not silent
    assert told > MOMENTS


async def test_a_start_with_such_a_copy_says_so_until_somebody_has_looked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, folder = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    copies, _ = await copied(live)
    shutil.copytree(copies[0], folder)
    shutil.copy(copies[-1] / "meterd.db.journal", folder / "meterd.db.journal")
    path = folder / "meterd.db"
    with pytest.raises(StoreError, match="the journal file is newer than the database"):
        backup.restore(store_url.find(url_of(tmp_path / "restored.db")), path, 0)
    assert not (tmp_path / "restored.db").exists()
    for _ in range(2):
        async with store(path, to_file=True, clock=Hands(START + 9 * HOUR)) as (writer, _):
            writer.take(poll(START + 9 * HOUR, 1.0))
            await writer.flush()
            await writer.settle()
    (told,) = [r.message for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "the journal file is newer than the database" in told
    (mark,) = kept(folder)
    assert any(str(mark) in wrong for wrong in problems(path))
    mark.unlink()
    assert problems(path) == []


@pytest.mark.parametrize("to_file", [False, True], ids=["table", "file"])
async def test_a_journal_file_that_was_not_copied_is_missed(
    tmp_path: Path, to_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "meterd.db"
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
    (tmp_path / "meterd.db.journal").unlink()
    assert problems(path)[0].startswith("the journal file is missing")
    async with store(path, to_file=to_file) as (writer, _):
        writer.take(poll(2, 2.0))
        await writer.flush()
    assert "the journal file is missing" in caplog.text
    assert len(kept(tmp_path)) == 1


async def test_a_journal_that_changes_its_place_and_a_backup_are_whole(tmp_path: Path) -> None:
    path, saved = tmp_path / "meterd.db", tmp_path / "copy.db"
    for number, to_file in enumerate((True, False, True, True, False)):
        async with store(path, to_file=to_file, clock=Hands(START + number * HOUR)) as (writer, _):
            writer.take(poll(START + number * HOUR, 1.0))
            await writer.flush()
            await writer.settle()
            assert problems(path) == []
        saved.unlink(missing_ok=True)
        backup.backup(store_url.find(url_of(path)), saved)
        assert problems(saved) == []
        assert samples(saved) == samples(path)
    backup.restore(store_url.find(url_of(path)), saved, 0)
    assert problems(path) == []


async def test_a_file_without_heads_is_not_taken_for_another_moment(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
    file = tmp_path / "meterd.db.journal"
    body = bytearray(file.read_bytes())
    for start in (0, len(body) // 2):
        body[start : start + 8192] = bytes(8192)
    file.write_bytes(body)
    assert not any("than the database" in wrong for wrong in problems(path))
    async with store(path, to_file=True) as (writer, _):
        writer.take(poll(2, 2.0))
        await writer.flush()
    assert [time for time, _, _ in samples(path)] == [2]
    assert kept(tmp_path) == []
