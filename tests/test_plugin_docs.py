"""docs/plugins.md and examples/: installed as a reader would, and their tests run."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import meterd as package
from tests.cli.command import Ended, meterd, run
from tests.drivers.foreign import pip_install

ROOT = Path(package.__file__).parent.parent
DOCS = ROOT / "docs" / "plugins.md"
EXAMPLE = ROOT / "examples" / "meterd-shelly"
_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What does not belong to an installed package.
_UNINSTALLED = ("pyproject.toml", "tests", "test_*.py")


def installed(source: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """Installs a package; gives a folder with nothing but its tests, and the environment."""
    site, apart = folder / "site", folder / "apart"
    pip_install(source, site)
    apart.mkdir()
    for pattern in _UNINSTALLED:
        for found in source.glob(pattern):
            copy = shutil.copytree if found.is_dir() else shutil.copy
            copy(found, apart / found.name)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
    return apart, {"PYTHONPATH": path}


async def own_tests(apart: Path, env: Mapping[str, str]) -> Ended:
    """A package's own tests, in a pytest of their own."""
    alone = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--strict-config")
    return await run(sys.executable, "-m", "pytest", *alone, cwd=apart, env=env)


async def test_the_example_is_installed_and_its_tests_pass(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "source")
    apart, env = installed(tmp_path / "source", tmp_path)
    ended = await own_tests(apart, env)
    assert ended.code == 0, ended.out + ended.err
    assert re.search(r"\b7 passed\b", ended.out), ended.out
    listed = await meterd("drivers", "--format", "json", env=env)
    drivers = {one["name"]: (one["package"], one["text"]) for one in listed.document}
    text = "A clamp of a Shelly EM or 3EM, by JSON over HTTP."
    assert drivers["shelly"] == ("meterd-shelly", text)
    maps = await meterd("maps", "--find", "shelly", "--format", "json", env=env)
    assert [(one["name"], one["package"]) for one in maps.document] == [
        ("shelly_pro-3em", "meterd-shelly")
    ]


def files_of_the_page(below: str) -> dict[str, str]:
    """The files that the page has its reader make, by path."""
    found = dict(_FILE.findall(DOCS.read_text("utf-8")))
    if below == "maps":
        return {n.removeprefix("maps/"): text for n, text in found.items() if n[:5] == "maps/"}
    return {name: text for name, text in found.items() if name[:5] != "maps/"}


@pytest.mark.parametrize(("below", "passed"), [("driver", 5), ("maps", 1)])
async def test_what_the_page_has_its_reader_write_is_installed_and_its_tests_pass(
    tmp_path: Path, below: str, passed: int
) -> None:
    source = tmp_path / "source"
    for name, text in files_of_the_page(below).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, "utf-8")
    if below == "maps":
        (source / "meterd_acme_maps" / "__init__.py").touch()
    apart, env = installed(source, tmp_path)
    ended = await own_tests(apart, env)
    assert ended.code == 0, ended.out + ended.err
    assert re.search(rf"\b{passed} passed\b", ended.out), ended.out


def test_the_page_is_where_the_readme_and_the_example_say() -> None:
    assert "(docs/plugins.md)" in (ROOT / "README.md").read_text("utf-8")
    assert "(../../docs/plugins.md)" in (EXAMPLE / "README.md").read_text("utf-8")
    for anchor in re.findall(r"\]\(#([^)]+)\)", DOCS.read_text("utf-8")):
        headings = re.findall(r"^## (.*)$", DOCS.read_text("utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert anchor in slugs
