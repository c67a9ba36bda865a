"""Forks writers that are meant to be killed; a fork has SQLAlchemy loaded already.

Reads `URL FIRST` lines; each starts a child that polls at the times FIRST, FIRST + 1, …
Writes `pid N`, then `kept FIRST LAST` for each batch that a commit confirmed, then `gone`.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

import alembic.command
import sqlalchemy.dialects.sqlite  # noqa: F401 (loaded once, before the forks)

from meterd.model.sample import Layout, Poll
from meterd.store.head.head import SeriesBatch
from meterd.store.writer import Writer

COLUMNS = 40
POLLS = 100  # a commit: it takes long enough to be hit in its middle
LAYOUT = Layout.of([(f"x.c{column}", "V") for column in range(COLUMNS)])

assert alembic.command


def value(time: int, column: int) -> float:
    """What the child says it measured; the parent knows it too."""
    return time / 4 + column


def say(text: str) -> None:
    # One write: whole lines arrive, or none.
    os.write(1, f"{text}\n".encode())


def kept(batches: Sequence[SeriesBatch]) -> None:
    for batch in batches:
        say(f"kept {batch.times[0]} {batch.times[-1]}")


async def write(url: str, time: int) -> None:
    writer = Writer(url, commit=0.02, confirmed=kept)
    await writer.open()
    while True:
        for _ in range(POLLS):
            values = tuple(value(time, column) for column in range(COLUMNS))
            writer.take(Poll("main", time, LAYOUT, values))
            time += 1
        while writer.status.queued > POLLS:
            await asyncio.sleep(0.002)


def main() -> None:
    for line in sys.stdin:
        url, first = line.split()
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            asyncio.run(write(url, int(first)))
        os.waitpid(child, 0)
        say("gone")


if __name__ == "__main__":
    main()
