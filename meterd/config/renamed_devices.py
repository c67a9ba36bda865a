"""A configuration that still has former names of devices which were renamed over the API."""

from collections.abc import Mapping

from meterd.config.settings import Settings


def stale_names(settings: Settings, former: Mapping[str, str]) -> dict[str, str]:
    """Configured devices that have been renamed: former name -> present name.

    `former` maps the same for all renamings, the oldest first. A device whose present name is
    configured, too, is left out: its former name is then another device's.
    """
    names: dict[str, str] = {}
    for old, now in reversed(list(former.items())):
        is_free = now not in settings.devices and now not in names.values()
        if old in settings.devices and is_free:
            names[old] = now
    return names


def rename_devices(settings: Settings, names: Mapping[str, str]) -> Settings:
    """The settings with devices renamed (former name -> present name), also in rules and proxy."""
    if not names:
        return settings

    def present_name(name: str) -> str:
        return names.get(name, name)

    rules = {
        name: rule.model_copy(update={"device": tuple(map(present_name, rule.device))})
        for name, rule in settings.alerts.rules.items()
    }
    proxy = settings.proxy
    if proxy is not None:
        devices = {unit: present_name(device) for unit, device in proxy.devices.items()}
        proxy = proxy.model_copy(update={"devices": devices})
    return settings.model_copy(
        update={
            "devices": {present_name(name): device for name, device in settings.devices.items()},
            "alerts": settings.alerts.model_copy(update={"rules": rules}),
            "proxy": proxy,
        }
    )
