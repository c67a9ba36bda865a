"""Drivers by entry point in the group `meterd.drivers`, built in and foreign alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from meterd.drivers.driver_contract import class_mistake, mapping_mistake, object_mistake
from meterd.drivers.packages import Plugin, guarded, plugins
from meterd.errors import ConfigError
from meterd.model.driver import BuildsItself, Driver, LinkDefaults, ValueNames
from meterd.wire.link import Link

GROUP = "meterd.drivers"


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """A driver as it is installed: `package` is the distribution that brought it."""

    name: str
    package: str
    text: str


@dataclass(frozen=True, slots=True)
class _DriverType:
    """A driver's class that was found to be one, and what else it can be asked."""

    plugin: Plugin
    driver: Any
    builds: BuildsItself | None
    defaults: LinkDefaults | None
    values: ValueNames | None


def names() -> list[str]:
    """The names that `driver:` may have."""
    return sorted(plugins(GROUP))


def driver_class(name: str) -> Any:
    """The class behind a name. Raises ConfigError if there is none, or it is no driver."""
    return _type(name).driver


@cache
def _type(name: str) -> _DriverType:
    """Raises ConfigError, which is not cached."""
    plugin = _plugin(name)
    loaded = guarded(f"{_named(plugin)} cannot be loaded", plugin.point.load)
    if mistake := class_mistake(loaded):
        raise ConfigError(f"{_named(plugin)} {mistake}")
    return _DriverType(
        plugin,
        loaded,
        loaded if isinstance(loaded, BuildsItself) else None,
        loaded if isinstance(loaded, LinkDefaults) else None,
        loaded if isinstance(loaded, ValueNames) else None,
    )


def _plugin(name: str) -> Plugin:
    """The one entry point of this name. A name of meterd's own cannot be taken."""
    claims = plugins(GROUP).get(name)
    if claims is None:
        raise ConfigError(f"no driver {name!r}; installed are {', '.join(names())}")
    if len(claims) > 1 and not claims[0].is_own:
        packages = " and ".join(claim.source for claim in claims)
        raise ConfigError(f"two packages bring a driver {name!r}: {packages}; uninstall one")
    return claims[0]


def _named(plugin: Plugin) -> str:
    return f"driver {plugin.name!r} ({plugin.source})"


def origin(name: str) -> str:
    """A foreign driver for people: its name, entry point and package. Empty for meterd's own."""
    claims = plugins(GROUP).get(name)
    return "" if claims is None or claims[0].is_own else _named(claims[0])


def options_of(name: str) -> type[Any] | None:
    """The pydantic model of a driver's own keys; None if there is no such driver."""
    if name not in plugins(GROUP):
        return None
    options: type[Any] = driver_class(name).Options
    return options


def link_defaults(name: str, options: Any) -> Mapping[str, str]:
    """What the link's URL may leave out, as the device is when it comes from its maker."""
    driver_type = _type(name)
    if (capability := driver_type.defaults) is None:
        return {}
    defaults: Mapping[str, str] = _answer(
        driver_type, "link_defaults", lambda: capability.link_defaults(options)
    )
    return defaults


def states(name: str, options: Any) -> Mapping[str, Mapping[int, str]]:
    """What the numbers of a device's enumerated quantities mean, by quantity and number."""
    driver_type = _type(name)
    if (capability := driver_type.values) is None:
        return {}
    texts: Mapping[str, Mapping[int, str]] = _answer(
        driver_type, "states", lambda: capability.states(options)
    )
    return texts


def _answer(driver_type: _DriverType, method: str, call: Callable[[], Any]) -> Any:
    """What a static method of a class says. Raises ConfigError for a foreign one's mistakes."""
    if driver_type.plugin.is_own:
        return call()
    who = _named(driver_type.plugin)
    result = guarded(f"{who} fails in {method}(options)", call)
    if mistake := mapping_mistake(method, result):
        raise ConfigError(f"{who} {mistake}")
    return result


def build(name: str, link: Link, options: Any, interval: float) -> Driver:
    """One driver object for one device, polled each `interval` seconds.

    Raises ConfigError, also where a foreign driver is not what a driver has to be.
    """
    driver_type = _type(name)
    if driver_type.plugin.is_own:
        return _built(driver_type, link, options, interval)
    who = _named(driver_type.plugin)
    driver = guarded(f"{who} cannot be built", lambda: _built(driver_type, link, options, interval))
    mistake = guarded(f"{who} fails when it is asked what it can", lambda: object_mistake(driver))
    if mistake:
        raise ConfigError(f"{who} {mistake}")
    return driver


def _built(driver_type: _DriverType, link: Link, options: Any, interval: float) -> Driver:
    if driver_type.builds is not None:
        return driver_type.builds.build(link, options, interval=interval)
    driver: Driver = driver_type.driver(link, options)
    return driver


def listing() -> list[DriverInfo]:
    """All installed drivers, with the first line of their docstring, or what is wrong with them.

    A foreign one whose name is taken is in the list, too.
    """
    infos = []
    for name, claims in sorted(plugins(GROUP).items()):
        infos.append(DriverInfo(name, claims[0].package, _first_line(name)))
        infos += [
            DriverInfo(name, claim.package, _taken_text(claim, claims[0])) for claim in claims[1:]
        ]
    return infos


def _taken_text(plugin: Plugin, first: Plugin) -> str:
    return f"{plugin.point.value}: the name is taken by {first.package}; rename the entry point"


def _first_line(name: str) -> str:
    """Of the driver's docstring; where it cannot be loaded, why."""
    try:
        doc = (driver_class(name).__doc__ or "").strip()
    except ConfigError as error:
        return str(error)
    return doc.splitlines()[0] if doc else ""
