"""The change log of live streams: numbered changes, kept for clients that reconnect."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meterd.api.alerts import row
from meterd.api.live.serializers import LiveChange, Said, of_poll
from meterd.model.sample import Poll

if TYPE_CHECKING:
    from meterd.daemon.site import Site

# Polls that are kept for clients that were gone for a moment, and flushes that hold them.
MOST_KEPT = 2000
_MOST_CHANGES = 512


_Gist = tuple[str, str, bool, tuple[str, ...]]
"""Of an alert: its device, state, whether somebody knows, and the silences that cover it."""


class ChangeLog:
    """A sink of polls. Numbers are `<start>-<n>`: those of another start mean nothing here."""

    def __init__(self, site: "Site", start: int) -> None:
        self._site = site
        self._start = f"{start:x}"
        self._fresh: list[Poll] = []
        self._said: dict[str, Said] = {}
        self._alerts: dict[str, _Gist] = {}
        self._kept: deque[LiveChange] = deque()
        self._polls = 0
        self._number = 0

    def begin(self) -> None:
        """Starts the log for a first listener, which gets the present state before."""
        self._moved()

    def take(self, poll: Poll) -> None:
        self._fresh.append(poll)

    @property
    def number(self) -> str:
        """Of the newest change."""
        return self.name(self._number)

    def name(self, number: int) -> str:
        return f"{self._start}-{number}"

    def flush(self, now: int) -> LiveChange | None:
        """What came since the last time; None if nothing did. `now` is Unix ms."""
        polls, self._fresh = self._fresh, []
        # After a reload a device may be gone, and its last poll still be here.
        known = {device.id for device in self._site.devices()}
        told = tuple(self._message(poll) for poll in polls if poll.device in known)
        alerts, gone = self._moved()
        if not (told or alerts or gone):
            return None
        self._number += 1
        change = LiveChange(self._number, now, told, alerts, gone)
        self._append(change)
        return change

    def _moved(self) -> tuple[tuple[dict[str, Any], ...], tuple[tuple[str, str], ...]]:
        """The alerts that are new or in another state, and id and device of those that ended.

        One that flaps leaves a thousand resolved ones, which nobody wants to hear of each time.
        """
        alerting, before = self._site.alerting, self._alerts
        gists: dict[str, _Gist] = {}
        moved = []
        for alert in self._site.alerts():
            # Their values move with every poll, and are no news.
            is_known = alerting.ack_of(alert.id) is not None
            gist = alert.device, alert.state, is_known, tuple(alerting.silenced_by(alert))
            gists[alert.id] = gist
            if before.get(alert.id) != gist:
                moved.append(row(alerting, alert))
        gone = [(name, gist[0]) for name, gist in before.items() if name not in gists]
        self._alerts = gists
        return tuple(moved), tuple(gone)

    def _message(self, poll: Poll) -> dict[str, Any]:
        state = self._site.latest.states.get(poll.device)
        since = state.since if state else None
        return of_poll(poll, since, self._said.setdefault(poll.device, {}))

    def _append(self, change: LiveChange) -> None:
        self._kept.append(change)
        self._polls += _weight(change)
        while self._polls > MOST_KEPT or len(self._kept) > _MOST_CHANGES:
            self._polls -= _weight(self._kept.popleft())

    def since(self, name: str) -> Sequence[LiveChange] | None:
        """The changes after the one of that name; None where they are not all here."""
        start, _, text = name.partition("-")
        if start != self._start or not text.isascii() or not text.isdigit() or len(text) > 15:
            return None
        number = int(text)
        if number == self._number:
            return ()
        if number > self._number or not self._kept or self._kept[0].number > number + 1:
            return None
        return [change for change in self._kept if change.number > number]

    def forget(self) -> None:
        """Clears the log when nobody listens."""
        self._fresh.clear()
        self._said.clear()
        self._kept.clear()
        self._alerts = {}
        self._polls = 0
        # No change has this number, so nobody can resume from before it.
        self._number += 1


def _weight(change: LiveChange) -> int:
    """The size of a change in polls: an alert is about as long as one."""
    return len(change.polls) + len(change.alerts)
