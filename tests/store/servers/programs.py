"""Database servers of the system on loopback, with data directories and ports of their own.

Each one ends with the process that started it, whatever becomes of that. Programs are started
from the main thread only: who starts one from another thread would end it with that thread.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import lasting

PASSWORD = "s3cret:/@word"
QUOTED = "s3cret%3A%2F%40word"
_PATIENCE = 60.0
_MEMORY = Path("/dev/shm")
_ROOM = 3 << 30
_NOBODY = ("--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
_PLACES = os.pathsep.join(
    (
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
        os.environ.get("PATH", ""),
        "/usr/sbin",
    )
)


def find(program: str) -> str:
    found = shutil.which(program, path=_PLACES)
    assert found is not None, f"{program} is not installed (see tests/system.sh)"
    return found


def unprivileged(command: Sequence[str]) -> list[str]:
    """The command as one who may do nothing, and that ends with its parent."""
    drop = _NOBODY if os.getuid() == 0 else ()
    return ["setpriv", "--pdeathsig", "KILL", *drop, *command]


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that the servers may use; not below pytest's, which only its owner enters."""
    # Short: the path of a socket has room for 107 bytes. In memory where that is large enough:
    # a database a test is much to write, and no test here is about the disk.
    place = _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None
    folder = Path(tempfile.mkdtemp(prefix="meterd-", dir=place))
    if os.getuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """One server. `command` starts it; `port` is where it then listens."""

    def __init__(self, folder: Path, command: Sequence[str], port: int) -> None:
        self.port = port
        self._folder = folder
        self._command = unprivileged(command)
        self._is_postgres = command[0].endswith("postgres")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._folder / f"{self.port}.log"

    def launch(self, *more: str) -> None:
        """Without waiting until it answers. `more`: options for this time."""
        command = [*self._command, *more]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )
        lasting.PROCESSES.add(self._process.pid)

    def await_up(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            assert self._process is not None, "not launched"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            text = self.log.read_text(errors="replace")[-3000:]
            assert self._process.poll() is None, f"the server ended: {text}"
            assert time.monotonic() < end, f"the server does not listen: {text}"
            time.sleep(0.02)

    def start(self) -> None:
        self.launch()
        self.await_up()

    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """As an administrator would."""
        self._end(signal.SIGINT if self._is_postgres else signal.SIGTERM)

    def kill(self) -> None:
        """As if it had crashed."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        children = _children(self._process.pid)
        self._process.send_signal(number)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        # Those of a PostgreSQL that was killed hold its memory, and no other one starts meanwhile.
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and any(map(_is_running, children)):
            time.sleep(0.02)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in told.split()]
    return []


def _is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        # After the name in parentheses: a zombie has ended, whoever is to be told.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def run(command: Sequence[str], **options: str) -> None:
    done = subprocess.run(
        unprivileged(command),
        capture_output=True,
        text=True,
        input=options.get("said"),
        cwd=options.get("folder", "/"),
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
