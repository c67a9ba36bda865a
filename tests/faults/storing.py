"""Forks writers that faults are then done to; a fork has everything loaded already.

Reads one JSON object a line: `url`, `first` (the first poll's time), and whether it `waits` for
SIGCONT, uses a journal `file`, and stamps polls by the system's `clock`. Writes `pid N`, then
`kept FIRST LAST` for each batch that a commit confirmed, at SIGTERM
`end POLLS SAMPLES-DROPPED LONGEST-STALL`, and `gone` when the child is.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import alembic.command
import sqlalchemy.dialects.sqlite  # noqa: F401 (loaded once, before the forks)

from meterd.model.clock import SystemClock
from meterd.model.sample import Poll
from meterd.store.engine import store_thread as workers
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.writer import Writer
from tests.store.nursery import COLUMNS, LAYOUT, kept, say, value

assert alembic.command

# Between two tries of a store that failed, in seconds: faults that pass are met in a short life.
workers._RETRY = 0.3

_MOST = 400  # polls that no commit has confirmed


async def write(order: dict[str, Any]) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    spool = Path(order["spool"]) if "spool" in order else None
    writer = Writer(
        order["url"],
        commit=0.02,
        confirmed=kept,
        to_file=order.get("file", False),
        precautions=SpoolOptions(spool=spool),
    )
    await writer.open()
    taken, longest = 0, 0.0
    while not stopped.is_set():
        began = time.monotonic()
        await asyncio.sleep(0.002)
        longest = max(longest, time.monotonic() - began)
        if writer.status.queued < _MOST * COLUMNS or order.get("clock"):
            taken += take(writer, order, taken)
    await writer.close()
    say(f"end {taken} {writer.status.dropped} {longest:.3f}")


def take(writer: Writer, order: dict[str, Any], taken: int) -> int:
    """Some polls; how many."""
    if order.get("clock"):
        now = SystemClock().now_ms()
        writer.take(Poll("main", now, LAYOUT, tuple(value(now, c) for c in range(COLUMNS))))
        return 1
    for moment in range(order["first"] + taken, order["first"] + taken + 10):
        values = tuple(value(moment, column) for column in range(COLUMNS))
        writer.take(Poll("main", moment, LAYOUT, values))
    return 10


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            if order.get("waits"):
                os.kill(os.getpid(), signal.SIGSTOP)
            asyncio.run(write(order))
            os._exit(0)
        os.waitpid(child, 0)
        say("gone")


if __name__ == "__main__":
    main()
