"""One timer for a link's exchanges, which come one after the other."""

import asyncio
from typing import Any

from meterd.errors import LinkError
from meterd.wire.answer import Answer

# A clock tick early is not a second sleep.
_TICK = 0.001


class Deadline:
    """Gives an answer up when its time has come.

    A timer that fires early is set again for the exchange of that moment: this costs less than a
    timer made and cancelled for each.
    """

    __slots__ = ("_answer", "_fires", "_timer", "_when")

    def __init__(self) -> None:
        self._answer: Answer[Any] | None = None
        self._when = 0.0
        self._fires = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: Answer[Any], when: float) -> None:
        """Fail `answer` with LinkError(timeout) at `when` (loop time), if it is not there then."""
        self._answer, self._when = answer, when
        if self._timer is None or self._fires > when:
            self.cancel()
            self._set(answer.get_loop())

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._fires = self._when
        self._timer = loop.call_at(self._when, self._due)

    def _due(self) -> None:
        self._timer = None
        answer = self._answer
        if answer is None or answer.done:
            self._answer = None
            return
        loop = answer.get_loop()
        if self._when - loop.time() > _TICK:
            self._set(loop)
        else:
            answer.fail(LinkError("no answer in time", code="timeout"))
