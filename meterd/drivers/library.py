"""The maps there are: shipped ones by name, people's own by path."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from meterd.drivers.registers import RegisterMap
from meterd.errors import ConfigError
from meterd.model import files as files_of_people
from meterd.model.quantity import declare, is_own
from meterd.model.units import base_of

# Bytes; the largest shipped map has 30 KiB.
MAP_LIMIT = 1 << 20

# In place of a map's name: the device says itself what it has (SunSpec).
SUNSPEC = "sunspec"


@dataclass(frozen=True, slots=True)
class Head:
    """What a list shows of a shipped map; `rows` is how many it has."""

    name: str
    maker: str
    model: str
    confidence: str
    source: str
    remark: str
    rows: int


def shipped() -> list[str]:
    """The names of the maps that come with meterd."""
    folder = files("meterd.drivers") / "maps"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def head(name: str) -> Head:
    """A shipped map's head, in a fraction of the time that reading all its rows takes."""
    from ruamel.yaml import YAML

    text = (files("meterd.drivers") / "maps" / f"{name}.yaml").read_text("utf-8")
    above, _, rows = text.partition("\nrows:\n")
    said = YAML(typ="safe", pure=True).load(above)
    maker, model, confidence, source = (
        str(said[key]) for key in ("maker", "model", "confidence", "source")
    )
    # A shipped map has one row a line.
    count = len(re.findall(r"^  \S+: +\{", rows, re.MULTILINE))
    return Head(name, maker, model, confidence, source, str(said.get("remark", "")), count)


@cache
def _aliases() -> Mapping[str, str]:
    """Other names of shipped maps. A map names them in one line, so no file is parsed here."""
    found = {}
    for name in shipped():
        text = (files("meterd.drivers") / "maps" / f"{name}.yaml").read_text("utf-8")
        line = re.search(r"^aliases: \[(.*)\]", text, re.MULTILINE)
        found.update({alias.strip(): name for alias in line[1].split(",")} if line else {})
    return found


def is_file(name: str) -> bool:
    """Whether a map is named by its path: with a /, or ending in .yaml."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def _missing(path: Path) -> str:
    """What to say of a map file that is not there: where it was looked for, and what is there."""
    said = f"no register map {str(path)!r}: there is no such file"
    stem = path.name.removesuffix(".yaml").removesuffix(".yml")
    if stem in shipped() or stem in _aliases():
        return f"{said}; {stem} comes with meterd: write it without folder and .yaml"
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"{said}: {folder} is no folder; a path counts from the configuration's folder"
    there = sorted(one.name for one in folder.iterdir() if one.name.endswith((".yaml", ".yml")))
    if near := difflib.get_close_matches(path.name, there, n=2):
        return f"{said}; did you mean {' or '.join(near)}?"
    if near := difflib.get_close_matches(stem, [*shipped(), *_aliases()], n=2):
        return f"{said}; did you mean the shipped map {' or '.join(near)}?"
    return f"{said}; a path counts from the configuration's folder; shipped: `meterd maps`"


@cache
def load_map(name: str) -> RegisterMap:
    """A shipped map by its name, or a map file by its path.

    Raises ConfigError with every mistake of the file.
    """
    from meterd.drivers import mapcheck, planner  # they bring the YAML reader along
    from meterd.drivers.mapfile import parse, places

    if is_file(name):
        try:
            text = files_of_people.read_text(Path(name), MAP_LIMIT)
        except FileNotFoundError as error:
            raise ConfigError(_missing(Path(name))) from error
        except OSError as error:
            raise ConfigError(f"register map {name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"register map {name} is no UTF-8 text; save it as UTF-8") from error
        found = parse(text, Path(name).stem, name)
        for row in found.rows:
            if is_own(row.quantity):
                declare(row.quantity, base_of(row.unit), row.kind)
        # What no request can fetch would be asked for, and refused, at each start.
        if planner.unplannable(found):
            raise ConfigError(mapcheck.problems(found, name, places(text, name)))
        return found
    known = shipped()
    wanted = name if name in known else _aliases().get(name)
    if wanted is None:
        near = difflib.get_close_matches(name, [*known, *_aliases()], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`meterd maps` lists them"
        raise ConfigError(f"no register map {name!r}; {hint}")
    text = (files("meterd.drivers") / "maps" / f"{wanted}.yaml").read_text("utf-8")
    return parse(text, wanted, f"{wanted}.yaml", own=False)
