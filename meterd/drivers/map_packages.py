"""Register maps of other packages, by entry point in the group `meterd.maps`.

    [project.entry-points."meterd.maps"]
    acme = "meterd_acme.maps"        a package with <maker>_<model>.yaml files in it

A map is named by its file; the entry point's name has no meaning.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from meterd.drivers.packages import Plugin, guarded, plugins
from meterd.errors import ConfigError

GROUP = "meterd.maps"
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True)
class PackagedMap:
    """A map's file in a package."""

    name: str
    file: Traversable
    plugin: Plugin

    @property
    def place(self) -> str:
        """The file for people: package, version, name."""
        return f"{self.plugin.package} {self.plugin.version}, {self.file.name}"

    def text(self) -> str:
        """Raises ConfigError where the file cannot be read."""
        return guarded(f"register map {self.name} ({self.place})", self._read)

    def _read(self) -> str:
        return self.file.read_text("utf-8")


@dataclass(frozen=True, slots=True)
class PackagedMaps:
    """Usable maps by name, mistakes of others by name, and mistakes of whole packages."""

    maps: Mapping[str, PackagedMap]
    mistakes: Mapping[str, str]
    broken: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """All mistakes, as sentences for people."""
        return (*self.broken, *self.mistakes.values())


def packaged_maps(taken: Collection[str]) -> PackagedMaps:
    """All maps of other packages, except those whose name is `taken` or claimed by two packages.

    A package that cannot be imported does not affect the others.
    """
    claims: dict[str, list[PackagedMap]] = {}
    mistakes: dict[str, str] = {}
    broken: list[str] = []
    for group in plugins(GROUP).values():
        for plugin in group:
            try:
                for packaged_map in _maps_of(plugin):
                    claims.setdefault(packaged_map.name, []).append(packaged_map)
            except ConfigError as error:
                broken.append(str(error))
    for name, claim in claims.items():
        if mistake := _mistake(name, claim, taken):
            mistakes[name] = mistake
    maps = {name: claim[0] for name, claim in claims.items() if name not in mistakes}
    return PackagedMaps(dict(sorted(maps.items())), mistakes, tuple(broken))


def _maps_of(plugin: Plugin) -> Iterator[PackagedMap]:
    """Raises ConfigError where the entry point leads to no package with maps in it."""
    who = f"register maps {plugin.name!r} ({plugin.source})"
    folder = guarded(f"{who} cannot be found", lambda: files(plugin.point.module))
    entries = guarded(f"{who} cannot be listed", lambda: list(folder.iterdir()))
    found = [entry for entry in entries if entry.name.endswith(_SUFFIX)]
    if not found:
        raise ConfigError(f"{who} has no *.yaml in it: are the files part of the package?")
    for entry in found:
        yield PackagedMap(entry.name.removesuffix(_SUFFIX), entry, plugin)


def _mistake(name: str, claims: list[PackagedMap], taken: Collection[str]) -> str:
    """Why a name cannot be used; empty where it can."""
    places = " and ".join(claim.place for claim in claims)
    if not _NAME.fullmatch(name):
        return f"register map {name!r} ({places}): name it <maker>_<model>.yaml, in lower case"
    if name in taken:
        return f"register map {name} ({places}): meterd has a map of this name; rename the file"
    if len(claims) > 1:
        return f"register map {name} comes twice: {places}; uninstall one of them"
    return ""
