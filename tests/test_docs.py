"""docs/meters.md is what its generator writes, and tells every key and code of a map file."""

import re
import runpy
from pathlib import Path

import pytest

import meterd
from meterd.drivers import map_check, map_file, map_rows
from meterd.drivers.map_library import load_map, shipped
from tests.cli.lines import judge

DOCS = Path(meterd.__file__).parent.parent / "docs"
PAGE = (DOCS / "meters.md").read_text("utf-8")


def test_the_page_is_what_its_generator_writes() -> None:
    written = runpy.run_path(str(DOCS / "generate.py"))["text"]()
    assert written == PAGE, "stale: run `make docs`"


@pytest.mark.parametrize("name", shipped())
def test_every_map_has_its_row(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    found = load_map(name)
    assert f"| {len(found.rows)} |" in row
    assert found.confidence in row
    assert found.source in row


def test_every_key_of_a_map_is_told() -> None:
    keys = {*map_file.KEYS, *map_file.LIMITS, *map_file.DEFAULTS, *map_rows.KEYS}
    keys |= {*map_file.CONFIDENCES, *map_rows.TIERS, *map_rows.WORDS, *map_rows.COUNTED}
    assert [key for key in sorted(keys) if f"`{key}`" not in PAGE] == []


def test_every_code_of_a_mistake_is_told() -> None:
    sources = (Path(str(module.__file__)).read_text() for module in (map_check, map_file, map_rows))
    codes = {code for text in sources for code in re.findall(r'"([MW]\d{3})"', text)}
    assert len(codes) == 16
    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []


def test_its_example_is_a_map_without_mistakes(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    own = tmp_path / "own.yaml"
    own.write_text(example)
    assert map_check.problems(load_map(str(own)), "own", map_file.places(example, "own")) == []


def test_its_command_lines_are_understood() -> None:
    lines = re.findall(r"`(meterd [^`]+)`", PAGE)
    assert len(lines) >= 4
    for line in lines:
        judge(line)
