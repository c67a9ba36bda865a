"""When a link's exchanges are given up: a few timers for all links, none for each exchange."""

import asyncio
import math
from typing import Any
from weakref import WeakKeyDictionary

from meterd.errors import LinkCode, LinkError
from meterd.wire.pending_reply import PendingReply

# Deadlines of so many seconds share a timer, so one may be late by as much.
_SLOT = 0.005
# A clock tick early is not a second look.
_TICK = 0.001


class _Slots:
    """Deadlines of one loop, by when they are looked at.

    A timer of the loop costs as much as decoding ten values, and nearly all of them fire for
    exchanges that have long been answered.
    """

    __slots__ = ("__weakref__", "_due")

    def __init__(self) -> None:
        self._due: dict[int, list[ReplyDeadline]] = {}

    def add(self, deadline: "ReplyDeadline", loop: asyncio.AbstractEventLoop) -> float:
        """Look at it when its time has come; at which time that will be."""
        slot = math.ceil(deadline.when / _SLOT)
        due = self._due.get(slot)
        if due is None:
            due = self._due[slot] = []
            loop.call_at(slot * _SLOT, self._look, slot, loop)
        due.append(deadline)
        return slot * _SLOT

    def _look(self, slot: int, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for deadline in self._due.pop(slot):
            deadline.look(now, loop)


_OF: WeakKeyDictionary[asyncio.AbstractEventLoop, _Slots] = WeakKeyDictionary()


def _slots(loop: asyncio.AbstractEventLoop) -> _Slots:
    found = _OF.get(loop)
    if found is None:
        found = _OF[loop] = _Slots()
    return found


class ReplyDeadline:
    """Gives an answer up when its time has come; one for a link, whose exchanges take turns."""

    __slots__ = ("_answer", "_looks", "when")

    def __init__(self) -> None:
        self._answer: PendingReply[Any] | None = None
        self.when = 0.0
        # When it will be looked at next; infinite if it will not.
        self._looks = math.inf

    def watch(self, answer: PendingReply[Any], when: float) -> None:
        """Fail `answer` with LinkError(timeout) at `when` (loop time), if it is not there then."""
        self._answer, self.when = answer, when
        if self._looks > when + _SLOT:
            self._look_later(answer.get_loop())

    def cancel(self) -> None:
        """Nothing is waited for any more, in this loop at least."""
        self._answer, self._looks = None, math.inf

    def look(self, now: float, loop: asyncio.AbstractEventLoop) -> None:
        """The time has come, of this exchange or of one before it."""
        if now < self._looks - _TICK:
            return  # a look that an earlier one has replaced
        self._looks = math.inf
        answer = self._answer
        if answer is None or answer.done:
            self._answer = None
        elif self.when - now > _TICK:
            self._look_later(loop)
        else:
            answer.fail(LinkError("no answer in time", code=LinkCode.TIMEOUT))

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looks = _slots(loop).add(self, loop)
