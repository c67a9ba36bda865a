"""Growing pauses before something that a device would not answer is asked again."""

import asyncio
from dataclasses import dataclass

# Seconds before the first new try; each later pause is twice as long, up to the longest.
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0


def loop_time() -> float:
    """Monotonic seconds of the event loop that runs."""
    return asyncio.get_running_loop().time()


def longer(pause: float) -> float:
    """The pause after one of so many seconds."""
    return min(pause * 2, LONGEST_PAUSE_S)


@dataclass(slots=True)
class RetryPause:
    """When one thing is due again, in monotonic seconds: at once, until it fails."""

    pause: float = 0.0
    due: float = 0.0

    def failed(self, now: float, first: float = FIRST_PAUSE_S) -> None:
        """Not now; after the `first` pause where it had not failed before."""
        self.pause = longer(self.pause) if self.pause else first
        self.due = now + self.pause

    def reset(self) -> None:
        """Due at once, and as if it had never failed."""
        self.pause = self.due = 0.0
