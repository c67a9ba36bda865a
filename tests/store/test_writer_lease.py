"""One writer, however many names its database and its lock have."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import writer_lease
from meterd.store.db.writer_lease import LeaseHolder, is_dead, this_process
from meterd.store.tools import backup
from meterd.store.writer import Writer

from .rigs import NEVER, poll, rows, samples, store, url_of

US = replace(
    this_process((1, 10), (1, 20), None, 30.0),
    boot="this boot",
    host="machine host",
    pids="4026531836",
)
THEM = replace(US, id="other")


def test_who_held_our_lock_on_this_machine_is_gone() -> None:
    assert is_dead(replace(THEM, pids="a container's"), US) is True


def test_who_has_another_lock_is_judged_by_its_process() -> None:
    assert is_dead(replace(THEM, lock=11), US) is False
    # The same number is another process by now.
    assert is_dead(replace(THEM, lock=11, started="1"), US) is True
    assert is_dead(replace(THEM, lock=11, pid=1 << 22, started="1"), US) is True


def test_a_reboot_ends_everybody_of_this_machine() -> None:
    assert is_dead(replace(THEM, lock=11, boot="the one before"), US) is True


@pytest.mark.parametrize(
    "other",
    [
        replace(THEM, lock=11, pids="a container's"),
        replace(THEM, boot="another", host="elsewhere"),
        # Two machines may see one lock file and each have it: NFS without locks.
        replace(THEM, boot="", host="elsewhere"),
    ],
    ids=["container", "machine", "a machine that does not tell"],
)
def test_of_others_only_time_tells(other: LeaseHolder) -> None:
    assert is_dead(other, US) is None


def test_who_wrote_to_another_copy_of_the_file_is_no_matter() -> None:
    assert is_dead(replace(THEM, file=21, lock=11), US) is True


def test_what_is_written_is_read_and_nonsense_is_nobody() -> None:
    body = json.dumps(asdict(US))
    assert LeaseHolder.of(body) == US
    told = json.loads(body)
    for nonsense in (None, b"\x00", 7, "", "[]", "7", "{}", json.dumps(told | {"pid": "x"})):
        assert LeaseHolder.of(nonsense) is None
    endless = LeaseHolder.of(json.dumps(told | {"lease": 1e300}))
    assert endless is not None
    assert endless.lease == 3600.0


# SQLite names its log after the database, so a second name is met by another process only.
SECOND = """
import asyncio, sys
from meterd.store.writer import Writer
try:
    asyncio.run(Writer(sys.argv[1], commit=9.0).open())
except Exception as error:
    print(error.code, error)
"""


def second(path: Path) -> str:
    asked = [sys.executable, "-c", SECOND, url_of(path)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("to_file", [False, True], ids=["table", "file"])
async def test_a_second_name_of_the_database_lets_nobody_in(tmp_path: Path, to_file: bool) -> None:
    path, other = tmp_path / "meterd.db", tmp_path / "other.db"
    async with store(path, to_file=to_file) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        other.hardlink_to(path)
        refused = await asyncio.to_thread(second, other)
        assert refused.startswith(f"already_running meterd run (pid {os.getpid()} on ")
        assert "stop one of both" in refused
        writer.take(poll(2, 2.0))
        await writer.flush()
    assert [time for time, _, _ in samples(path)] == [1, 2]
    # Now that nobody writes there.
    assert await asyncio.to_thread(second, other) == ""


@pytest.mark.parametrize("to_file", [False, True], ids=["table", "file"])
async def test_a_lock_file_that_is_deleted_lets_nobody_in(tmp_path: Path, to_file: bool) -> None:
    path, lock = tmp_path / "meterd.db", tmp_path / "meterd.db.lock"
    async with store(path, to_file=to_file) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        lock.unlink()
        with pytest.raises(StoreError, match=r"stop one of both|keeps"):
            await Writer(url_of(path), commit=NEVER).open()
        writer.take(poll(2, 2.0))
        await writer.flush()
        # It is locked again by now, under its name.
        with pytest.raises(StoreError, match=f"another meterd .pid {os.getpid()}. keeps"):
            await Writer(url_of(path), commit=NEVER).open()
    assert [time for time, _, _ in samples(path)] == [1, 2]


def write_tenant(path: Path, other: LeaseHolder) -> None:
    with closing(sqlite3.connect(path)) as there, there:
        row = writer_lease.NAME, json.dumps(asdict(other))
        there.execute("INSERT OR REPLACE INTO memo VALUES (?, ?)", row)


async def made(path: Path) -> LeaseHolder:
    """A store that was closed; us, as its writer would be."""
    async with store(path) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        (body,) = rows(path, "SELECT body FROM memo WHERE name = ?", writer_lease.NAME)
    assert rows(path, "SELECT body FROM memo WHERE name = ?", writer_lease.NAME) == []
    found = LeaseHolder.of(body[0])
    assert found is not None
    return found


def running() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


async def test_who_took_the_store_over_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    us = await made(path)
    with running() as alive:
        other = replace(
            us, id="other", lock=0, pid=alive.pid, started=writer_lease._started(alive.pid)
        )
        async with store(path) as (writer, _):
            writer.take(poll(2, 2.0))
            await writer.flush()
            write_tenant(path, other)
            writer.take(poll(3, 3.0))
            for _ in range(2):
                with pytest.raises(StoreError, match="stop one of both"):
                    await writer.flush()
            assert not writer.status.writable
            assert writer.status.queued == 1
            alive.communicate(b"\n")
            await writer.flush()
    assert [time for time, _, _ in samples(path)] == [1, 2, 3]


async def test_a_killed_one_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    us = await made(path)
    killed = replace(us, id="other", pid=1 << 22, started="1", lock=0)
    for one in (killed, replace(us, id="other"), replace(us, id="o", boot="before", lock=0)):
        write_tenant(path, one)
        await asyncio.wait_for(asyncio.ensure_future(made(path)), 20)


class Looks:
    """Stands in for time.sleep: counts, and lets something happen meanwhile."""

    def __init__(self, path: Path, at: int) -> None:
        self.count = 0
        self._path = path
        self._at = at

    def __call__(self, _: float) -> None:
        self.count += 1
        if self.count == self._at:
            with self._path.with_name("meterd.db.journal").open("ab") as file:
                file.write(b"a commit")


async def test_a_writer_of_another_machine_has_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    us = await made(path)
    write_tenant(path, replace(us, id="other", boot="another", host="elsewhere", lease=90.0))
    silent = Looks(path, at=-1)
    writer = Writer(url_of(path), commit=NEVER)
    monkeypatch.setattr(writer._store_thread._writer_lease, "_sleep", silent)
    await writer.open()
    await writer.close()
    assert silent.count == 90
    write_tenant(path, replace(us, id="other", boot="another", host="elsewhere", lease=90.0))
    alive = Looks(path, at=30)
    writer = Writer(url_of(path), commit=NEVER)
    monkeypatch.setattr(writer._store_thread._writer_lease, "_sleep", alive)
    with pytest.raises(StoreError, match="stop one of both"):
        await writer.open()
    assert alive.count == 30


async def test_a_copy_of_a_store_in_use_is_a_store_of_its_own(tmp_path: Path) -> None:
    path, copy = tmp_path / "meterd.db", tmp_path / "copy.db"
    async with store(path) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        backup.backup(writer._database, copy)
        async with store(copy) as (other, _):
            other.take(poll(2, 2.0))
            await other.flush()
    assert [time for time, _, _ in samples(copy)] == [1, 2]
