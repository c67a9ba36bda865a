"""What all tests share: programs of the system are needed by name, never by silent luck."""

import asyncio
import functools
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.virtual import new_loop, seed_of

# Debian keeps the programs of each PostgreSQL in a folder of its own.
_POSTGRES = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
_PLACES = os.pathsep.join(
    (os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/lib/nut", *_POSTGRES)
)
_FILES = {"libmodbus-dev": "/usr/include/modbus/modbus.h"}


# Tests that misbehave on time, which busy workers would disturb: `make test` runs them last.
_QUIET = (
    "drivers/test_survey.py",
    "faults/",
    "proxy/test_whole.py",
    "sim/test_modbus_pty.py",
    "sim/test_replay.py",
    "wire/test_serial.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks those tests `quiet`."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(_QUIET):
            item.add_marker("quiet")


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
