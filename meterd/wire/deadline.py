"""Reply timeouts of all links, on a few shared timers of the loop in place of one per exchange."""

import asyncio
import math
from typing import Any
from weakref import WeakKeyDictionary

from meterd.errors import LinkCode, LinkError
from meterd.wire.pending_reply import PendingReply

# Deadlines within this interval share a timer, so a timeout may be late by as much.
_SLOT_S = 0.005
# The loop's clock may run a timer up to one tick early; such a call counts as on time.
_CLOCK_TICK_S = 0.001


class _Slots:
    """Timer wheel of one event loop: the deadlines to check, by slot number (time / `_SLOT_S`).

    A timer of the loop costs as much as decoding ten values, and nearly all of them fire for
    exchanges that have long been answered.
    """

    __slots__ = ("__weakref__", "_due")

    def __init__(self) -> None:
        self._due: dict[int, list[ReplyDeadline]] = {}

    def add(self, deadline: "ReplyDeadline", loop: asyncio.AbstractEventLoop) -> float:
        """Call `deadline.look` at or after `deadline.when`; returns the loop time of the call."""
        slot = math.ceil(deadline.when / _SLOT_S)
        due = self._due.get(slot)
        if due is None:
            due = self._due[slot] = []
            loop.call_at(slot * _SLOT_S, self._expire, slot, loop)
        due.append(deadline)
        return slot * _SLOT_S

    def _expire(self, slot: int, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for deadline in self._due.pop(slot):
            deadline.look(now, loop)


_SLOTS_BY_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, _Slots] = WeakKeyDictionary()


def _loop_slots(loop: asyncio.AbstractEventLoop) -> _Slots:
    slots = _SLOTS_BY_LOOP.get(loop)
    if slots is None:
        slots = _SLOTS_BY_LOOP[loop] = _Slots()
    return slots


class ReplyDeadline:
    """The timeout of a link's exchange in hand; one object per link, whose exchanges take turns."""

    __slots__ = ("_next_look", "_reply", "when")

    def __init__(self) -> None:
        self._reply: PendingReply[Any] | None = None
        self.when = 0.0
        # Loop time of the next scheduled check; infinite if there is none.
        self._next_look = math.inf

    def watch(self, reply: PendingReply[Any], when: float) -> None:
        """Fail `reply` with LinkError(timeout) at `when` (loop time) unless it is done by then."""
        self._reply, self.when = reply, when
        if self._next_look > when + _SLOT_S:
            self._schedule(reply.get_loop())

    def cancel(self) -> None:
        """Forget the reply and the scheduled check; the next one may be in another loop."""
        self._reply, self._next_look = None, math.inf

    def look(self, now: float, loop: asyncio.AbstractEventLoop) -> None:
        """Called by the timer of this exchange, or of an earlier one on the same link."""
        if now < self._next_look - _CLOCK_TICK_S:
            return  # an outdated timer: the scheduled check is later, or there is none
        self._next_look = math.inf
        reply = self._reply
        if reply is None or reply.done:
            self._reply = None
        elif self.when - now > _CLOCK_TICK_S:
            self._schedule(loop)
        else:
            reply.fail(LinkError("no answer in time", code=LinkCode.TIMEOUT))

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_look = _loop_slots(loop).add(self, loop)
