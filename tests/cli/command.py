"""The meterd command as people run it: a process of its own, with pipes and an environment."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "meterd")
# What would change a command's behaviour, were it set where the tests run.
_OURS = ("METERD_CONFIG", "NO_COLOR", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "COLUMNS")
# Seconds; only ever reached where something hangs.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its stdout, as JSON."""
        return json.loads(self.out)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without what steers meterd, and `more`."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return kept | dict(more or {})


@asynccontextmanager
async def beside(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Any program while the block runs; killed at its end, whatever happens."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, cwd=cwd, env=environment(env)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    """Run any program to its end; killed where that does not come."""
    async with beside(*command, cwd=cwd, env=env) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def meterd(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    """Run meterd to its end."""
    return await run(*COMMAND, *arguments, cwd=cwd, env=env)


def samples(ended: Ended, device: int = 0) -> dict[str, float | None]:
    """The values of `meterd poll --format json`, by quantity."""
    assert ended.code == 0, ended.err
    said = ended.document["devices"][device]["samples"]
    return {quantity: sample["value"] for quantity, sample in said.items()}
