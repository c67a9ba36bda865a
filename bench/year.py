"""A year of the house through the writer as the daemon has it, and the same samples for others.

Its commits are an hour of the stream apart, so that a year takes minutes; blocks, roll-ups and
hours don't depend on that. Another process makes the samples.
"""

import asyncio
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench import house
from bench.flash import Stepped
from meterd.store.query.series_array import SeriesArray
from meterd.store.writer import Writer

DAYS = 365
_COMMIT = 3600 // 10  # polls
_SETTLED = 26 * 3600 * 1000  # ms; by then a day is closed without the next one's polls


def make(
    path: Path, data: Path, names: Sequence[str], days: int = DAYS
) -> list[tuple[str, SeriesArray]]:
    """Writes the store at `path`; gives these series as they went in (25 MB each)."""
    values = np.empty((len(names), days * house.POLLS))
    asyncio.run(_write(path, _kept(_made(data, days), names, values)))
    times = np.concatenate([np.asarray(house.times(number)) for number in range(days)])
    return [(name, SeriesArray(times, row)) for name, row in zip(names, values, strict=True)]


def _kept(
    days: Iterator[house.Lanes], names: Sequence[str], values: "np.ndarray[tuple[int, int]]"
) -> Iterator[house.Lanes]:
    places = [house.NAMES.index(name) for name in names]
    for number, lanes in enumerate(days):
        start = number * house.POLLS
        for row, place in zip(values, places, strict=True):
            row[start : start + house.POLLS] = lanes[place]
        yield lanes


async def _write(path: Path, days: Iterator[house.Lanes]) -> None:
    clock = Stepped()
    writer = Writer(f"sqlite:///{path}", commit=1e9, clock=clock)
    await writer.open()
    for number, lanes in enumerate(days):
        for n, poll in enumerate(house.polls(number, lanes), 1):
            clock.now = poll.time
            writer.take(poll)
            if n % _COMMIT == 0:
                await writer.flush()
    clock.now += _SETTLED
    await writer.settle()
    await writer.close()


def _made(data: Path, days: int) -> Iterator[house.Lanes]:
    """One day ahead of who takes them. Raises EOFError where the other process fails."""
    ours, theirs = Pipe(duplex=False)
    process = Process(target=_give, args=(theirs, data, days), daemon=True)
    process.start()
    theirs.close()
    for _ in range(days):
        yield ours.recv()
    process.join()


def _give(to: "Connection[house.Lanes, None]", data: Path, days: int) -> None:
    for day in house.lanes(data, 0, days):
        to.send(day)
