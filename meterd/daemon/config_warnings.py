"""Warnings about links and devices of a configuration that loads."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meterd.config.codes import WarningCode
from meterd.config.settings import DeviceSettings, Settings
from meterd.daemon.busload import BusLoad
from meterd.daemon.link_plan import Built, bare
from meterd.drivers.megatec.ups import MegatecUps
from meterd.drivers.modbus import ModbusMeter
from meterd.drivers.options import ModbusOptions
from meterd.drivers.sunspec.meter import SunSpecMeter
from meterd.drivers.sunspec.models import MODELS
from meterd.model.driver import Commands, Driver, SlowTier, UnitAddress
from meterd.model.duration import spell
from meterd.model.quantity import INFO

_LISTED = 5


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """One doubt about the configuration; `path` leads to the key that it is about."""

    path: tuple[str, ...]
    code: WarningCode
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PolledDevice:
    """A polled device, and where its link leads."""

    name: str
    place: str
    driver: Driver
    settings: DeviceSettings

    @property
    def unit(self) -> int | None:
        """Which unit of its link it asks; None where its link has no units."""
        return self.driver.unit if isinstance(self.driver, UnitAddress) else None


def of_devices(settings: Settings, built: Sequence[Built]) -> Iterator[ConfigWarning]:
    """Duplicate meters, unused links, keys without effect."""
    members = members_of(built)
    yield from _same_ports(settings, built)
    yield from _same_meters(members)
    yield from _unused_links(settings)
    for member in members:
        yield from _keys(member)
    yield from _short_timeouts(built)
    yield from _proxied(settings, {member.name: member for member in members})


def members_of(built: Sequence[Built]) -> list[PolledDevice]:
    """The devices of these links."""
    return [
        PolledDevice(name, _place(link), bare(driver), device)
        for link in built
        for name, driver, device in link.drivers
    ]


def of_load(settings: Settings, load: BusLoad) -> ConfigWarning | None:
    """A bus that cannot keep the intervals of its devices."""
    if not load.is_over:
        return None
    first = load.devices[0].name
    link = settings.devices[first].link
    path = ("links", link, "url") if link in settings.links else ("devices", first, "link")
    return ConfigWarning(path, WarningCode.BUS_FULL, load.text(), load.hint())


def listed(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    rest = len(names) - _LISTED
    if rest > 0:
        return f"{', '.join(names[:_LISTED])} and {rest} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


# -- links ---------------------------------------------------------------------------------------


def _place(built: Built) -> str:
    """Where a link leads, in one spelling."""
    address = built.plan.address
    if address.scheme == "serial":
        return os.path.realpath(address.path)
    return f"{address.host}:{address.port}"


def _same_ports(settings: Settings, built: Sequence[Built]) -> Iterator[ConfigWarning]:
    by_place: dict[str, Built] = {}
    for link in built:
        before = by_place.setdefault(_place(link), link)
        if before is link:
            continue
        first, second = before.drivers[0][0], link.drivers[0][0]
        text = (
            f"devices.{second}.link: {link.plan.key} leads to the same port as {before.plan.key} "
            f"of {first}: they would talk at the same time"
        )
        hint = "write the same link for both, or one entry under links:"
        yield ConfigWarning(("devices", second, "link"), WarningCode.SAME_PORT, text, hint)


def _unused_links(settings: Settings) -> Iterator[ConfigWarning]:
    used = {device.link for device in settings.devices.values()}
    for name in settings.links:
        if name not in used:
            text = f"links.{name}: no device is on this link"
            hint = f"write `link: {name}` at the devices on it, or remove it"
            yield ConfigWarning(("links", name), WarningCode.UNUSED_LINK, text, hint)


# -- devices that are one meter --------------------------------------------------------------------


def _same_meters(members: Iterable[PolledDevice]) -> Iterator[ConfigWarning]:
    by_place: dict[str, list[PolledDevice]] = {}
    for member in members:
        by_place.setdefault(member.place, []).append(member)
    for sharing in by_place.values():
        for number, member in enumerate(sharing):
            same = [other.name for other in sharing[:number] if is_one(other, member)]
            if same:
                yield _one_meter(member, same)


def is_one(one: PolledDevice, other: PolledDevice) -> bool:
    """Whether two devices on one link read the same of the same unit."""
    if one.unit != other.unit:
        return False
    if isinstance(one.driver, ModbusMeter) and isinstance(other.driver, ModbusMeter):
        return overlap(one.driver, other.driver)
    if isinstance(one.driver, SunSpecMeter) and isinstance(other.driver, SunSpecMeter):
        return _part(one.driver) == _part(other.driver)
    if isinstance(one.driver, MegatecUps) and isinstance(other.driver, MegatecUps):
        return True
    is_same = one.settings.driver == other.settings.driver
    return is_same and one.settings.options == other.settings.options


def overlap(one: ModbusMeter, other: ModbusMeter) -> bool:
    """Whether two maps have a register in common, beside those of texts that name the meter."""
    if one.map is other.map:
        return True
    return bool(_registers(one) & _registers(other))


def _registers(meter: ModbusMeter) -> set[tuple[int, int]]:
    return {
        (row.function, row.address + number)
        for row in meter.map.rows
        if row.quantity not in INFO and not row.common
        for number in range(row.words)
    }


def _part(meter: SunSpecMeter) -> tuple[str, int]:
    """Kind and number of the part; the meter where `part` is not set."""
    part, index = meter.part
    if isinstance(part, int):
        return MODELS[part].kind.value, index
    return part or "meter", index


def _one_meter(member: PolledDevice, others: Sequence[str]) -> ConfigWarning:
    driver, name, options = member.driver, member.name, member.settings.options
    has_unit = isinstance(options, ModbusOptions) and options.unit is not None
    path: tuple[str, ...] = ("devices", name, "unit") if has_unit else ("devices", name, "link")
    who = f"devices.{name}: with {listed(others)} it is one"
    if isinstance(driver, MegatecUps):
        text = f"{who} UPS: on {member.settings.link} there is one, without an address"
        hint = "give each UPS a link of its own, or remove one of them"
        return ConfigWarning(path, WarningCode.SAME_METER, text, hint)
    unit = member.unit
    if unit is None:
        text = f"{who} device: same driver, same link, same options"
        return ConfigWarning(
            path, WarningCode.SAME_METER, text, "tell them apart, or remove one of them"
        )
    default = "" if has_unit else ", the default,"
    text = f"{who} meter: all ask unit {unit}{default} of {member.place} for the same registers"
    hint = "write the unit that each meter is set to as its `unit:`, or remove one of them"
    if isinstance(driver, SunSpecMeter):
        hint = "write the `unit:` of each, or the `part:` and `index:` that each is of one unit"
    return ConfigWarning(path, WarningCode.SAME_METER, text, hint)


# -- keys that mean nothing ------------------------------------------------------------------------


def _keys(member: PolledDevice) -> Iterator[ConfigWarning]:
    name, device = member.name, member.settings
    slow = device.options.slow if isinstance(device.options, SlowTier) else math.inf
    if slow < device.interval and "slow" in device.options.model_fields_set:
        text = (
            f"devices.{name}.slow: {spell(slow)} is shorter than the interval of "
            f"{spell(device.interval)}: slow rows cannot be read more often than the others"
        )
        path = ("devices", name, "slow")
        yield ConfigWarning(path, WarningCode.SLOW_FASTER, text, "make it longer, or leave it out")
    possible = tuple(member.driver.commands) if isinstance(member.driver, Commands) else ()
    for command in device.commands:
        if command not in possible:
            text = f"devices.{name}.commands: the driver {device.driver} cannot do {command!r}"
            hint = f"it can do {', '.join(possible)}" if possible else "leave it out"
            yield ConfigWarning(("devices", name, "commands"), WarningCode.COMMAND, text, hint)


def _short_timeouts(built: Sequence[Built]) -> Iterator[ConfigWarning]:
    """Timeouts of devices shorter than their link's: a device can only lengthen it, since all share
    it.
    """
    for link in built:
        waits = link.plan.times.timeout
        longer = [name for name, _, device in link.drivers if device.timeout == waits]
        for name, _, device in link.drivers:
            if device.timeout is None or device.timeout >= waits:
                continue
            text = (
                f"devices.{name}.timeout: {spell(device.timeout)} means nothing: "
                f"its link waits {spell(waits)}{f' for {listed(longer)}' if longer else ''}"
            )
            hint = "make that shorter, or leave this out"
            if not longer:
                hint = f"write `timeout: {spell(device.timeout)}` at the link, under links:"
            path = ("devices", name, "timeout")
            yield ConfigWarning(path, WarningCode.SHORT_TIMEOUT, text, hint)


def _proxied(settings: Settings, members: Mapping[str, PolledDevice]) -> Iterator[ConfigWarning]:
    for unit, name in settings.proxy.devices.items() if settings.proxy else ():
        path = ("proxy", "devices", str(unit))
        if name not in members:
            text = f"proxy.devices.{unit}: {name} is not enabled, so nobody asks it"
            yield ConfigWarning(
                path, WarningCode.DISABLED, text, f"enable {name}, or leave it out here"
            )
        elif not isinstance(members[name].driver, ModbusMeter):
            text = f"proxy.devices.{unit}: {name} has no registers that could be passed on"
            hint = "the proxy serves modbus devices with a register map"
            yield ConfigWarning(path, WarningCode.PROXIED, text, hint)
