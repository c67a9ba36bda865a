"""Configured devices, as the API lists them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from meterd.config.settings import Settings
from meterd.daemon.link_plan import bare
from meterd.drivers import registry
from meterd.drivers.exclusions import LeftOut
from meterd.drivers.options import ModbusOptions
from meterd.model.driver import Driver


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device as it is configured. `interval` is in seconds, `link` has no secrets.

    `commands` are those that may be sent to it. `timeout` is what one of its exchanges may take
    now, in seconds, where its driver tells. `states` tells what the numbers of enumerated
    quantities mean, `left_out` what its driver does not ask for at the moment.
    """

    id: str
    driver: str
    model: str | None
    link: str
    interval: float
    labels: Mapping[str, str]
    enabled: bool
    timeout: float | None
    commands: tuple[str, ...] = ()
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    left_out: Callable[[], Sequence[LeftOut]] = tuple


def info_of(name: str, settings: Settings, driver: Driver | None) -> DeviceInfo:
    """The information on a configured device; `driver`: its own, where it is polled."""
    device = settings.devices[name]
    driver = None if driver is None else bare(driver)
    named = settings.links.get(device.link)
    return DeviceInfo(
        id=name,
        driver=device.driver,
        model=device.options.map if isinstance(device.options, ModbusOptions) else None,
        link=named.url if named else device.link,
        interval=device.interval,
        labels=device.labels,
        enabled=device.enabled,
        # ExchangeTimeout and LeavesOut. Asking a protocol by isinstance takes twenty times as
        # long, and each query asks for each device.
        timeout=getattr(driver, "timeout", None),
        commands=device.commands,
        left_out=getattr(driver, "left_out", tuple),
        states=registry.states(device.driver, device.options),
    )
