"""Drivers by entry point in the group `meterd.drivers`, built in and foreign alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from meterd.errors import ConfigError
from meterd.model.sample import Driver
from meterd.wire.link import Link

GROUP = "meterd.drivers"
# What a foreign module may raise while it is imported.
_IMPORT_ERRORS = (
    ImportError,
    SyntaxError,
    AttributeError,
    NameError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    OSError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """A driver as it is installed: `package` is the distribution that brought it."""

    name: str
    package: str
    text: str


@cache
def _found() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """The names that `driver:` may have."""
    return sorted(_found())


def driver_class(name: str) -> Any:
    """The class behind a name. Raises ConfigError if there is none, or it cannot be imported."""
    point = _found().get(name)
    if point is None:
        raise ConfigError(f"no driver {name!r}; installed are {', '.join(names())}")
    try:
        loaded = point.load()
    except _IMPORT_ERRORS as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"driver {name!r} ({point.value}) cannot be loaded: {what}") from error
    for needed in ("Options", "read"):
        if not hasattr(loaded, needed):
            raise ConfigError(f"driver {name!r} ({point.value}) has no {needed}")
    return loaded


def options_of(name: str) -> type[Any] | None:
    """The pydantic model of a driver's own keys; None if there is no such driver."""
    if name not in _found():
        return None
    options: type[Any] = driver_class(name).Options
    return options


def link_defaults(name: str, options: Any) -> Mapping[str, str]:
    """What the link's URL may leave out, as the device is when it comes from its maker."""
    defaults = getattr(driver_class(name), "link_defaults", None)
    return defaults(options) if defaults is not None else {}


def states(name: str, options: Any) -> Mapping[str, Mapping[int, str]]:
    """What the numbers of a device's enumerated quantities mean, by quantity and number."""
    told = getattr(driver_class(name), "states", None)
    return told(options) if told is not None else {}


def build(name: str, link: Link, options: Any, interval: float) -> Driver:
    """One driver object for one device, polled each `interval` seconds."""
    loaded = driver_class(name)
    driver: Driver
    if hasattr(loaded, "build"):
        driver = loaded.build(link, options, interval=interval)
    else:
        driver = loaded(link, options)
    return driver


def listing() -> list[DriverInfo]:
    """All installed drivers, with the first line of their docstring."""
    found = []
    for name, point in sorted(_found().items()):
        package = point.dist.name if point.dist else ""
        found.append(DriverInfo(name, package, _first_line(name)))
    return found


def _first_line(name: str) -> str:
    """Of the driver's docstring; where it cannot be loaded, why."""
    try:
        doc = (driver_class(name).__doc__ or "").strip()
    except ConfigError as error:
        return str(error)
    return doc.splitlines()[0] if doc else ""
