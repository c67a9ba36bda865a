"""A writer that is meant to be killed: `URL SPOOL FIRST COUNT`; says how it fares, line by line.

Polls of two devices, FIRST and on, COUNT of them, are taken bit by bit; whenever something changed
`WRITABLE QUEUED SPOOLED COMMITTED SAFE` comes, until somebody ends it. SAFE polls are on a disk.
"""

import asyncio
import os
import sys
from pathlib import Path

from meterd.model.sample import Layout, Poll
from meterd.store.db import sqlite
from meterd.store.engine import spool_thread
from meterd.store.engine import store_thread as workers
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.writer import Writer

LAYOUT = Layout.of([("voltage.l1", "V"), ("active_power", "W"), ("active_energy.import", "Wh")])
RECORDS = 20  # so that many commits, and records of the spool, are made of them


async def run(url: str, spool: Path, first: int, count: int) -> None:
    workers._RETRY = spool_thread.GRACE = spool_thread._BEAT = 0.05
    pragmas = [one for one in sqlite.WRITER_PRAGMAS if not one.startswith("busy_timeout")]
    sqlite.WRITER_PRAGMAS = ("busy_timeout = 50", *pragmas)  # type: ignore[assignment]
    writer = Writer(url, commit=0.05, precautions=SpoolOptions(spool=spool))
    await writer.open()
    safe = [0]
    telling = asyncio.create_task(tell(writer, safe))
    for time in range(first, first + count):
        for device in ("one", "two"):
            values = (float(time), -float(time), time * 10.0)
            writer.take(Poll(device, time, LAYOUT, values, {}))
        if (time + 1) % max(1, count // RECORDS) == 0:
            while writer.status.queued:
                await asyncio.sleep(0.002)
            safe[0] = time + 1 - first
    await telling


async def tell(writer: Writer, safe: list[int]) -> None:
    told = ""
    while True:
        status = writer.status
        counts = status.queued, status.spooled, status.committed, safe[0]
        text = f"{status.writable:d} {' '.join(map(str, counts))}\n"
        if text != told:
            os.write(1, text.encode())
            told = text
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    url, spool, first, count = sys.argv[1:]
    asyncio.run(run(url, Path(spool), int(first), int(count)))
