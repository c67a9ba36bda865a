"""Register maps: which quantity is where in which form, read from plain YAML files."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from meterd.errors import ConfigError

PROTOCOL_LIMIT = 125
# In place of a map's name: the device says itself what it has (SunSpec).
SUNSPEC = "sunspec"
# The largest hole that one read may span unless the map says otherwise.
BRIDGE = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One value. value = raw * scale, or raw * 10**(register at scale_register) * scale_factor.

    `na` and `na_ranges` are raw words as one unsigned number; `bit` counts from the lowest, 0.
    """

    quantity: str
    function: int
    address: int
    type: str
    words: int
    unit: str
    word_order: str = "big"
    byte_order: str = "big"
    scale: float = 1.0
    scale_register: int | None = None
    scale_factor: float = 1.0
    na: tuple[int, ...] = ()
    na_ranges: tuple[tuple[int, int], ...] = ()
    wrap: int | None = None
    enum: Mapping[int, str] | None = None
    tier: str = "fast"
    optional: bool = False
    alone: bool = False
    bit: int | None = None

    @property
    def first(self) -> int:
        """The first register that must be in the request."""
        scale = self.address if self.scale_register is None else self.scale_register
        return min(self.address, scale)

    @property
    def last(self) -> int:
        """The last register that must be in the request."""
        end = self.address + self.words - 1
        return max(end, end if self.scale_register is None else self.scale_register)


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """One meter model. `unreadable` are [first, last] ranges that no request may touch.

    `times` are pauses and a timeout that the device needs, by the names that links have for
    them, as durations: {"connect_delay": "1s"}.
    """

    name: str
    maker: str
    model: str
    source: str
    confidence: str
    rows: tuple[Row, ...]
    unit: int = 1
    serial: Mapping[str, str] | None = None
    tcp: int | None = None
    max_registers: int = PROTOCOL_LIMIT
    bridge: int = BRIDGE
    align: int = 1
    unreadable: tuple[tuple[int, int], ...] = ()
    aliases: tuple[str, ...] = ()
    remark: str = ""
    times: Mapping[str, str] = field(default_factory=dict)


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


@cache
def load_map(name: str) -> RegisterMap:
    """A shipped map by its name, or a map file by its path.

    Raises ConfigError with every mistake of the file.
    """
    if is_file(name):
        try:
            text = Path(name).read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"register map {name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"register map {name} is no UTF-8 text") from error
        return _parsed(text, Path(name).stem, name)
    known = shipped()
    wanted = name if name in known else _aliases().get(name)
    if wanted is None:
        near = difflib.get_close_matches(name, [*known, *_aliases()], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`meterd maps` lists them"
        raise ConfigError(f"no register map {name!r}; {hint}")
    text = (files("meterd.drivers") / "maps" / f"{wanted}.yaml").read_text("utf-8")
    return _parsed(text, wanted, f"{wanted}.yaml")


def _parsed(text: str, name: str, file: str) -> RegisterMap:
    from meterd.drivers.mapfile import parse

    return parse(text, name, file)
