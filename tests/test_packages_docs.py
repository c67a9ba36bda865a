"""docs/packages.md: every package has its place, and the table of wheels is that of the lock."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import meterd
from meterd.config.codes import Code
from meterd.store.db.extras import DRIVERS
from tests.cli.lines import judge
from tests.test_dependencies import EXTRAS, PROJECT, RUNTIME

TOP = Path(meterd.__file__).parent.parent
PAGE = (TOP / "docs" / "packages.md").read_text("utf-8")
README = (TOP / "README.md").read_text("utf-8")
WHEELS: dict[str, Any] = runpy.run_path(str(TOP / "docs" / "wheels.py"), run_name="wheels")
VERDICTS = {WHEELS[name] for name in ("ANY", "OWN", "SOURCE", "NONE")}


def table() -> dict[tuple[str, str], list[str]]:
    """What stands between the marks: (package, version) -> needed by, and a verdict a Python."""
    text = PAGE.partition(WHEELS["BEGIN"])[2].partition(WHEELS["END"])[0]
    rows = [line.strip("| ").split(" | ") for line in text.strip().splitlines()[2:]]
    return {(name, version): more for name, version, *more in rows}


def test_every_locked_package_is_in_the_table_of_wheels() -> None:
    locked = {(pin.name, pin.version): pin.wanted_by for pin in WHEELS["locked"]()}
    assert len(locked) > 30
    written = {place: more[0] for place, more in table().items()}
    assert written == locked, "requirements.lock has moved on: run `make wheels`"


def test_each_verdict_is_one_and_fits_its_marker() -> None:
    rows = table()
    for pin in WHEELS["locked"]():
        for python, verdict in zip(WHEELS["SYSTEMS"], rows[pin.name, pin.version][1:], strict=True):
            assert verdict in VERDICTS
            assert (verdict == WHEELS["NONE"]) is not pin.is_for(python), pin


def test_what_is_said_of_packages_without_wheels_is_what_the_table_says() -> None:
    source = {name for (name, _), (_, *cells) in table().items() if WHEELS["SOURCE"] in cells}
    assert source == {"numpy", "google-re2"}, "correct README and docs/packages.md, which name them"
    section = PAGE.partition("## A 32-bit Raspberry Pi\n")[2].partition(WHEELS["BEGIN"])[0]
    assert [name for name in sorted(source) if f"`{name}`" not in section] == []
    said = next(line for line in README.splitlines() if "`armv7l`" in line)
    assert "numpy and google-re2 have no wheels" in said


def test_nothing_that_is_installed_there_lacks_both_wheel_and_source() -> None:
    # psycopg's binary part has no source of its own: pip could only fail.
    for (name, _), (_, *cells) in table().items():
        if name == "psycopg-binary":
            assert set(cells) == {WHEELS["NONE"]}


LOCK = """\
one==1.0 \\
    --hash=sha256:00
    # via two
two==2.0 ; python_full_version < '3.12' and platform_machine != 'armv7l' \\
    --hash=sha256:00 \\
    --hash=sha256:11
    # via
    #   meterd (pyproject.toml)
    #   three
three==3 \\
    --hash=sha256:00
    # via meterd (pyproject.toml:build)
"""


def test_a_lock_is_read_as_uv_writes_it() -> None:
    one, two, three = WHEELS["pins"](LOCK, {"two": "pair"})
    assert (one.name, one.version, one.marker, one.wanted_by) == ("one", "1.0", "", "two")
    assert (two.wanted_by, three.wanted_by) == ("`[pair]`, three", "meterd (build)")
    assert [pin.is_for("3.11") for pin in (one, two, three)] == [True, False, True]


def test_every_package_says_what_it_is_for() -> None:
    rows = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([a-z0-9.-]+)`", row)}
    declared = {name.replace("ruamel-yaml", "ruamel.yaml") for name in RUNTIME | EXTRAS}
    assert declared <= told


@pytest.mark.parametrize("extra", PROJECT["project"]["optional-dependencies"])
def test_every_extra_is_told(extra: str) -> None:
    assert f"`[{extra}]`" in PAGE
    assert f"[{extra}]" in README


def test_the_extras_of_drivers_are_those_of_the_project() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for driver in DRIVERS.values():
        assert any(each.startswith(driver.module) for each in extras[driver.extra])


def test_its_code_and_commands_are_right() -> None:
    assert f"`{Code.STORE_DRIVER}`" in PAGE
    for line in re.findall(r"`(meterd [a-z]+)`", PAGE):
        judge(line)
    targets = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z]+)`", PAGE)) <= {*targets, "test"}


def test_the_lock_has_the_drivers_for_checkout_and_image() -> None:
    names = {pin.name for pin in WHEELS["locked"]()}
    assert {driver.module for driver in DRIVERS.values()} <= names
    dockerfile = (TOP / "docker" / "Dockerfile").read_text()
    assert "-r /tmp/requirements.lock" in dockerfile
