"""Servers that do not answer: it is told, polls are spooled, and come to the store once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.event import EventKind
from meterd.store import reader as readers
from meterd.store import writer as writers
from meterd.store.db import servers
from meterd.store.engine import spool_thread
from meterd.store.engine import store_thread as workers
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.writer import Writer
from tests.store.rigs import opened

from .engines import Engine, Maria, Postgres, database_of
from .relay import Relay
from .test_lost import Load, committed, loaded, need_all

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_RETRY", 0.1)
    monkeypatch.setattr(servers, "_WRITING", 1.5)
    monkeypatch.setattr(spool_thread, "GRACE", 0.1)
    monkeypatch.setattr(spool_thread, "LATE", 0.6)
    monkeypatch.setattr(spool_thread, "_BEAT", 0.05)
    monkeypatch.setattr(writers, "_LAST_STATEMENT", 0.5)
    monkeypatch.setattr(readers, "_LAST_STATEMENT", 0.5)


@pytest.fixture
def relay(single: Engine) -> Iterator[Relay]:
    made = Relay(single.servers[0].port)
    yield made
    made.end()


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not found():
            await asyncio.sleep(0.01)


def through(urls: list[str], single: Engine, relay: Relay) -> str:
    return urls[0].replace(f":{single.servers[0].port}/", f":{relay.port}/")


def writer_of(url: str, folder: Path) -> Writer:
    return Writer(url, commit=0.1, precautions=SpoolOptions(spool=folder / "spool"))


async def away(writer: Writer) -> None:
    """Until it is told, and everything that was taken is on a disk."""
    await until(lambda: not writer.status.writable)
    assert writer.status.code == "unreachable"
    assert EventKind.STORE_NOT_WRITABLE in [notice.kind for notice in writer.notices]
    await until(lambda: writer.status.spooled > 0)


@pytest.mark.parametrize("lose", [False, True], ids=["arrived", "lost"])
async def test_a_commit_without_an_answer_is_told_spooled_and_not_doubled(
    single: Engine, relay: Relay, tmp_path: Path, lose: bool
) -> None:
    urls = single.urls(database_of(tmp_path))
    url = through(urls, single, relay)
    async with opened(writer_of(url, tmp_path)) as writer, loaded(writer) as load:
        await committed(writer, 20)
        relay.cut_at(b"COMMIT", lose=lose, mute=True)
        await until(lambda: relay.cuts == 1)
        # The statement is under way, and says so before it is given up.
        await away(writer)
        await until(lambda: writer.status.writable)
        await committed(writer, 20)
        await until(lambda: writer.status.spooled == 0)
    need_all(urls, load.taken)


def sessions(engine: Engine, database: str) -> list[int]:
    if isinstance(engine, Postgres):
        asked = "SELECT pid FROM pg_stat_activity WHERE application_name = 'meterd' AND datname ="
        return [row[0] for row in engine.ask(f"{asked} '{database}'")]
    return []


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.needs("postgres")
async def test_a_backend_that_is_stopped_is_left_behind(postgres: Postgres, tmp_path: Path) -> None:
    database = database_of(tmp_path)
    urls = postgres.urls(database)
    async with opened(writer_of(urls[0], tmp_path)) as writer, loaded(writer) as load:
        await committed(writer, 20)
        pids = sessions(postgres, database)
        assert pids
        with stopped(pids):
            await away(writer)
            # It still has the lock, and we know that it was ours.
            await until(lambda: "this meterd" in writer.status.error)
        # Once it goes on it is ended.
        await until(lambda: writer.status.writable)
        await until(lambda: writer.status.spooled == 0)
        assert not set(pids) & set(sessions(postgres, database))
    need_all(urls, load.taken)


@pytest.mark.needs("postgres")
async def test_the_end_comes_while_a_backend_is_stopped(postgres: Postgres, tmp_path: Path) -> None:
    database = database_of(tmp_path)
    urls = postgres.urls(database)
    writer = writer_of(urls[0], tmp_path)
    await writer.open()
    load = Load(writer)
    task = asyncio.create_task(load.run())
    await committed(writer, 20)
    with stopped(sessions(postgres, database)):
        await until(lambda: writer.status.queued > 0)
        load.stop()
        await task
        thread = writer._thread
        await writer.close()
        assert thread is not None
        assert not thread.is_alive()
        assert writer.status.queued == 0
    async with opened(writer_of(urls[0], tmp_path)) as again:
        await again.settle()
    need_all(urls, load.taken)


@pytest.mark.needs("mariadbd")
async def test_a_mariadb_that_is_stopped_as_a_whole_is_left_behind(
    maria: Maria, tmp_path: Path
) -> None:
    urls = maria.urls(database_of(tmp_path))
    (one,) = maria.servers
    async with opened(writer_of(urls[0], tmp_path)) as writer, loaded(writer) as load:
        await committed(writer, 20)
        assert one._process is not None
        with stopped([one._process.pid]):
            await away(writer)
        await until(lambda: writer.status.writable)
        await until(lambda: writer.status.spooled == 0)
    need_all(urls, load.taken)


@pytest.mark.needs("postgres")
async def test_a_standby_that_is_missing_makes_no_commit_wait_for_ever(
    postgres: Postgres, tmp_path: Path
) -> None:
    database = database_of(tmp_path)
    urls = postgres.urls(database)

    def standby(name: str) -> None:
        postgres.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        postgres.ask("SELECT pg_reload_conf()")

    async with opened(writer_of(urls[0], tmp_path)) as writer, loaded(writer) as load:
        await committed(writer, 20)
        standby("nobody")
        try:
            await away(writer)
            # No commit that was not confirmed counts as one, however often it is tried.
            before = writer.status.committed
            await until(lambda: "no answer" in writer.status.error)
            assert writer.status.committed == before
        finally:
            standby("")
        await until(lambda: writer.status.writable)
        await until(lambda: writer.status.spooled == 0)
    need_all(urls, load.taken)


async def test_a_lock_of_another_program_on_a_table_is_not_waited_for_without_end(
    single: Engine, tmp_path: Path
) -> None:
    database = database_of(tmp_path)
    urls = single.urls(database)
    async with opened(writer_of(urls[0], tmp_path)) as writer, loaded(writer) as load:
        await committed(writer, 20)
        with locked(single, database):
            await away(writer)
        await until(lambda: writer.status.writable)
        await until(lambda: writer.status.spooled == 0)
    need_all(urls, load.taken)


@contextlib.contextmanager
def locked(engine: Engine, database: str) -> Iterator[None]:
    """Another program that wants `journal` for itself."""
    if isinstance(engine, Postgres):
        with engine._connect(database) as connection:
            connection.execute(b"BEGIN")
            connection.execute(b"LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
            yield
            connection.execute(b"ROLLBACK")
        return
    assert isinstance(engine, Maria)
    other = engine._connect(engine.servers[0], database)
    try:
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLES journal WRITE")
            yield
            cursor.execute("UNLOCK TABLES")
    finally:
        other.close()


async def test_a_reader_is_bounded_at_the_end(single: Engine, relay: Relay, tmp_path: Path) -> None:
    from meterd.store.reader import Reader

    urls = single.urls(database_of(tmp_path))
    async with opened(writer_of(urls[0], tmp_path)) as writer:
        reader = Reader(through(urls, single, relay), writer.memory)
        relay.cut_at(b"SELECT", lose=True, mute=True)
        asked = asyncio.ensure_future(reader.range(["one"], ["voltage.l1"], 0, 1 << 40, 0, "avg"))
        await until(lambda: relay.cuts == 1)
        reader.close()
        with pytest.raises(StoreError, match="no answer"):
            await asked
