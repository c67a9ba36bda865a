"""Polls, clocks and stores for the tests of the store room."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from meterd.model.sample import Layout, Poll, QualityFlag
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.writer import Writer

NEVER = 1e9  # seconds; commits come by flush() alone
VOLTAGE = Layout.of([("voltage.l1", "V")])
METER = Layout.of([("voltage.l1", "V"), ("active_power", "W"), ("active_energy.import", "Wh")])


class Hands:
    """A clock whose hands the test moves."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now = now_ms
        self.elapsed = 100.0

    def monotonic(self) -> float:
        return self.elapsed

    def now_ms(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds


def poll(
    time: int,
    *values: float | None,
    device: str = "main",
    layout: Layout = VOLTAGE,
    doubts: Mapping[int, QualityFlag] | None = None,
) -> Poll:
    return Poll(device, time, layout, values, doubts or {})


def _file(path: Path) -> str:
    return f"sqlite:///{path}"


# What a path means; tests of servers (servers/conftest.py) put another meaning on top.
PLACES: list[Callable[[Path], str]] = [_file]


def url_of(path: Path) -> str:
    return PLACES[-1](path)


@asynccontextmanager
async def opened(writer: Writer) -> AsyncIterator[Writer]:
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


@asynccontextmanager
async def store(path: Path, **options: object) -> AsyncIterator[tuple[Writer, Reader]]:
    """A writer that commits when told, and its reader."""
    settings = {"commit": NEVER, **options}
    writer = Writer(url_of(path), **settings)  # type: ignore[arg-type]
    reader = Reader(url_of(path), writer.memory)
    try:
        async with opened(writer):
            yield writer, reader
    finally:
        reader.close()


async def raw(reader: Reader, quantity: str = "voltage.l1") -> list[tuple[int, float]]:
    """All points of one quantity of the device `main`."""
    found = await reader.range(["main"], [quantity], 0, 1 << 50, 0, "avg")
    return found[0].points if found else []


def rows(path: Path, question: str, *values: object) -> list[tuple[object, ...]]:
    """What a person with a SQL client sees."""
    if len(PLACES) > 1:
        with store_url.find(url_of(path)).reading() as there:
            return [tuple(row) for row in there.exec_driver_sql(question)]
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question, values).fetchall()
    finally:
        connection.close()


def samples(path: Path) -> list[tuple[int, str, float | None]]:
    """(time, quantity, value) of every sample that another process finds."""
    reader = Reader.outside(url_of(path))
    try:
        names = [(one.device, one.quantity, one.unit) for one in reader.names()]
        tracks = reader.columns(names, 0, 1 << 50)
    finally:
        reader.close()
    found = [
        (int(time), name[1], None if value != value else float(value))
        for name, track in zip(names, tracks, strict=True)
        for time, value in zip(track.times, track.values, strict=True)
    ]
    return sorted(found)
