"""Acknowledgements of alerts, and silences that suppress notifications for a time."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from meterd.model.alert import Alert

# Bounds the cost of each alert (all silences of its device are checked), and runaway clients.
MAX_SILENCES = 1000


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledgement. `alert` is an alert's id, `time` Unix ms, `by` "" without a login."""

    alert: str
    by: str
    comment: str
    time: int


@dataclass(frozen=True, slots=True)
class Silence:
    """Suppresses the notifications of matching alerts in start <= time < end (Unix ms).

    An alert matches where each of `rule`, `device` and `quantity` is "" or equal to its own.
    """

    id: str
    start: int
    end: int
    rule: str = ""
    device: str = ""
    quantity: str = ""
    by: str = ""
    comment: str = ""

    def covers(self, alert: Alert, now: int) -> bool:
        return (
            self.start <= now < self.end
            and self.rule in ("", alert.rule)
            and self.device in ("", alert.device)
            and self.quantity in ("", alert.quantity)
        )


def new_uuid() -> str:
    return str(uuid.uuid4())


class ActiveSilences:
    """The silences that have not ended, by device, at most MAX_SILENCES."""

    def __init__(self, new_id: Callable[[], str] = new_uuid) -> None:
        self._new_id = new_id
        self._all: dict[str, Silence] = {}
        # By device id, "" for all devices; ordered by end.
        self._by_device: dict[str, list[Silence]] = {}

    def next_id(self) -> str:
        return self._new_id()

    def add(self, silence: Silence) -> None:
        """Raises ValueError at MAX_SILENCES."""
        if len(self._all) >= MAX_SILENCES:
            raise ValueError(f"there are {MAX_SILENCES} silences already")
        self._reindex(self._all | {silence.id: silence})

    def remove(self, silence: str) -> bool:
        """False where there is none of that id."""
        if silence not in self._all:
            return False
        self._reindex({key: other for key, other in self._all.items() if key != silence})
        return True

    def listed(self) -> list[Silence]:
        """All, ordered by their end."""
        return list(self._all.values())

    def covering(self, alert: Alert, now: int) -> list[str]:
        """The ids of the silences that cover the alert at `now` (Unix ms)."""
        return [silence.id for silence in self._candidates(alert) if silence.covers(alert, now)]

    def covers(self, alert: Alert, now: int) -> bool:
        """Whether any silence covers the alert at `now` (Unix ms)."""
        return any(silence.covers(alert, now) for silence in self._candidates(alert))

    def prune(self, now: int) -> bool:
        """Removes silences that ended by `now` (Unix ms); whether there was any."""
        remaining = {key: silence for key, silence in self._all.items() if silence.end > now}
        if len(remaining) == len(self._all):
            return False
        self._reindex(remaining)
        return True

    def rename(self, old: str, new: str) -> None:
        """Renames a device."""
        self._reindex(
            {
                key: replace(silence, device=new) if silence.device == old else silence
                for key, silence in self._all.items()
            }
        )

    def restore(self, silences: Iterable[Silence]) -> None:
        self._reindex({silence.id: silence for silence in silences})

    def _candidates(self, alert: Alert) -> Iterable[Silence]:
        return chain(self._by_device.get(alert.device, ()), self._by_device.get("", ()))

    def _reindex(self, silences: Mapping[str, Silence]) -> None:
        ordered = sorted(silences.values(), key=lambda silence: (silence.end, silence.id))
        self._all = {silence.id: silence for silence in ordered}
        self._by_device = {}
        for silence in ordered:
            self._by_device.setdefault(silence.device, []).append(silence)
