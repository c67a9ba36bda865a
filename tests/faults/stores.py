"""Children that write a store while something is done to them; mounts that may be broken."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import meterd

from . import storing

_PATIENCE = 60.0
_TRACE = ("strace", "-f", "-q", "-o", "/dev/null", "--seccomp-bpf")


@dataclass(slots=True)
class Child:
    """One writer."""

    pid: int
    said: asyncio.StreamReader
    confirmed: list[range] = field(default_factory=list)
    end: tuple[int, int, float] | None = None  # polls taken, samples dropped, longest stall in s

    def kill(self, number: int = signal.SIGKILL) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    async def commits(self, more: int) -> None:
        """Until it has confirmed so many more."""
        wanted = len(self.confirmed) + more
        async with asyncio.timeout(_PATIENCE):
            while len(self.confirmed) < wanted:
                assert await self._hears(), "it ended before that"

    async def gone(self) -> None:
        """Until it is; what it said meanwhile is in `confirmed` and `end`."""
        async with asyncio.timeout(_PATIENCE):
            while await self._hears():
                continue

    async def _hears(self) -> bool:
        """One line; false where it is gone."""
        line = await self.said.readline()
        word, *rest = line.decode().split()
        if word == "kept":
            self.confirmed.append(range(int(rest[0]), int(rest[1]) + 1))
        elif word == "end":
            self.end = int(rest[0]), int(rest[1]), float(rest[2])
        return word != "gone"


class Nursery:
    """Where children come from, one at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def child(self, **order: object) -> Child:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        async with asyncio.timeout(_PATIENCE):
            said, pid = (await self._process.stdout.readline()).split()
        assert said == b"pid"
        return Child(int(pid), self._process.stdout)

    async def traced(self, *injections: str, **order: object) -> Child:
        """A child whose system calls fail, wait or kill as strace's `inject=` says."""
        child = await self.child(waits=True, **order)
        await _stopped(child.pid)
        told = [part for one in injections for part in ("-e", f"inject={one}")]
        calls = ",".join(one.split(":")[0] for one in injections)
        command = (*_TRACE, "-e", f"trace={calls}", *told, "-p", str(child.pid))
        await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        await _attached(child.pid)
        child.kill(signal.SIGCONT)
        return child


@asynccontextmanager
async def nursery(**environment: str) -> AsyncIterator[Nursery]:
    root = Path(meterd.__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(storing.__file__)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
    )
    try:
        yield Nursery(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(60):
            await process.wait()


def _status(pid: int, key: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(f"{key}:"))


async def _stopped(pid: int) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not _status(pid, "State").startswith("T"):
            await asyncio.sleep(0.005)


async def _attached(pid: int) -> None:
    async with asyncio.timeout(_PATIENCE):
        while _status(pid, "TracerPid") == "0":
            await asyncio.sleep(0.005)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own; skips the test where this user, or machine, may not mount."""
    folder.mkdir(exist_ok=True)
    try:
        run("mount", *options, str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", b"") or b""
        pytest.skip(f"cannot mount here: {told.decode().strip() or error}")
    try:
        yield folder
    finally:
        run("umount", str(folder))


def image(path: Path, kind: str) -> Path:
    """A disk in a file, with a file system on it."""
    with path.open("wb") as file:
        # 300 MB is the least that mkfs.xfs makes; it is sparse.
        file.truncate(320 << 20)
    run(f"mkfs.{kind}", *(("-F", "-q") if kind == "ext4" else ("-q",)), str(path))
    return path
