"""README is complete and right: every setting, command and map; examples that are understood."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import meterd
from meterd.cli.main import COMMANDS
from meterd.config import load
from meterd.config.settings import SECTIONS
from meterd.drivers import map_library, registry
from tests.cli.lines import judge

ROOT = Path(meterd.__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
_INLINE = re.compile(r"`(meterd [^`]+)`")


def cells() -> dict[str, str]:
    """Every table's rows: what stands in backticks in the first cell, to the rest of the row."""
    rows = (line.strip("| ").split(" | ", 1) for line in README.splitlines() if line[:1] == "|")
    found = {}
    for row in rows:
        if len(row) == 2 and (name := re.search(r"`([^`]+)`", row[0])):
            found[name[1]] = row[1]
    return found


def said_of(section: str) -> set[str]:
    """The words in backticks in a section's row, and the names of the rows below it.

    A section without a row stands in its parent's.
    """
    rows = cells()
    below = {name.removeprefix(f"{section}.") for name in rows if name.startswith(section)}
    while section not in rows and "." in section:
        section = section.rpartition(".")[0]
    quoted = [*below, *re.findall(r"`([^`]+)`", rows.get(section, ""))]
    return {word for text in quoted for word in re.findall(r"\w+", text)}


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, with the indent of their fence taken off."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def command_lines() -> Iterator[str]:
    for block in blocks("sh"):
        yield from (line for line in block.splitlines() if line.startswith("meterd "))
    prose = re.sub(r"^ *```.*?^ *```$", "", README, flags=re.MULTILINE | re.DOTALL)
    yield from _INLINE.findall(re.sub(r"^\|.*", "", prose, flags=re.MULTILINE))


def test_it_names_every_setting() -> None:
    missing = []
    for path, model in SECTIONS.items():
        section = ".".join(path).replace("*", "NAME")
        said = said_of(section)
        keys = (field.alias or name for name, field in model.model_fields.items())
        missing += [f"{section}.{key}" for key in keys if key not in said and key != "options"]
    assert missing == []


@pytest.mark.parametrize("driver", ["modbus", "megatec"])
def test_it_names_every_key_of_a_driver(driver: str) -> None:
    options = registry.options_of(driver)
    assert options is not None
    said = said_of(f"driver: {driver}")
    assert [key for key in options.model_fields if key not in said] == []


def test_it_names_every_command() -> None:
    assert [name for name in COMMANDS if f"meterd {name}" not in cells()] == []


def test_every_map_is_listed_where_it_says() -> None:
    assert "(docs/meters.md)" in README
    listed = (ROOT / "docs" / "meters.md").read_text("utf-8")
    assert [name for name in map_library.shipped() if f"`{name}`" not in listed] == []


def test_its_command_lines_are_understood() -> None:
    lines = list(command_lines())
    assert len(lines) > 8
    for line in lines:
        judge(line)


def test_its_configurations_and_maps_load(tmp_path: Path) -> None:
    loaded = []
    for number, text in enumerate(blocks("yaml")):
        if "rows:" in text:
            own = tmp_path / f"{number}.yaml"
            own.write_text(text)
            map_library.load_map(str(own))
            loaded.append("map")
        else:
            load.parse(
                text,
                "README.md",
                options_of=registry.options_of,
                driver_names=registry.names(),
                environ={},
            )
            loaded.append("configuration")
    assert set(loaded) == {"map", "configuration"}
