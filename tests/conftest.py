"""What all tests share: a run is like any other, and leaves nothing behind.

Programs of the system are needed by name, never by silent luck.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import lasting
from tests.virtual import new_loop, seed_of

# Debian keeps the programs of each PostgreSQL in a folder of its own.
_POSTGRES = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
# And those of Python packages stand beside the interpreter.
_BESIDE = str(Path(sys.executable).parent)
_PLACES = os.pathsep.join(
    (os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/lib/nut", *_POSTGRES, _BESIDE)
)
_FILES = {"libmodbus-dev": "/usr/include/modbus/modbus.h"}


# What waits longest begins first, so that no worker has much to do when the others are done.
_FIRST = ("e2e/", "store/servers/", "store/tools/", "faults/", "cli/", "api/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in that order, and as they came otherwise."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((n for n, start in enumerate(_FIRST) if path.startswith(start)), len(_FIRST))

    items.sort(key=place)


# The same examples in each run, however slow the machine; `make test-long` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile(
    "new", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

# Background jobs, and some runners, ignore SIGINT, nohup ignores SIGHUP, and what they start does
# so as well. A signal handled here is the default's again in every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def _children(process: int) -> set[int]:
    """The processes that one has started and that still run (on Linux; elsewhere none)."""
    found: set[int] = set()
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with contextlib.suppress(OSError):
            found |= set(map(int, (thread / "children").read_text().split()))
    return {one for one in found if _is_running(one)}


def _is_running(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _end(process: int) -> str:
    """Kills it and all that it started; what it was."""
    command = Path(f"/proc/{process}/cmdline")
    text = ""
    with contextlib.suppress(OSError):
        text = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        os.kill(process, signal.SIGSTOP)
        for child in _children(process):
            _end(child)
        os.kill(process, signal.SIGKILL)
    return text


@pytest.fixture(autouse=True)
def _processes_end() -> Iterator[None]:
    """What a test has started and not ended is killed, harms no other test, and fails this one."""
    before = _children(os.getpid())
    yield
    begun = _children(os.getpid()) - before - lasting.PROCESSES
    left = [_end(process) for process in begun]
    assert not left, f"this test left processes behind: {left}"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests and modules marked `virtual` run, with their fixtures, in virtual time."""
    if item.get_closest_marker("virtual") is None:
        return {"real": asyncio.new_event_loop}
    return {"virtual": functools.partial(new_loop, seed_of(item.name))}


def missing(program: str) -> bool:
    """Whether a program (or the file that stands for a package) is not on this machine."""
    if program in _FILES:
        return not Path(_FILES[program]).exists()
    return shutil.which(program, path=_PLACES) is None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or with METERD_TEST_ALL=1 fail, what needs a program that is not here."""
    wanted = [name for mark in item.iter_markers("needs") for name in mark.args]
    absent = [name for name in wanted if missing(name)]
    if not absent:
        return
    reason = f"needs {', '.join(absent)}, which is not installed here (see tests/system.sh)"
    if os.environ.get("METERD_TEST_ALL") == "1":
        pytest.fail(f"METERD_TEST_ALL=1, but this {reason}")
    pytest.skip(reason)
