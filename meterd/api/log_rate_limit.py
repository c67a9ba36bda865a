"""Rate limit for log lines that clients can cause: one a second, with a count of the rest."""

from meterd.model.clock import Clock

_EVERY = 1.0


class LogRateLimit:
    """Asked before each such line."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = -_EVERY
        self._left_out = 0

    def ask(self) -> str | None:
        """What to add to the line, mostly nothing; None where there is to be no line."""
        now = self._clock.monotonic()
        if now - self._last < _EVERY:
            self._left_out += 1
            return None
        self._last = now
        more = f" (and {self._left_out} more like it)" if self._left_out else ""
        self._left_out = 0
        return more
