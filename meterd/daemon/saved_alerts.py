"""Saves alerts and silences in the store, and restores them at the start."""

import json
import logging
import os
from collections.abc import Sequence

from meterd.alerts.engine import Alerts
from meterd.daemon.counter_state import Memos
from meterd.errors import StoreError
from meterd.model.clock import Clock

log = logging.getLogger(__name__)

_NAME = "alerts"
_PAST = "alerts past"
# A `for` that runs is noted so often, in seconds; all else when it changes.
_EVERY = 10.0
# What was resolved lately is for people who look; it is noted so often, in seconds.
_PAST_EVERY = 600.0
# A long note (a thousand notices of a hook that is down) rests after it was written: flash wears.
_MOST_BYTES_A_S = 20_000


def silenced(url: str | Sequence[str], now: int) -> list[str]:
    """The rules that silences of a store in a file are for, at `now` (Unix ms).

    Empty where that cannot be read, or the file is another user's: to look into it can leave files
    beside it that its owner may not write.
    """
    if not isinstance(url, str) or not url.startswith("sqlite:"):
        return []
    # Half a second of imports, which only a store that is there is worth.
    from meterd.store.db import store_url

    place = store_url.find(url)
    if place.path is None or not place.made() or place.path.stat().st_uid != os.geteuid():
        return []
    from meterd.store.db.memos import memos

    try:
        with place.mapped(), place.reading() as connection:
            state = json.loads(memos(connection).get(_NAME, "{}"))
        return [
            str(one["rule"])
            for one in state.get("silences", ())
            if one["rule"] and one["end"] > now
        ]
    except (StoreError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.debug("the store's silences cannot be read: %s", error)
        return []


class SavedAlerts:
    """Saves the state of the alerts when it has changed.

    Those that were resolved are noted apart, and rarely: an alert that flaps leaves a thousand.
    """

    def __init__(self, alerts: Alerts, clock: Clock) -> None:
        self._alerts = alerts
        self._clock = clock
        # Version and undelivered notices, as last noted.
        self._state = 0, 0
        self._noted = 0.0
        self._noted_past = clock.monotonic()
        self._rests_until = float("-inf")

    def restore(self, memos: Memos) -> None:
        """Go on where the last start ended; data that is none is logged, and left."""
        body = memos.recall(_NAME)
        if body is None:
            return
        try:
            self._alerts.restore(json.loads(body), json.loads(memos.recall(_PAST) or "[]"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("alerts begin anew: what was noted is no state of them: %s", error)

    def look(self, memos: Memos) -> None:
        """To be called each second."""
        now = self._clock.monotonic()
        ripens = now - self._noted >= _EVERY and self._alerts.has_pending
        if (self._now() != self._state or ripens) and now >= self._rests_until:
            self._save(memos)
        if now - self._noted_past >= _PAST_EVERY:
            self._save_past(memos)

    def save(self, memos: Memos) -> None:
        """All of it, at once."""
        self._save(memos)
        self._save_past(memos)

    def _save(self, memos: Memos) -> None:
        self._state, self._noted = self._now(), self._clock.monotonic()
        body = json.dumps(self._alerts.snapshot())
        self._rests_until = self._noted + len(body) // _MOST_BYTES_A_S
        memos.remember(_NAME, body)

    def _save_past(self, memos: Memos) -> None:
        self._noted_past = self._clock.monotonic()
        memos.remember(_PAST, json.dumps(self._alerts.snapshot_resolved()))

    def _now(self) -> tuple[int, int]:
        return self._alerts.version, self._alerts.undelivered_count
