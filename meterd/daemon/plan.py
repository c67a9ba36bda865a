"""Which links a configuration needs, and which devices share each: what Site builds from."""

from collections.abc import Mapping
from dataclasses import dataclass

from meterd.config.settings import DeviceSettings, LinkSettings, Settings
from meterd.drivers import registry
from meterd.errors import ConfigError
from meterd.model.sample import Driver
from meterd.poll.cycle import Device
from meterd.poll.normalise import Normaliser
from meterd.wire import open_link
from meterd.wire.address import Address, parse
from meterd.wire.link import Link


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
        timeouts = [d.timeout for _, d in self.devices if d.timeout is not None]
        return open_link(
            self.address,
            defaults=self.defaults,
            timeout=max([self.address.duration("timeout") or self.settings.timeout, *timeouts]),
            connect_timeout=self.settings.connect_timeout,
            gap=self.address.duration("gap") or self.settings.gap,
        )


def link_plans(settings: Settings) -> dict[str, LinkPlan]:
    """By link key. Raises ConfigError where two devices cannot share their link."""
    plans: dict[str, LinkPlan] = {}
    for device_id, device in settings.devices.items():
        if not device.enabled:
            continue
        link = settings.links.get(device.link) or LinkSettings(url=device.link)
        address = parse(link.url)
        defaults = registry.link_defaults(device.driver, device.options)
        plan = plans.get(address.key)
        if plan is None:
            members: tuple[tuple[str, DeviceSettings], ...] = ()
        else:
            _agree(plan, address, defaults, device_id)
            members = plan.devices
        plans[address.key] = LinkPlan(
            address.key, address, defaults, link, (*members, (device_id, device))
        )
    return plans


def _agree(plan: LinkPlan, address: Address, defaults: Mapping[str, str], device_id: str) -> None:
    """Devices on one bus speak with the same settings."""
    before, now = plan.address.settled(plan.defaults), address.settled(defaults)
    differing = [name for name in now if before.get(name) != now[name]]
    if not differing:
        return
    other = plan.devices[0][0]
    what = ", ".join(f"{name} {before.get(name)} and {now[name]}" for name in differing)
    raise ConfigError(
        f"{other} and {device_id} share {plan.key} but want {what}: "
        f"write the same settings in both link URLs, or one entry under links:"
    )


def devices(plan: LinkPlan, link: Link) -> list[tuple[str, Driver, DeviceSettings]]:
    """A driver for each device of the link. Raises ConfigError."""
    return [
        (device_id, registry.build(settings.driver, link, settings.options), settings)
        for device_id, settings in plan.devices
    ]


def polled(device_id: str, driver: Driver, settings: DeviceSettings) -> Device:
    """A device as the poll room knows it."""
    normaliser = Normaliser(device_id, swapped=settings.direction == "reversed")
    return Device(device_id, driver, settings.interval, normaliser)
