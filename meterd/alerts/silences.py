"""Who knows of an alert already (acks), and what is not to be told for a while (silences)."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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


class Silences:
    """Those that are not over."""

    def __init__(self, new_id: Callable[[], str] = unique) -> None:
        self._new_id = new_id
        self._all: dict[str, Silence] = {}

    def next_id(self) -> str:
        return self._new_id()

    def add(self, silence: Silence) -> None:
        """Raises ValueError where there are too many."""
        if len(self._all) >= MOST_SILENCES:
            raise ValueError(f"there are {MOST_SILENCES} silences already")
        self._all[silence.id] = silence

    def remove(self, silence: str) -> bool:
        """False where there is none of that id."""
        return self._all.pop(silence, None) is not None

    def listed(self) -> list[Silence]:
        """Those that end first come first."""
        return sorted(self._all.values(), key=lambda one: (one.end, one.id))

    def covering(self, alert: Alert, now: int) -> list[str]:
        """The ids of those that keep it quiet."""
        return [one.id for one in self.listed() if one.covers(alert, now)]

    def prune(self, now: int) -> bool:
        """Forget what is over; whether there was any."""
        before = len(self._all)
        self._all = {key: one for key, one in self._all.items() if one.end > now}
        return len(self._all) != before

    def restore(self, silences: Iterable[Silence]) -> None:
        self._all = {one.id: one for one in silences}
