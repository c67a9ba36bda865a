"""The maps there are: shipped ones and those of other packages by name, people's own by path."""

import contextlib
import difflib
import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from meterd.drivers.map_packages import PackagedMaps, packaged_maps
from meterd.drivers.packages import OWN_PACKAGE
from meterd.drivers.registers import RegisterMap
from meterd.errors import ConfigError
from meterd.model import files as files_of_people
from meterd.model.quantity import declare, is_own
from meterd.model.units import base_of

# In place of a map's name: the device says itself what it has (SunSpec).
SUNSPEC = "sunspec"
# The longest shipped map has 20 KiB.
_MOST_BYTES = 1_048_576
# Texts of people's own map files that are not parsed again while they stay as they are.
_MOST_PARSED = 128
# Maps so many registers further on, beside the map that they are made of, by its id and the
# registers: devices that read alike share one.
_MOVED: dict[tuple[int, int], tuple[RegisterMap, RegisterMap]] = {}
_MOST_MOVED = 500


@dataclass(frozen=True, slots=True)
class MapHeader:
    """What a list shows of a map; `rows` is how many it has, `package` who brought it."""

    name: str
    maker: str
    model: str
    confidence: str
    source: str
    remark: str
    rows: int
    package: str = OWN_PACKAGE


def shipped() -> list[str]:
    """The names of the maps that come with meterd."""
    folder = files("meterd.drivers") / "maps"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


@cache
def packaged() -> PackagedMaps:
    """The maps that other packages bring."""
    return packaged_maps({SUNSPEC, *shipped(), *_aliases()})


def names() -> list[str]:
    """The names that `map:` may have, beside aliases and paths: meterd's own first."""
    return [*shipped(), *packaged().maps]


def packaged_head(name: str) -> MapHeader:
    """The head of another package's map. Raises ConfigError with every mistake of the map."""
    register_map = load_map(name)
    return MapHeader(
        name,
        register_map.maker,
        register_map.model,
        register_map.confidence,
        register_map.source,
        register_map.remark,
        len(register_map.rows),
        packaged().maps[name].plugin.package,
    )


def head(name: str) -> MapHeader:
    """A shipped map's head, in a fraction of the time that reading all its rows takes."""
    from ruamel.yaml import YAML

    text = _shipped_text(name)
    above, _, rows = text.partition("\nrows:\n")
    header = YAML(typ="safe", pure=True).load(above)
    maker, model, confidence, source = (
        str(header[key]) for key in ("maker", "model", "confidence", "source")
    )
    # A shipped map has one row a line.
    count = len(re.findall(r"^  \S+: +\{", rows, re.MULTILINE))
    return MapHeader(name, maker, model, confidence, source, str(header.get("remark", "")), count)


@cache
def _aliases() -> Mapping[str, str]:
    """Other names of shipped maps. A map names them in one line, so no file is parsed here."""
    aliases = {}
    for name in shipped():
        text = _shipped_text(name)
        line = re.search(r"^aliases: \[(.*)\]", text, re.MULTILINE)
        aliases.update({alias.strip(): name for alias in line[1].split(",")} if line else {})
    return aliases


def is_file(name: str) -> bool:
    """Whether a map is named by its path: with a /, or ending in .yaml."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def _missing(path: Path) -> str:
    """What to say of a map file that is not there: where it was looked for, and what is there."""
    text = f"no register map {str(path)!r}: there is no such file"
    stem = path.name.removesuffix(".yaml").removesuffix(".yml")
    if stem in shipped() or stem in _aliases():
        return f"{text}; {stem} comes with meterd: write it without folder and .yaml"
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"{text}: {folder} is no folder; a path counts from the configuration's folder"
    map_files = sorted(
        file.name for file in folder.iterdir() if file.name.endswith((".yaml", ".yml"))
    )
    if near := difflib.get_close_matches(path.name, map_files, n=2):
        return f"{text}; did you mean {' or '.join(near)}?"
    if near := difflib.get_close_matches(stem, [*names(), *_aliases()], n=2):
        return f"{text}; did you mean the shipped map {' or '.join(near)}?"
    return f"{text}; a path counts from the configuration's folder; shipped: `meterd maps`"


def load_map(name: str) -> RegisterMap:
    """A map by its name, or a map file by its path, as it is now.

    A file that is as it was gives the same object. Raises ConfigError with every mistake of the
    file.
    """
    return _parsed(name, map_text(name)) if is_file(name) else _named_map(resolved_name(name))


def _named_map(name: str) -> RegisterMap:
    """Of meterd, or of another package; no file of those changes while meterd runs."""
    return _shipped_map(name) if name in shipped() else _packaged_map(name)


@cache
def _shipped_map(name: str) -> RegisterMap:
    from meterd.drivers.map_file import parse  # it brings the YAML reader along

    return parse(_shipped_text(name), name, f"{name}.yaml", own=False)


@cache
def _packaged_map(name: str) -> RegisterMap:
    packaged_map = packaged().maps[name]
    return _checked(packaged_map.text(), name, packaged_map.place)


def loadable() -> list[RegisterMap]:
    """All maps that have a name; one of another package that has mistakes is not among them."""
    maps = [load_map(name) for name in shipped()]
    for name in packaged().maps:
        with contextlib.suppress(ConfigError):
            maps.append(load_map(name))
    return maps


@lru_cache(maxsize=_MOST_PARSED)
def _parsed(name: str, text: str) -> RegisterMap:
    """The map of a file."""
    return _checked(text, Path(name).stem, name)


def _checked(text: str, name: str, file: str) -> RegisterMap:
    """The map of a text, and what it says of quantities of its user's own. Raises ConfigError."""
    from meterd.drivers import map_check, planner
    from meterd.drivers.map_file import parse, places

    register_map = parse(text, name, file)
    for row in register_map.rows:
        if is_own(row.quantity):
            declare(row.quantity, base_of(row.unit), row.kind)
    # What no request can fetch would be asked for, and refused, at each start.
    if planner.unplannable(register_map):
        raise ConfigError(map_check.problems(register_map, file, places(text, file)))
    return register_map


def map_text(name: str) -> str:
    """The text of a map file by its path, or of a map by its name. Raises ConfigError."""
    if not is_file(name) and not Path(name).exists():
        if name in shipped():
            return _shipped_text(name)
        if (packaged_map := packaged().maps.get(name)) is not None:
            return packaged_map.text()
    try:
        data = files_of_people.read(Path(name), _MOST_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(_missing(Path(name))) from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            flaw = f"is larger than {_MOST_BYTES // 1024} KiB; is it the right file?"
            raise ConfigError(f"register map {name} {flaw}") from error
        raise ConfigError(f"register map {name}: {error.strerror}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"register map {name} is no UTF-8 text; save it as UTF-8") from error


def _shipped_text(name: str) -> str:
    return (files("meterd.drivers") / "maps" / f"{name}.yaml").read_text("utf-8")


def resolved_name(name: str) -> str:
    """The map of this name, or the shipped one of this alias. Raises ConfigError."""
    if name in shipped():
        return name
    if (original := _aliases().get(name)) is not None:
        return original
    foreign = packaged()
    if name in foreign.maps:
        return name
    if (mistake := foreign.mistakes.get(name)) is not None:
        raise ConfigError(mistake)
    near = difflib.get_close_matches(name, [*names(), *_aliases()], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`meterd maps` lists them"
    broken = "".join(f"; {mistake}" for mistake in foreign.broken)
    raise ConfigError(f"no register map {name!r}; {hint}{broken}")


def moved(found: RegisterMap, registers: int) -> RegisterMap:
    """The map, so many registers further on. Raises ValueError as its `moved` does."""
    if not registers:
        return found
    entry = _MOVED.get((id(found), registers))
    if entry is None:
        if len(_MOVED) >= _MOST_MOVED:
            _MOVED.clear()
        entry = _MOVED[id(found), registers] = found, found.moved(registers)
    return entry[1]
