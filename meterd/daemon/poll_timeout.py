"""How long one poll may take at most: one timer for all polls, none for each."""

import asyncio

from meterd.model.driver import POLL_LIMIT_S

_GIVEN_UP = -1.0


class PollTimeout:
    """Cancels tasks that have been at one poll for `seconds`.

    Made for polls that begin a thousand times a second and never hang: a timer for each would
    cost more than the rest of containing it.
    """

    def __init__(self, seconds: float = POLL_LIMIT_S) -> None:
        self.seconds = seconds
        # When each began, by the loop's time; so in that order.
        self._began: dict[asyncio.Task[object], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, task: "asyncio.Task[object]") -> None:
        """This task begins a poll; `end` has to follow."""
        loop = task.get_loop()
        now = loop.time()
        self._began[task] = now
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_at(now + self.seconds, self._check, loop)

    def end(self, task: "asyncio.Task[object]") -> bool:
        """The poll is over; whether it was given up, and its task cancelled for that."""
        if self._began.pop(task) != _GIVEN_UP:
            return False
        # That cancellation was for the poll, not for the task.
        task.uncancel()
        return True

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        latest = loop.time() - self.seconds
        for task, began in self._began.items():
            if began > latest:
                self._timer = loop.call_at(began + self.seconds, self._check, loop)
                return
            if began != _GIVEN_UP:
                self._began[task] = _GIVEN_UP
                task.cancel()
