"""What alerts and silences there were before a restart."""

import json
import logging

from meterd.alerts.engine import Alerts
from meterd.daemon.memory import Memos
from meterd.model.clock import Clock

log = logging.getLogger(__name__)

_NAME = "alerts"
# A `for` that runs is noted so often, in seconds; all else when it changes.
_EVERY = 10.0


class AlertMemory:
    """Notes the state of the alerts when it is another than before."""

    def __init__(self, alerts: Alerts, clock: Clock) -> None:
        self._alerts = alerts
        self._clock = clock
        # Version and undelivered notices, as last noted.
        self._state = 0, 0
        self._noted = 0.0

    def restore(self, memos: Memos) -> None:
        """Go on where the last start ended; data that is none is logged, and left."""
        body = memos.recall(_NAME)
        if body is None:
            return
        try:
            self._alerts.restore(json.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("alerts begin anew: what was noted is no state of them: %s", error)

    def look(self, memos: Memos) -> None:
        """To be called each second."""
        now = self._clock.monotonic()
        ripens = now - self._noted >= _EVERY and self._alerts.is_ripening
        if self._now() != self._state or ripens:
            self.save(memos)

    def save(self, memos: Memos) -> None:
        self._state, self._noted = self._now(), self._clock.monotonic()
        memos.remember(_NAME, json.dumps(self._alerts.saved()))

    def _now(self) -> tuple[int, int]:
        return self._alerts.version, self._alerts.owed
