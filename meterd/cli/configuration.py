"""The settings of a command: from the configuration file, or from a TARGET argument."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterd.config.codes import ValueFlawError
from meterd.config.load import LoadedConfig, find, load_with_positions
from meterd.config.settings import DeviceSettings, Settings
from meterd.drivers import map_library, registry
from meterd.drivers.map_library import SUNSPEC
from meterd.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError

config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="The configuration; else $METERD_CONFIG, ./meterd.yaml, /etc/meterd/meterd.yaml.",
)


def load_settings(explicit: Path | None) -> Settings:
    """The settings of the configuration that applies. Raises ConfigError with all problems."""
    return load_file(explicit).settings


def load_file(explicit: Path | None) -> LoadedConfig:
    """As `load_settings()`, with the positions of keys and values."""
    path = find(os.environ, explicit)
    return load_with_positions(
        path,
        options_of=registry.options_of,
        driver_names=registry.names(),
        environ=os.environ,
    )


# MAP@tcp://host:port/unit?framer=rtu, MAP@serial:///dev/ttyUSB0?baud=9600&unit=3
_TARGET = re.compile(r"(?P<what>[^@]+)@(?P<url>[a-z]+://.+)")
_UNIT_PATH = re.compile(r"(?P<url>(?:tcp|udp|tls)://[^/?]+)/(?P<unit>\d+)(?P<query>\?.*)?")
_UNIT_OPTION = re.compile(r"(?P<mark>[?&])unit=(?P<unit>\d+)(?P<more>&?)")


def is_target(word: str) -> bool:
    """Whether an argument is a TARGET, not a device's name."""
    return _TARGET.fullmatch(word) is not None


def target_settings(target: str) -> tuple[str, DeviceSettings]:
    """Parse a TARGET into a device's name and settings. Raises ConfigError."""
    match = _TARGET.fullmatch(target)
    if match is None:
        raise ConfigError(
            f"{target!r} is no target: write MAP@tcp://HOST:502/UNIT, "
            "MAP@serial:///dev/ttyUSB0?baud=9600&unit=1 or megatec@serial:///dev/ttyUSB0"
        )
    what, url = match["what"], match["url"]
    url, unit = split_unit(url)
    options: dict[str, object] = {} if unit is None else {"unit": unit}
    if what not in registry.names() or what == "modbus":
        _check_map(target, what)
        options["map"] = what
    driver = "modbus" if "map" in options else what
    return Path(what).stem, device_settings(target, driver, url, options)


def _check_map(target: str, name: str) -> None:
    """Raises ConfigError where it is the name of no map; files are read with the options."""
    if map_library.is_file(name) or name == SUNSPEC:
        return
    try:
        map_library.resolved_name(name)
    except ConfigError as error:
        others = ", ".join(other for other in registry.names() if other != "modbus")
        raise ConfigError(f"{target}: {error}; or write another driver: {others}") from error


def device_settings(
    source: str, driver: str, url: str, options: dict[str, object]
) -> DeviceSettings:
    """Build a device's settings. Raises ConfigError that begins with `source`."""
    from pydantic import ValidationError

    try:
        model = registry.driver_class(driver).Options
        return DeviceSettings(driver=driver, link=url, options=model(**options))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_flaw(driver, error)}") from error


def _first_flaw(driver: str, error: "ValidationError") -> str:
    """What is wrong with a TARGET's options, as far as one sentence goes."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return (
            f"the driver {driver} needs `{name}`, which a TARGET cannot say: "
            "write the device into meterd.yaml, and poll it by its name"
        )
    flaw = first.get("ctx", {}).get("error")
    if isinstance(flaw, ValueFlawError):
        hint = f"; hint: {flaw.flaw.hint}" if flaw.flaw.hint else ""
        return f"{name}: {flaw.flaw.what.replace('{}', repr(first['input']))}{hint}"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def split_unit(url: str) -> tuple[str, int | None]:
    """Split the unit id off a URL: `tcp://host/3` or the option `unit=3`; else None."""
    if path := _UNIT_PATH.fullmatch(url):
        return path["url"] + (path["query"] or ""), int(path["unit"])
    if option := _UNIT_OPTION.search(url):
        mark = option["mark"] if option["more"] else ""
        return url[: option.start()] + mark + url[option.end() :], int(option["unit"])
    return url, None
