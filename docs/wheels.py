"""Writes the table of docs/packages.md: which locked packages have a wheel for a 32-bit Pi.

`make wheels`, which is `python docs/wheels.py`, asks the package index that pip is configured for,
once for each package and Python; nothing is downloaded or installed.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.markers import Marker
from packaging.requirements import Requirement

TOP = Path(__file__).parents[1]
PAGE = TOP / "docs" / "packages.md"
BEGIN, END = "<!-- written by `make wheels` -->\n", "<!-- end of what it writes -->\n"
HEADING = """\
| package | version | needed by | Python 3.11 | Python 3.13 |
| --- | --- | --- | --- | --- |
"""

# Raspberry Pi OS 12 (bookworm) and 13 (trixie): their Python, and the newest glibc (2.N) there.
SYSTEMS = {"3.11": 36, "3.13": 41}
ANY, OWN, SOURCE, NONE = "any", "armv7l", "**source**", "not needed"
_OLDEST_GLIBC = 17  # of the manylinux wheels that pip knows by this scheme
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of requirements.lock, with the packages that want it."""

    name: str
    version: str
    marker: str
    wanted_by: str

    def is_for(self, python: str) -> bool:
        """Whether that Python on 32-bit ARM Linux installs it."""
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "platform_machine": "armv7l",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        return not self.marker or Marker(self.marker).evaluate(environment)


def pins(lock: str, extras: Mapping[str, str]) -> Iterator[Pin]:
    """The packages of a lock file; `extras` has the extra of meterd by a package's name."""
    for entry in re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE):
        head = re.match(r"([a-z0-9.-]+)==(\S+)(?: ; (.*?))? \\$", entry, re.MULTILINE)
        if head is None:
            continue
        _, _, via = entry.partition("# via")
        wanted = re.findall(r"([a-z][a-z0-9.-]*)(?: \(pyproject\.toml(:build)?\))?", via)
        names = [f"{name} (build)" if build else name for name, build in wanted]
        if head[1] in extras:
            names = [f"`[{extras[head[1]]}]`" if name == "meterd" else name for name in names]
        yield Pin(head[1], head[2], head[3] or "", ", ".join(names))


def locked() -> list[Pin]:
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        Requirement(each).name: extra
        for extra, wanted in project["optional-dependencies"].items()
        for each in wanted
    }
    return list(pins((TOP / "requirements.lock").read_text("utf-8"), extras))


def platforms(glibc: int, machine: str = "armv7l") -> list[str]:
    """The tags of wheels that run on a machine with glibc 2.N."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, _OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{machine}", f"linux_{machine}"]


def wheel(pin: Pin, python: str, tags: list[str]) -> str | None:
    """The file name of the wheel that pip would take; None where there is none for these tags."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"]
        command += ["--report", "-", "--target", folder, "--only-binary", ":all:"]
        # Else old pips compare with the Python that they run in; a pin is for the one asked about.
        command += [
            "--ignore-requires-python",
            "--implementation",
            "cp",
            "--python-version",
            python,
        ]
        command += [word for tag in tags for word in ("--platform", tag)]
        command.append(f"{pin.name}=={pin.version}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (of our own words)
    if done.returncode:
        return None
    (found,) = json.loads(done.stdout)["install"]
    return str(found["download_info"]["url"]).rpartition("/")[2]


def verdict(pin: Pin, python: str) -> str:
    """One cell of the table."""
    if not pin.is_for(python):
        return NONE
    found = wheel(pin, python, platforms(SYSTEMS[python]))
    if found is None:
        # Else a network that is down would look like a package without wheels.
        if wheel(pin, python, platforms(SYSTEMS[python], "x86_64")) is None:
            raise SystemExit(f"{pin.name} {pin.version} was not found for any platform")
        return SOURCE
    return ANY if found.endswith("-any.whl") else OWN


def table() -> str:
    rows = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        every = locked()
        columns = [pool.map(partial(verdict, python=python), every) for python in SYSTEMS]
        for pin, *cells in zip(every, *columns, strict=True):
            rows.append(f"| {' | '.join((pin.name, pin.version, pin.wanted_by, *cells))} |\n")
    return HEADING + "".join(rows)


def main() -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
