"""Names of devices: as configured, and after renames that the configuration does not have yet."""

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping

from meterd.config.codes import WarningCode
from meterd.config.renamed_devices import rename_devices, stale_names
from meterd.config.settings import Settings
from meterd.daemon.config_warnings import ConfigWarning
from meterd.daemon.events import EventLog
from meterd.errors import GeneralCode, MeterdError, StoreError
from meterd.model.event import EventKind
from meterd.store.db import renames, store_url

log = logging.getLogger(__name__)


def need_new(settings: Settings, old: str, new: str) -> None:
    """Refuse what another device of the configuration is called. Raises MeterdError."""
    if new == old:
        raise MeterdError(f"it is called {new} already", code=GeneralCode.DEVICE_EXISTS)
    if new in settings.devices:
        text = f"the configuration has another device {new}"
        if old not in settings.devices:
            return  # it was written there first, and was not polled yet
        raise MeterdError(f"{text}: choose another name", code=GeneralCode.DEVICE_EXISTS)


def advice(old: str, new: str) -> str:
    """How to correct the file."""
    return f"write {new} in the configuration wherever it says {old}"


def as_called(settings: Settings) -> Settings:
    """Settings under the names that the store has for their devices, as far as it can be read."""
    return rename_devices(settings, stale_names(settings, former(settings)))


def former(settings: Settings) -> Mapping[str, str]:
    """Names that devices had -> the names they have now, as far as the store can be read."""
    try:
        return renames.of(settings.store.url)
    except StoreError as error:
        # Whoever opens it says so.
        log.debug("whether devices were renamed cannot be read: %s", error)
        return {}


def of_names(settings: Settings) -> Iterator[ConfigWarning]:
    """Devices that the store has under another name by now, for a store in a file of this user.

    To look into another's can leave files beside it that its owner may not write.
    """
    url = settings.store.url
    if not isinstance(url, str) or not url.startswith("sqlite:"):
        return
    path = store_url.find(url).path
    if path is None or not path.exists() or path.stat().st_uid != os.geteuid():
        return
    for old, new in stale_names(settings, former(settings)).items():
        text = f"{old} was renamed: it is polled as {new}"
        yield ConfigWarning(("devices", old), WarningCode.RENAMED, text, advice(old, new))


class DeviceNames:
    """Resolves renamed devices in settings, and notes events for names that are out of date."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._told: dict[str, str] = {}

    async def meant(self, settings: Settings) -> Settings:
        """The settings under the names that the store has for its devices now."""
        # Where the store cannot be read now, they are looked at again later.
        return self.now(settings, await asyncio.to_thread(former, settings))

    def now(self, settings: Settings, known: Mapping[str, str]) -> Settings:
        """The same, where the former names are known."""
        names = stale_names(settings, known)
        for old, new in names.items():
            if self._told.get(old) != new:
                text = f"{old} was renamed: it is polled as {new}; {advice(old, new)}"
                self._events.note(EventKind.RENAMED, text, {"old": old, "new": new})
        self._told = names
        return rename_devices(settings, names)

    def knows(self, old: str, new: str) -> None:
        """Marks a rename as reported already."""
        self._told = {**{a: new if b == old else b for a, b in self._told.items()}, old: new}
