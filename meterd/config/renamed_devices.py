"""A configuration that calls devices by names which they had before they were renamed."""

from collections.abc import Mapping

from meterd.config.settings import Settings


def outdated(settings: Settings, former: Mapping[str, str]) -> dict[str, str]:
    """The configured devices that are called otherwise by now: old name -> name now.

    `former` is in the order in which the names were given up. Not one whose name now, or whose
    later name, is configured, too: then the old name is another device's.
    """
    found: dict[str, str] = {}
    for old, now in reversed(list(former.items())):
        is_free = now not in settings.devices and now not in found.values()
        if old in settings.devices and is_free:
            found[old] = now
    return found


def renamed(settings: Settings, names: Mapping[str, str]) -> Settings:
    """The same with these devices under other names, wherever they are named."""
    if not names:
        return settings

    def now(name: str) -> str:
        return names.get(name, name)

    rules = {
        name: rule.model_copy(update={"device": tuple(map(now, rule.device))})
        for name, rule in settings.alerts.rules.items()
    }
    proxy = settings.proxy
    if proxy is not None:
        devices = {unit: now(device) for unit, device in proxy.devices.items()}
        proxy = proxy.model_copy(update={"devices": devices})
    return settings.model_copy(
        update={
            "devices": {now(name): device for name, device in settings.devices.items()},
            "alerts": settings.alerts.model_copy(update={"rules": rules}),
            "proxy": proxy,
        }
    )
