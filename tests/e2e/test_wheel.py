"""The wheel: it holds all that meterd needs, and works where no checkout is."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import meterd as package
from meterd.drivers.map_library import shipped
from meterd.sim.serve import serve_meter
from tests.cli.command import meterd, run
from tests.drivers.foreign import pip_install
from tests.e2e.running import daemon
from tests.e2e.stored import stored

ROOT = Path(package.__file__).parent.parent
# What is no Python, and has to come along.
DATA = ("drivers/maps", "api/web", "sim/data")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    alone = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    done = subprocess.run(
        [*command, *alone, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("meterd-*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which the wheel's meterd comes before the checkout's."""
    site = tmp_path_factory.mktemp("installed") / "site"
    pip_install(wheel, site)
    return {"PYTHONPATH": str(site)}


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    root = ROOT / "meterd"
    places = [(root, "meterd"), (ROOT / "migrations", "meterd/migrations")]
    expected = {
        f"{name}/{file.relative_to(folder).as_posix()}"
        for folder, name in places
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert held == expected
    for place in DATA:
        assert any(name.startswith(f"meterd/{place}/") for name in held), place
    assert {"meterd/py.typed", "meterd/migrations/versions/0001_first.py"} <= held
    assert {f"meterd/drivers/maps/{name}.yaml" for name in shipped()} <= held


def test_it_tells_its_command_drivers_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        told = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        points = archive.read(told["entry_points.txt"]).decode()
        facts = archive.read(told["METADATA"]).decode()
    assert "meterd = meterd.cli.main:main" in points
    assert "[meterd.drivers]" in points
    assert "LICENSE" in told
    assert f"Version: {package.__version__}" in facts
    assert "Requires-Python: >=3.11" in facts
    extras = {line.partition(": ")[2] for line in facts.splitlines() if "Provides-Extra" in line}
    assert extras == {"mariadb", "parquet", "postgres"}


async def test_its_commands_work_without_a_checkout(
    installed: Mapping[str, str], tmp_path: Path
) -> None:
    where = "import meterd; print(meterd.__file__)"
    found = await run(sys.executable, "-c", where, cwd=tmp_path, env=installed)
    assert found.out.startswith(installed["PYTHONPATH"])
    listed = await meterd("maps", "--format", "json", cwd=tmp_path, env=installed)
    assert {one["name"] for one in listed.document} == set(shipped())
    script = Path(installed["PYTHONPATH"]) / "bin" / "meterd"
    assert "meterd, version" in (await run(script, "--version", env=installed)).out


async def test_it_makes_a_store_and_serves_the_page(
    installed: Mapping[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "meterd.yaml"
    async with serve_meter("eastron_sdm630") as meter:
        file.write_text(
            "devices:\n"
            f'  main: {{driver: modbus, map: eastron_sdm630, link: "{meter.url}", interval: 1s}}\n'
            'store: {url: "sqlite:///fresh.db"}\n'
            'api: {listen: "127.0.0.1:0"}\n'
        )
        async with daemon("run", "-c", file, folder=tmp_path, env=installed) as running:
            await running.ready()
            assert "<title>meterd" in (await running.text("/"))[1]
            await running.stop()
    assert ("main", "voltage.l1") in {(d, q) for d, q, _ in stored(tmp_path / "fresh.db")}


async def test_its_demo_has_the_real_house(installed: Mapping[str, str], tmp_path: Path) -> None:
    listen = ("demo", "--listen", "127.0.0.1:0")
    env = {**installed, "TMPDIR": str(tmp_path)}
    async with daemon(*listen, folder=tmp_path, env=env) as demo:
        await demo.ready()
        assert len((await demo.get("devices"))["devices"]) == 4
        await demo.stop()
