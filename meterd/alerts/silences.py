"""Who knows of an alert already (acks), and what is not to be told for a while (silences)."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from meterd.model.alert import Alert

# More would be a mistake of a program, and each is looked at for each alert.
MOST_SILENCES = 1000


@dataclass(frozen=True, slots=True)
class Ack:
    """Somebody has seen an alert. `time` is Unix ms, `by` "" where nobody had to log in."""

    alert: str
    by: str
    comment: str
    time: int


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that hooks are not told of in start <= time < end (Unix ms).

    An alert is meant where each of `rule`, `device` and `quantity` is "" or its own.
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


def unique() -> str:
    return str(uuid.uuid4())


class ActiveSilences:
    """Those that are not over."""

    def __init__(self, new_id: Callable[[], str] = unique) -> None:
        self._new_id = new_id
        self._all: dict[str, Silence] = {}
        # By device, "" for every one; the first to end comes first.
        self._of: dict[str, list[Silence]] = {}

    def next_id(self) -> str:
        return self._new_id()

    def add(self, silence: Silence) -> None:
        """Raises ValueError where there are too many."""
        if len(self._all) >= MOST_SILENCES:
            raise ValueError(f"there are {MOST_SILENCES} silences already")
        self._set(self._all | {silence.id: silence})

    def remove(self, silence: str) -> bool:
        """False where there is none of that id."""
        if silence not in self._all:
            return False
        self._set({key: one for key, one in self._all.items() if key != silence})
        return True

    def listed(self) -> list[Silence]:
        """Those that end first come first."""
        return list(self._all.values())

    def covering(self, alert: Alert, now: int) -> list[str]:
        """The ids of those that keep it quiet."""
        return [one.id for one in self._about(alert) if one.covers(alert, now)]

    def covers(self, alert: Alert, now: int) -> bool:
        """Whether any keeps it quiet."""
        return any(one.covers(alert, now) for one in self._about(alert))

    def prune(self, now: int) -> bool:
        """Forget what is over; whether there was any."""
        left = {key: one for key, one in self._all.items() if one.end > now}
        if len(left) == len(self._all):
            return False
        self._set(left)
        return True

    def rename(self, old: str, new: str) -> None:
        """Those of a device are of the one that is called so now."""
        self._set(
            {
                key: replace(one, device=new) if one.device == old else one
                for key, one in self._all.items()
            }
        )

    def restore(self, silences: Iterable[Silence]) -> None:
        self._set({one.id: one for one in silences})

    def _about(self, alert: Alert) -> Iterable[Silence]:
        return chain(self._of.get(alert.device, ()), self._of.get("", ()))

    def _set(self, silences: Mapping[str, Silence]) -> None:
        ordered = sorted(silences.values(), key=lambda one: (one.end, one.id))
        self._all = {one.id: one for one in ordered}
        self._of = {}
        for one in ordered:
            self._of.setdefault(one.device, []).append(one)
