"""One timer for a link's exchanges, which come one after the other."""

import asyncio
from typing import Any

from meterd.errors import LinkError

# A clock tick early is not a second sleep.
_TICK = 0.001


class Deadline:
    """Gives an answer up when its time has come.

    A timer that fires early is set again for the exchange of that moment: this costs less than a
    timer made and cancelled for each.
    """

    def __init__(self) -> None:
        self._answer: asyncio.Future[Any] | None = None
        self._when = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: asyncio.Future[Any], when: float) -> None:
        """Fail `answer` with LinkError(timeout) at `when` (loop time), if it is not there then."""
        self._answer, self._when = answer, when
        if self._timer is None or self._timer.when() > when:
            self.cancel()
            self._timer = answer.get_loop().call_at(when, self._due)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        answer = self._answer
        if answer is None or answer.done():
            return
        loop = answer.get_loop()
        if self._when - loop.time() > _TICK:
            self._timer = loop.call_at(self._when, self._due)
        else:
            answer.set_exception(LinkError("no answer in time", code="timeout"))
