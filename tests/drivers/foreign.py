"""Driver packages of other people, made on the spot and really installed with pip."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from meterd.drivers import map_library, packages, registry

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.2"

[project.entry-points."meterd.drivers"]
{points}
"""

# Speaks a protocol of its own over meterd's link: sends `?CHANNEL\\n`, gets a number and `\\n`.
GOOD = '''
"""A gas meter that answers in plain text."""

from pydantic import Field

from meterd import plugin
from meterd.plugin import DeviceError, PluginCode, Reading


class Options(plugin.Options):
    channel: int = Field(7, ge=1, le=9)
    note: str = ""


class GasCode(PluginCode):
    """Why the meter gives no reading."""

    NO = "gas_no"


class GasMeter:
    """A gas meter that answers in plain text."""

    Options = Options

    def __init__(self, link, options):
        self._link = link
        self._options = options

    async def read(self):
        line = await self._link.exchange(b"?%d\\n" % self._options.channel, self._line)
        return [Reading("temperature", float(line), "°C"), Reading("info.model", "G4")]

    @staticmethod
    def _line(buffer):
        line, end, _ = bytes(buffer).partition(b"\\n")
        if not end:
            return None
        buffer.clear()
        if line == b"no":
            raise DeviceError("the gas meter says no", code=GasCode.NO)
        return line


class Buggy(GasMeter):
    """Divides by zero."""

    async def read(self):
        return [Reading("temperature", 1 / 0, "°C")]
'''
LACKING = "import a_library_that_nobody_has_installed\n"
RAISING = 'raise RuntimeError("my licence has expired")\n'


@dataclass(frozen=True, slots=True)
class Package:
    """What pip is to install: entry points by driver name, and the one module they lead to."""

    name: str
    module: str
    points: dict[str, str]
    text: str


GAS = Package(
    "meterd-gas", "gas_driver", {"gas": "GasMeter", "gas-buggy": "Buggy"}, GOOD.lstrip("\n")
)
SHAKY = Package("meterd-shaky", "shaky_driver", {"shaky": "Shaky"}, LACKING)
ANGRY = Package("meterd-angry", "angry_driver", {"angry": "Angry"}, RAISING)


def install(package: Package, folder: Path) -> Path:
    """Build and install it below `folder`; returns what belongs into PYTHONPATH."""
    source, site = folder / package.name, folder / "site"
    (source / package.module).mkdir(parents=True)
    points = (f'{name} = "{package.module}:{cls}"' for name, cls in package.points.items())
    project = _PROJECT.format(name=package.name, points="\n".join(points))
    project += f'\n[tool.hatch.build.targets.wheel]\npackages = ["{package.module}"]\n'
    (source / "pyproject.toml").write_text(project)
    (source / package.module / "__init__.py").write_text(package.text, "utf-8")
    pip_install(source, site)
    return site


def pip_install(what: Path, site: Path) -> None:
    """A source folder or a wheel, into a folder of its own: no network, nothing besides."""
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    alone = ("--no-index", "--no-deps", "--no-build-isolation", "--target", str(site), str(what))
    done = subprocess.run([*command, *alone], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Installed:
    """Packages in this process as pip would have installed them, for as long as a test runs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        patch.syspath_prepend(folder)

    def add(self, package: str, group: str, points: dict[str, str], **files: str) -> None:
        """A distribution of version 1.2 with these entry points, and modules by their names.

        A name with two underscores is a file in a package: `acme__maker_model` is a map in acme.
        """
        for name, text in files.items():
            module, _, data = name.partition("__")
            if data:
                place = self.folder / module / f"{data}.yaml"
                place.parent.mkdir(exist_ok=True)
                (place.parent / "__init__.py").touch()
            else:
                place = self.folder / f"{module}.py"
            place.write_text(text, "utf-8")
            self._patch.delitem(sys.modules, module, raising=False)
        info = self.folder / f"{package.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        forget()


def forget() -> None:
    """Look anew at what is installed."""
    importlib.invalidate_caches()
    for cached in (packages.plugins, registry._type, map_library.packaged):
        cached.cache_clear()
    map_library._packaged_map.cache_clear()


@contextmanager
def installed(folder: Path) -> Iterator[Installed]:
    """Nothing of it is left behind."""
    with pytest.MonkeyPatch.context() as patch:
        before = set(sys.modules)
        yield Installed(folder, patch)
        for name in set(sys.modules) - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    forget()
