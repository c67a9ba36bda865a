"""Rate limit for log lines that clients can cause: one a second, with a count of the rest."""

from meterd.model.clock import Clock

_EVERY = 1.0


class LogRateLimit:
    """Limits how often a kind of line is logged."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = -_EVERY
        self._left_out = 0

    def ask(self) -> str | None:
        """The suffix of the line, mostly empty; None where it is not to be logged."""
        now = self._clock.monotonic()
        if now - self._last < _EVERY:
            self._left_out += 1
            return None
        self._last = now
        more = f" (and {self._left_out} more like it)" if self._left_out else ""
        self._left_out = 0
        return more
