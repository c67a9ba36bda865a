"""Programs that run beside a test and end with it."""

import asyncio
import os
import re
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tests.cli.command import COMMAND, environment

T = TypeVar("T")

# Seconds; only ever reached where something hangs.
PATIENCE = 60.0
_STEP = 0.05


async def eventually(
    look: Callable[[], Awaitable[T | None]], what: str, patience: float = PATIENCE
) -> T:
    """What `look` finds, as soon as it finds something."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(_STEP)
    raise AssertionError(f"within {patience:g} s never: {what}")


def files_in(folder: Path) -> list[str]:
    """The names of what is there, sorted."""
    return sorted(file.name for file in folder.iterdir())


async def end(process: Process) -> None:
    """Whatever it is doing."""
    if process.returncode is None:
        process.kill()
    await process.wait()


@asynccontextmanager
async def pty_pair(folder: Path) -> AsyncIterator[tuple[Path, Path]]:
    """Two serial ports with a cable between them, by socat."""
    ports = (folder / "one", folder / "other")
    ends = (f"pty,raw,echo=0,link={port}" for port in ports)
    process = await asyncio.create_subprocess_exec("socat", *ends, stdin=DEVNULL)

    async def there() -> bool | None:
        return all(port.exists() for port in ports) or None

    try:
        await eventually(there, "socat's ports")
        yield ports
    finally:
        await end(process)


class Daemon:
    """A `meterd run` or `meterd demo` that is up; `url` is its page without the slash."""

    def __init__(self, process: Process, log: Path, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.log = log
        self.url = ""
        self._session = session

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return self.log.read_text("utf-8")

    async def text(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        async with self._session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def get(self, path: str, **query: str) -> Any:
        """The JSON below /api/v1."""
        async with self._session.get(f"{self.url}/api/v1/{path}", params=query) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            return body

    async def latest(self) -> dict[tuple[str, str], dict[str, Any]]:
        """By device and quantity."""
        found = (await self.get("latest"))["samples"]
        return {(sample["device"], sample["quantity"]): sample for sample in found}

    async def metrics(self) -> dict[str, float]:
        """The metrics without labels, all of one moment."""
        _, exposition = await self.text("/metrics")
        found = re.findall(r"^(\w+) (\S+)$", exposition, re.MULTILINE)
        return {name: float(value) for name, value in found}

    async def ready(self) -> None:
        """Every device was asked once."""

        async def look() -> bool | None:
            return (await self.text("/readyz"))[0] == 200 or None

        await eventually(look, "readyz")

    async def says(self, pattern: str) -> re.Match[str]:
        """The first match in its stderr."""

        async def look() -> re.Match[str] | None:
            if (found := re.search(pattern, self.said)) is None:
                assert self.process.returncode is None, self.said
            return found

        return await eventually(look, pattern)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stop(self) -> float:
        """SIGTERM; the seconds until it is gone. Anything but exit code 0 fails the test."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
        assert code == 0, self.said
        return time.monotonic() - began


@asynccontextmanager
async def daemon(
    *arguments: str | Path, folder: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Daemon]:
    """meterd with these arguments, from the moment that it tells its URL; killed at the end."""
    log = folder / f"stderr-{os.urandom(4).hex()}.txt"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            stdin=DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=folder,
            env=environment(env),
        )
    try:
        async with aiohttp.ClientSession() as session:
            running = Daemon(process, log, session)
            running.url = (await running.says(r"http://127\.0\.0\.1:\d+"))[0]
            yield running
    finally:
        await end(process)


@asynccontextmanager
async def first_line(
    *command: str | Path, given: str = "", end_with: signal.Signals | None = None
) -> AsyncIterator[str]:
    """The first line that a program prints, while it runs; killed at the end.

    With `end_with` it is asked to end by that signal, and has to do so with exit code 0.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(given.encode())
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            line = await process.stdout.readline()
        assert line, f"{command[0]} ended without a word"
        yield line.decode().strip()
        if end_with is not None:
            process.send_signal(end_with)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
    finally:
        await end(process)
