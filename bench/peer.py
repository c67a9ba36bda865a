"""A program of others beside meterd, on loopback: what it has cost so far, and what it answers."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shutil import which

_PATIENCE = 60.0
_ANSWER = 300.0  # s; a year's question may take long on a busy machine
_NS = 1e-9


@cache
def installed(name: str, *programs: str) -> bool:
    """Says so once where one is not, and the bench goes on without it."""
    missing = [program for program in programs if which(program) is None]
    if missing:
        print(f"{name} is left out: no {' and no '.join(missing)} here", file=sys.stderr)
    return not missing


class Peer:
    """One that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self._tasks = Path(f"/proc/{process.pid}/task")
        self.url = url

    def cpu(self) -> float:
        """Seconds of all its threads, as the scheduler counts them; of those that ended, none."""
        return sum(map(_nanoseconds, self._tasks.iterdir())) * _NS

    def get(self, path: str) -> bytes:
        """Raises OSError (urllib's HTTPError, too)."""
        return self._answer(urllib.request.Request(self.url + path))

    def post(self, path: str, body: bytes, head: Mapping[str, str] | None = None) -> bytes:
        """Raises OSError (urllib's HTTPError, too)."""
        return self._answer(urllib.request.Request(self.url + path, body, dict(head or {})))

    def _answer(self, request: urllib.request.Request) -> bytes:
        with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
            body: bytes = answer.read()
            return body


def _nanoseconds(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended just now


def ports(count: int) -> list[int]:
    """Free ones of loopback, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


@contextmanager
def running(command: Sequence[str], port: int, ready: str) -> Iterator[Peer]:
    """From when it answers `ready` until the end, whatever happens."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        found = Peer(process, f"http://127.0.0.1:{port}")
        _wait(process, found, ready)
        yield found
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _wait(process: "subprocess.Popen[bytes]", found: Peer, ready: str) -> None:
    limit = time.monotonic() + _PATIENCE
    while True:
        try:
            found.get(ready)
        except OSError:
            if process.poll() is not None or time.monotonic() > limit:
                raise
            time.sleep(0.1)
        else:
            return


def size(folder: Path) -> int:
    """Bytes of its files."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
