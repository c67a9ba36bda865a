"""Entry points of packages that provide drivers and maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from meterd.errors import ConfigError, MeterdError

T = TypeVar("T")

OWN_PACKAGE = "meterd"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point, and its distribution's name and version (empty if unknown)."""

    name: str
    point: EntryPoint
    package: str
    version: str

    @property
    def is_own(self) -> bool:
        """Whether it comes with meterd."""
        return self.package == OWN_PACKAGE

    @property
    def source(self) -> str:
        """Where it is, for people: the entry point and its package."""
        by = f"{self.package} {self.version}".strip() or "an unknown package"
        return f"{self.point.value}, package {by}"


@cache
def plugins(group: str) -> Mapping[str, tuple[Plugin, ...]]:
    """The entry points of a group by name; several where packages claim the same name.

    meterd's own one is first, and the one that is used.
    """
    by_name: dict[str, list[Plugin]] = {}
    for point in entry_points(group=group):
        package, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
        by_name.setdefault(point.name, []).append(Plugin(point.name, point, package, version))
    return {
        name: tuple(sorted(claims, key=lambda plugin: (not plugin.is_own, plugin.package)))
        for name, claims in by_name.items()
    }


def guarded(what: str, call: Callable[[], T]) -> T:
    """Calls a plug-in's code. Raises ConfigError for any exception that is not meterd's own.

    `what` begins the error's text: it names the plug-in and the call.
    """
    try:
        return call()
    except MeterdError:
        raise
    except Exception as error:
        raise ConfigError(f"{what}: {type(error).__name__}: {error}") from error
