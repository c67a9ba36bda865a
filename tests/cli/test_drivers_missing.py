"""A store on a server whose driver package is not installed: each command says what to install."""

import json
import sys
from pathlib import Path

import pytest

from meterd.config.codes import Code
from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.db.extras import DRIVERS, DriverPackage, MissingDriverError
from tests.cli.inside import inside
from tests.cli.stores import Site

SITE = """\
devices:
  ups: {{driver: megatec, link: "serial:///dev/nowhere"}}
store: {{url: "{backend}://u:hidden@127.0.0.1:9/meterd"}}
api: {{listen: "127.0.0.1:0"}}
"""
URL = "{backend}://u:hidden@127.0.0.1:9/meterd"


@pytest.fixture(params=sorted(DRIVERS))
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One kind of server, with the import of its driver blocked."""
    name: str = request.param
    monkeypatch.setitem(sys.modules, DRIVERS[name].module, None)
    return name


@pytest.fixture
def config(backend: str, tmp_path: Path) -> Path:
    file = tmp_path / "meterd.yaml"
    file.write_text(SITE.format(backend=backend))
    return file


def command_for(driver: DriverPackage) -> str:
    return f"{sys.executable} -m pip install 'meterd[{driver.extra}]'"


def test_check_names_the_place_and_the_command(
    backend: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "check", "-c", str(config))
    assert done.code == 78
    line = done.err.splitlines()[0]
    assert line.startswith(f"{config}:3:14: error[{Code.STORE_DRIVER}]: ")
    assert DRIVERS[backend].package in line
    assert line.endswith(f"install it: {command_for(DRIVERS[backend])}")
    assert "hidden" not in done.err


def test_check_wants_no_driver_that_is_there(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    assert inside(capsys, "check", "-c", str(config)).code == 0


def test_doctor_names_the_command(
    backend: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "doctor", "-c", str(config), "--format", "json")
    assert done.code == 1
    (found,) = (one for one in json.loads(done.out)["findings"] if one["area"] == "store")
    assert found["state"] == "wrong"
    assert DRIVERS[backend].package in found["what"]
    assert found["todo"] == command_for(DRIVERS[backend])


@pytest.mark.parametrize("words", [("run",), ("db", "info"), ("db", "migrate"), ("energy",)])
def test_what_opens_the_store_ends_with_the_command(
    backend: str, config: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    done = inside(capsys, *words, "-c", str(config))
    assert done.code == 1
    assert f"install it: {command_for(DRIVERS[backend])}" in done.err
    assert "Traceback" not in done.err


def test_a_store_is_not_moved_to_a_server_without_its_driver(site: Site, backend: str) -> None:
    done = site("db", "move", URL.format(backend=backend))
    assert done.code == 1
    assert command_for(DRIVERS[backend]) in done.err


def test_a_store_in_a_file_needs_none(backend: str) -> None:
    assert store_url.find("sqlite:///x.db").path == Path("x.db").absolute()


def test_a_driver_that_lacks_a_library_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    # psycopg without psycopg-binary, on a machine without libpq, raises so at its import.
    monkeypatch.setitem(sys.modules, "psycopg.pq", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        if name != "psycopg.pq":
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDriverError, match=r"cannot be imported \(.*psycopg.pq"):
        store_url.find(URL.format(backend="postgresql"))


def test_it_is_a_store_error_that_is_not_waited_for() -> None:
    assert issubclass(MissingDriverError, StoreError)
    assert MissingDriverError("x", "y").code == "unavailable"
