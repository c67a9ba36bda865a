"""Which links a configuration needs, and which devices share each: what LinkManager builds from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING
from zlib import crc32

from pydantic import BaseModel

from meterd.config.link_urls import LINE_KEYS
from meterd.config.settings import DeviceSettings, LinkSettings, Settings
from meterd.drivers import registry
from meterd.errors import ConfigError
from meterd.model.calibration import NO_CALIBRATION, Calibration
from meterd.model.driver import (
    Closes,
    CounterRegisters,
    Driver,
    LimitsPower,
    Notices,
    SlowTier,
    UnitAddress,
)
from meterd.model.duration import seconds
from meterd.model.event import Notice
from meterd.model.sample import CounterRegister, Reading
from meterd.poll.counter_guard import DEFAULT_POWER
from meterd.poll.counter_replay import CounterTerms
from meterd.poll.counters import Counters, CountersState, Form, Origin, terms_of
from meterd.poll.cycle import PollTarget
from meterd.poll.direction import other_way
from meterd.poll.normalise import Normaliser, Terms
from meterd.wire import open_link
from meterd.wire.address import TIMES, Address, parse
from meterd.wire.link import Link, Times

if TYPE_CHECKING:
    from meterd.drivers.options import ModbusOptions

_TIMEOUT = 1.0
# What a link is like of which nothing is said but its URL; one object for all of them.
_PLAIN = LinkSettings(url="tcp://0.0.0.0")
# Sites have a few models of meters.
_MODELS = 500


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """One link and the devices on it. Two plans are equal when nothing about them differs."""

    key: str
    address: Address
    defaults: Mapping[str, str]
    settings: LinkSettings
    devices: tuple[tuple[str, DeviceSettings], ...]

    def open(self) -> Link:
        """The link; it connects at its first exchange."""
        return open_link(self.address, defaults=self.defaults, times=self.times)

    @property
    def times(self) -> Times:
        """Of the URL, else of the entry under links, else of the meters' maps.

        The timeout is the longest that one of the devices wants.
        """
        settings = self.settings
        longest = max((d.timeout for _, d in self.devices if d.timeout), default=0.0)
        return Times(
            timeout=max(self._time("timeout") or settings.timeout or _TIMEOUT, longest),
            connect_timeout=settings.connect_timeout,
            gap=self._time("gap") or settings.gap or 0.0,
            unit_gap=self._time("unit_gap") or settings.unit_gap or 0.0,
            connect_delay=self._time("connect_delay") or settings.connect_delay or 0.0,
        )

    def _time(self, name: str) -> float | None:
        """From the URL; where neither it nor the entry under links says it, from the maps."""
        duration = self.address.duration(name)
        if duration is not None or getattr(self.settings, name) is not None:
            return duration
        return seconds(self.defaults[name]) if name in self.defaults else None


def link_plans(settings: Settings) -> dict[str, LinkPlan]:
    """By link key. Raises ConfigError where two devices cannot share their link."""
    plans: dict[str, LinkPlan] = {}
    for device_id, device in settings.devices.items():
        if not device.enabled:
            continue
        link = settings.links.get(device.link, _PLAIN)
        address = _address(device, link)
        with _named_error(device_id):
            defaults = registry.link_defaults(device.driver, device.options)
        plan = plans.get(address.key)
        if plan is None:
            members: tuple[tuple[str, DeviceSettings], ...] = ()
            named = link
        else:
            _agree(plan, address, defaults, device_id)
            members = plan.devices
            # What an entry under links says is for all devices on the link.
            named = plan.settings if link is _PLAIN else link
            address = replace(address, options={**_line(address), **plan.address.options})
            defaults = _most_patient(plan.defaults, defaults)
        plans[address.key] = LinkPlan(
            address.key, address, defaults, named, (*members, (device_id, device))
        )
    return plans


def _address(device: DeviceSettings, link: LinkSettings) -> Address:
    """The address of a device's link, with the line settings of the entry under links."""
    if link is _PLAIN:
        return parse(device.link)
    address = parse(link.url)
    return replace(address, options={**link.line, **address.options})


def _line(address: Address) -> dict[str, str]:
    return {key: value for key, value in address.options.items() if key in LINE_KEYS}


def _most_patient(mine: Mapping[str, str], theirs: Mapping[str, str]) -> Mapping[str, str]:
    """Of two meters on one bus the slower sets the pauses; all else they agree on."""
    times = {name for name in (*mine, *theirs) if seconds(mine.get(name, theirs.get(name, "")))}
    longest = {
        name: max((mine.get(name, "0s"), theirs.get(name, "0s")), key=lambda t: seconds(t) or 0.0)
        for name in times
    }
    return {**mine, **theirs, **longest}


def _agree(plan: LinkPlan, address: Address, defaults: Mapping[str, str], device_id: str) -> None:
    """Devices on one bus speak with the same settings."""
    before, now = plan.address.settled(plan.defaults), address.settled(defaults)
    # Of the line behind a gateway one of them may say nothing.
    on_both = {name for name in LINE_KEYS if name in before and name in now}
    names = [name for name in now if name in on_both or name not in LINE_KEYS]
    differing = [name for name in names if before.get(name) != now[name]]
    if not differing:
        return
    other = plan.devices[0][0]
    what = ", ".join(f"{name} {before.get(name)} and {now[name]}" for name in differing)
    text = (
        f"{other} and {device_id} share {plan.key} but want {what}: "
        f"write the same settings in both link URLs, or one entry under links:"
    )
    raise ConfigError(text, ("devices", device_id, "link"))


@dataclass(frozen=True, slots=True)
class Built:
    """A link that opens when it is used, and the drivers of its devices: id, driver, settings."""

    plan: LinkPlan
    link: Link
    drivers: Sequence[tuple[str, Driver, DeviceSettings]]


def build(plan: LinkPlan, before: Built | None = None) -> Built:
    """The link of a plan, and its drivers. Raises ConfigError.

    Of `before`, which is in use, the link is taken over where it leads to the same port or peer
    in the same way, and so is the driver of each device that did not change. Nothing of that is
    touched here.
    """
    if before is None or not _is_same_line(plan, before.plan):
        link = plan.open()
        return Built(plan, link, devices(plan, link))
    settled = plan.settings.keep_open == before.plan.settings.keep_open
    unchanged = {name: (driver, device) for name, driver, device in before.drivers if settled}
    return Built(plan, before.link, devices(plan, before.link, unchanged))


def _is_same_line(plan: LinkPlan, other: LinkPlan) -> bool:
    """Whether an open link can be taken over; timeouts and pauses can be changed while it
    is open.
    """
    return _way(plan) == _way(other)


def _way(plan: LinkPlan) -> tuple[Address, Mapping[str, str]]:
    options = plan.address.settled(plan.defaults)
    line = {name: value for name, value in options.items() if name not in TIMES}
    return replace(plan.address, options={}), line


def devices(
    plan: LinkPlan,
    link: Link,
    known: Mapping[str, tuple[Driver, DeviceSettings]] = MappingProxyType({}),
) -> list[tuple[str, Driver, DeviceSettings]]:
    """A driver for each device of the link; those of unchanged devices are kept. Raises
    ConfigError.
    """
    drivers = []
    for device_id, settings in plan.devices:
        before = known.get(device_id)
        if before is not None and before[1] == settings:
            driver = before[0]
        else:
            with _named_error(device_id):
                driver = _build(settings, link)
            driver = driver if plan.settings.keep_open else Letting(driver, link)
        drivers.append((device_id, driver, settings))
    return drivers


@contextmanager
def _named_error(device_id: str) -> Iterator[None]:
    """Names the device in a ConfigError of its driver, which does not know whose it is."""
    try:
        yield
    except ConfigError as error:
        if error.problems:
            raise
        path = ("devices", device_id)
        raise ConfigError(f"{'.'.join(path)}: {error}", path) from error


def _build(settings: DeviceSettings, link: Link) -> Driver:
    return registry.build(settings.driver, link, settings.options, settings.interval)


class Letting:
    """A driver that lets go of the link after each poll: its device takes one client only.

    For all but polling ask the driver itself, which `bare` gives.
    """

    def __init__(self, driver: Driver, link: Link) -> None:
        self.driver = driver
        self._link = link
        self._noticing = driver if isinstance(driver, Notices) else None

    @property
    def notices(self) -> list[Notice]:
        """The driver's own."""
        return [] if self._noticing is None else self._noticing.notices

    async def read(self) -> Sequence[Reading]:
        try:
            return await self.driver.read()
        finally:
            try:
                await close_driver(self.driver)
            finally:
                await self._link.close()


async def close_driver(driver: Driver) -> None:
    """Where it holds anything beside its link, it lets go of that."""
    driver = bare(driver)
    if isinstance(driver, Closes):
        await driver.close()


def bare(driver: Driver) -> Driver:
    """The driver itself, also where it is wrapped to close its link after each poll."""
    return driver.driver if isinstance(driver, Letting) else driver


def polled(device_id: str, driver: Driver, settings: DeviceSettings) -> PollTarget:
    """A device as the poll room knows it, for one poll or for many."""
    terms = Terms(
        settings.direction == "reversed",
        _given_power(settings),
        _calibration(settings),
        modbus.sizes if (modbus := _modbus_options(settings)) is not None else frozenset(),
    )
    normaliser = Normaliser(device_id, terms=terms, origin=registry.origin(settings.driver))
    return PollTarget(device_id, driver, settings.interval, normaliser)


def max_power(settings: DeviceSettings) -> float:
    """The most that can flow where this device measures, in W."""
    return _given_power(settings) or DEFAULT_POWER


def _given_power(settings: DeviceSettings) -> float | None:
    """As `max_power`; None where neither the device nor its map has it."""
    modbus, options = _modbus_options(settings), settings.options
    if modbus is not None:
        return modbus.power_limit[0] if modbus.power_limit else None
    return options.max_power if isinstance(options, LimitsPower) else None


def _calibration(settings: DeviceSettings) -> Calibration:
    modbus = _modbus_options(settings)
    return NO_CALIBRATION if modbus is None else modbus.calibration


def _modbus_options(settings: DeviceSettings) -> "ModbusOptions | None":
    # Imported when a device is built: it loads pymodbus, which `meterd run --help` needs not.
    from meterd.drivers.options import ModbusOptions

    return settings.options if isinstance(settings.options, ModbusOptions) else None


def guards(
    device_id: str,
    driver: Driver,
    settings: DeviceSettings,
    state: CountersState | None,
    link: str = "",
) -> Counters:
    """The guards of a device's energy counters; `state`: their state before a restart.

    `link` is the key of the link that it is read on.
    """
    terms = _registers(driver, settings)
    forms = _forms(*terms)
    origin = Origin(_origin(driver, settings, link), _sources(*terms))
    slow = settings.options.slow if isinstance(settings.options, SlowTier) else 0.0
    return Counters(
        device_id,
        max_power=max_power(settings),
        forms=forms,
        interval=max(settings.interval, slow),
        state=state,
        origin=origin,
    )


def counter_terms(driver: Driver, settings: DeviceSettings) -> Callable[[str, str], CounterTerms]:
    """How each of the device's counters counts, by quantity and unit."""
    forms, is_given = _forms(*_registers(driver, settings)), _given_power(settings) is not None

    def terms(quantity: str, unit: str) -> CounterTerms:
        form = forms.get(quantity, Form())
        return terms_of(unit, form, max_power(settings), is_given=is_given)

    return terms


def _registers(
    driver: Driver, settings: DeviceSettings
) -> tuple[tuple[CounterRegister, ...], bool, Calibration]:
    driver = bare(driver)
    registers = driver.counters() if isinstance(driver, CounterRegisters) else ()
    listed = tuple(CounterRegister(*each) for each in registers)
    return listed, settings.direction == "reversed", _calibration(settings)


def _origin(driver: Driver, settings: DeviceSettings, link: str) -> Mapping[str, str]:
    """What of a device's settings makes its counters another's when it changes."""
    options, driver = settings.options, bare(driver)
    origin: dict[str, object] = {
        "driver": settings.driver,
        "unit": driver.unit if isinstance(driver, UnitAddress) else None,
        "link": link or None,
    }
    if (modbus := _modbus_options(settings)) is not None:
        origin |= {"map": modbus.map, "part": modbus.part, "index": modbus.index}
    elif isinstance(options, BaseModel):
        # A driver of somebody else's: any of its keys may choose another counter.
        origin["options"] = options.model_dump(mode="json") or None
    return {key: str(value) for key, value in origin.items() if value is not None}


@lru_cache(maxsize=_MODELS)
def _sources(
    registers: tuple[CounterRegister, ...], swapped: bool, calibration: Calibration
) -> Mapping[str, str]:
    """A digest of how each counter is read; one object for all meters of a model."""
    return {
        other_way(each.quantity) if swapped else each.quantity: _digest(
            each, calibration.factor(each.quantity)
        )
        for each in registers
    }


def _digest(register: CounterRegister, factor: float) -> str:
    text = f"{register.source} {register.type} {register.step} {register.wrap} {factor:g}"
    return f"{crc32(text.encode()):08x}"


@lru_cache(maxsize=_MODELS)
def _forms(
    registers: tuple[CounterRegister, ...], swapped: bool, calibration: Calibration
) -> Mapping[str, Form]:
    """How each counter counts; one object for all meters of a model."""
    return {
        other_way(each.quantity) if swapped else each.quantity: _form(
            each, calibration.factor(each.quantity)
        )
        for each in registers
    }


def _form(register: CounterRegister, factor: float) -> Form:
    step = None if register.step is None else register.step * factor
    rate = None if register.rate is None else register.rate * factor
    return Form.of(register.type, step, register.wrap, rate)
