"""Exponential backoff before a request that a device did not answer is repeated."""

import asyncio
from dataclasses import dataclass

# Seconds before the first repetition; each later pause is twice as long, up to the longest.
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0


def loop_time() -> float:
    """Monotonic seconds of the running event loop."""
    return asyncio.get_running_loop().time()


def longer(pause: float) -> float:
    """The pause that follows this one, in seconds."""
    return min(pause * 2, LONGEST_PAUSE_S)


@dataclass(slots=True)
class RetryPause:
    """Backoff of one request: `due` in monotonic seconds, at once until it fails."""

    pause: float = 0.0
    due: float = 0.0

    def failed(self, now: float, first: float = FIRST_PAUSE_S) -> None:
        """A failure: due after twice the last pause, or after `first` if there was none."""
        self.pause = longer(self.pause) if self.pause else first
        self.due = now + self.pause

    def reset(self) -> None:
        """Due at once, without earlier failures."""
        self.pause = self.due = 0.0
