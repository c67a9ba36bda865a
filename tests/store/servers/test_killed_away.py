"""kill -9 while the store is away, in every state: what waited a commit interval is all there."""

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

import meterd
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, opened

from . import keeper_child
from .engines import Engine, database_of
from .relay import Relay
from .test_lost import need_all

COUNT = 200


class Place(Protocol):
    """A store that comes and goes; `url` is that of the child, `direct` ours."""

    url: str
    direct: list[str]

    def go(self) -> None: ...

    def come(self) -> None: ...


class Server:
    def __init__(self, engine: Engine, name: str) -> None:
        self.relay = Relay(engine.servers[0].port)
        self.direct = engine.urls(name)
        self.url = self.direct[0].replace(f":{engine.servers[0].port}/", f":{self.relay.port}/")

    def go(self) -> None:
        self.relay.closed = True
        self.relay.cut()

    def come(self) -> None:
        self.relay.closed = False


class File:
    """Locked by another program."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self.direct = [self.url]
        self._path = path
        self._held: sqlite3.Connection | None = None

    def go(self) -> None:
        self._held = sqlite3.connect(self._path, isolation_level=None)
        self._held.execute("BEGIN IMMEDIATE")

    def come(self) -> None:
        assert self._held is not None
        self._held.rollback()
        self._held.close()


KINDS = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.needs("postgres")),
    pytest.param("maria", marks=pytest.mark.needs("mariadbd")),
]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield File(tmp_path / "meterd.db")
        return
    made = Server(request.getfixturevalue(request.param), database_of(tmp_path))
    yield made
    made.relay.end()


@asynccontextmanager
async def child(place: Place, folder: Path, first: int = 0) -> AsyncIterator[Process]:
    """Ends by kill -9, whatever it does then."""
    root = Path(meterd.__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(keeper_child.__file__)),
        place.url,
        str(folder / "spool"),
        str(first),
        str(COUNT),
        stdout=PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


class Told(NamedTuple):
    """What the child says of itself; `safe` counts polls, the others samples."""

    writable: int
    queued: int
    spooled: int
    committed: int
    safe: int


async def until(process: Process, found: Callable[[Told], bool]) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(120):
        while line := await process.stdout.readline():
            if found(Told(*map(int, line.split()))):
                return
    raise AssertionError("the child ended by itself")


async def all_there(place: Place, folder: Path, count: int) -> None:
    plan = SpoolOptions(spool=folder / "spool")
    async with opened(Writer(place.direct[0], commit=NEVER, precautions=plan)) as writer:
        await writer.settle()
        assert writer.status.spooled == 0
    need_all(place.direct, count)
    assert await asyncio.to_thread(lambda: list(folder.glob("spool-*"))) == []


@pytest.mark.parametrize("place", KINDS[1:], indirect=True)
async def test_it_was_away_at_the_start(place: Place, tmp_path: Path) -> None:
    place.go()
    async with child(place, tmp_path) as process:
        await until(process, lambda told: told.safe == COUNT)
    place.come()
    await all_there(place, tmp_path, COUNT)


async def test_it_went_away_later_and_came_back_while_replays_are_cut_short(
    place: Place, tmp_path: Path
) -> None:
    for turn in range(3):
        async with child(place, tmp_path, turn * COUNT) as process:
            await until(process, lambda told: told.writable == 1 and told.committed > 60)
            place.go()
            await until(process, lambda told: told.safe == COUNT and told.spooled > 0)
            if turn < 2:
                place.come()
                # In the middle of bringing them back.
                await until(process, lambda told: told.writable == 1)
    place.come()
    await all_there(place, tmp_path, 3 * COUNT)
