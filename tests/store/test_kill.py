import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import meterd

from . import nursery
from .rigs import rows, samples, url_of

ROUNDS_A_STORE = 5  # so that every fifth kill may also hit a store being made
MOST = 4  # commits from the start of a child to its death
LONGEST = 0.02  # seconds from the last of them to its death


@asynccontextmanager
async def running_nursery() -> AsyncIterator[Process]:
    root = Path(meterd.__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(nursery.__file__)),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(60):
            await process.wait()


async def killed_run(
    process: Process, path: Path, first: int, commits: int, moment: float
) -> list[range]:
    """Starts a writer, kills it `moment` seconds after so many commits; the times it confirmed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{url_of(path)} {first}\n".encode())
    said, pid = (await process.stdout.readline()).split()
    assert said == b"pid"
    said_so_far = [await process.stdout.readline() for _ in range(commits)]
    await asyncio.sleep(moment)
    os.kill(int(pid), signal.SIGKILL)
    while (line := await process.stdout.readline()) != b"gone\n":
        said_so_far.append(line)
    confirmed = []
    for line in said_so_far:
        said, begin, end = line.split()
        assert said == b"kept"
        confirmed.append(range(int(begin), int(end) + 1))
    return confirmed


def check(path: Path, confirmed: list[range]) -> None:
    """The store is sound, holds all that was confirmed, and only whole polls."""
    ((verdict,),) = rows(path, "PRAGMA integrity_check")
    assert verdict == "ok"
    made = rows(path, "SELECT 1 FROM sqlite_master WHERE name = 'journal'")
    whole: dict[int, int] = {}
    for time, quantity, value in samples(path) if made else ():
        assert value == nursery.value(time, int(quantity[3:]))
        whole[time] = whole.get(time, 0) + 1
    assert set(whole.values()) <= {nursery.COLUMNS}
    lost = [time for batch in confirmed for time in batch if time not in whole]
    assert lost == []


@pytest.mark.parametrize("kills", [15, pytest.param(100, marks=pytest.mark.long)])
async def test_no_confirmed_sample_is_lost_by_kill_9(tmp_path: Path, kills: int) -> None:
    moments = random.Random(20)
    everything = 0
    async with running_nursery() as process:
        confirmed: list[range] = []
        for round_ in range(kills):
            path = tmp_path / f"{round_ // ROUNDS_A_STORE}.db"
            if round_ % ROUNDS_A_STORE == 0:
                confirmed = []
            commits, moment = moments.randint(0, MOST), moments.uniform(0, LONGEST)
            batches = await killed_run(process, path, round_ * 1_000_000, commits, moment)
            confirmed += batches
            everything += sum(map(len, batches))
            if path.exists():
                check(path, confirmed)
    # Else nothing was shown: each confirmed commit has many polls.
    assert everything > 100 * kills
