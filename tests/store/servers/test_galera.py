"""Three nodes of a cluster: one is killed, another takes over; certification conflicts."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest

from meterd.errors import StoreError
from meterd.store.compaction.session import StoreSession
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, opened, poll

from .engines import Maria, database_of
from .test_conformance import stored
from .test_lost import committed, impatient, loaded, need_all

pytestmark = [pytest.mark.long, pytest.mark.needs("mariadbd", "rsync")]
__all__ = ["impatient"]

ROUNDS = 6


def node_of(writer: Writer) -> int:
    """The node that the writer speaks to."""
    found: int = writer._database._last  # type: ignore[attr-defined]
    return found


async def test_a_node_that_is_killed_under_load_loses_and_doubles_nothing(
    galera: Maria, tmp_path: Path
) -> None:
    urls = galera.urls(database_of(tmp_path))
    said = random.Random(4)
    nodes = []
    async with opened(Writer(urls, commit=0.05)) as writer, loaded(writer) as load:
        for _ in range(ROUNDS):
            await committed(writer, said.randrange(1, 300))
            node = node_of(writer)
            nodes.append(node)
            await asyncio.to_thread(galera.servers[node].kill)
            await committed(writer, 300)
            galera.servers[node].launch()
            await asyncio.to_thread(galera.await_up)
        await committed(writer, 100)
    assert len(set(nodes)) > 1
    for url in urls:
        need_all([url], load.taken)


async def test_readers_go_to_another_node_and_see_what_was_just_committed(
    galera: Maria, tmp_path: Path
) -> None:
    urls = galera.urls(database_of(tmp_path))
    async with opened(Writer(urls, commit=NEVER)) as writer:
        for time in range(50):
            writer.take(poll(time, float(time)))
            await writer.flush()
            assert len(next(iter(stored(urls[1 + time % 2]).values()))) == time + 1
        galera.servers[0].kill()
        try:
            reader = Reader.outside(urls)
            assert len(reader.names()) == 1
            reader.close()
        finally:
            galera.servers[0].launch()
            await asyncio.to_thread(galera.await_up)


@contextmanager
def disturbed(galera: Maria, name: str, statement: str) -> Iterator[None]:
    """Another node commits the same rows again and again."""
    going = threading.Event()
    going.set()

    def write() -> None:
        connection = pymysql.connect(
            host="127.0.0.1", port=galera.servers[2].port, user="root", database=name
        )
        while going.is_set():
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                connection.commit()
            except pymysql.err.Error:
                connection.rollback()
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        going.clear()
        thread.join()


async def test_transactions_that_lose_against_another_node_are_done_again(
    galera: Maria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = database_of(tmp_path)
    urls = galera.urls(name)
    lost: list[str] = []
    ours = StoreSession.commit

    def commit(self: StoreSession, *told: object, **more: object) -> int | None:
        try:
            return ours(self, *told, **more)  # type: ignore[arg-type]
        except StoreError as error:
            lost.append(error.code)
            raise

    monkeypatch.setattr(StoreSession, "commit", commit)
    async with opened(Writer(urls, commit=NEVER)) as writer:
        writer.remember("shared", "0")
        await writer.flush()
        with disturbed(galera, name, "UPDATE memo SET body = body + 1 WHERE name = 'shared'"):
            for time in range(150):
                writer.take(poll(time, float(time)))
                writer.remember("shared", "0")
                await _flushed(writer)
    assert lost
    assert set(lost) == {"conflict"}
    (points,) = stored(urls[1]).values()
    assert points == [(time, float(time)) for time in range(150)]


async def _flushed(writer: Writer) -> None:
    """Flush, as often as it takes: one that lost all its turns leaves the polls waiting."""
    while True:
        try:
            return await writer.flush()
        except StoreError as error:
            if error.code != "conflict":
                raise


def test_a_node_outside_of_the_cluster_is_passed_over(galera: Maria, tmp_path: Path) -> None:
    urls = galera.urls(database_of(tmp_path))
    galera.ask("SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:1'")
    try:
        place = store_url.find(urls)
        place.writing().close()
        assert place._last != 0  # type: ignore[attr-defined]
    finally:
        galera.servers[0].kill()
        galera.servers[0].launch()
        galera.await_up()
