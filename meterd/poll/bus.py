"""One loop per link: who is asked next, on a fixed grid, and how often one that is silent."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from meterd.errors import DeviceCode, LinkCode
from meterd.model.clock import Clock
from meterd.model.event import EventKind, Notice
from meterd.model.sample import Poll, Sink
from meterd.poll.cycle import Device, poll_once

# Polls start in slots of 50 ms, common to all buses: one wake-up of the process serves many.
SLOT = 0.05
# A device may be silent this often in a row before it is asked more rarely than its interval,
PATIENCE = 3
# and this is the longest pause then, in seconds, where it has no neighbours to hold up.
LONGEST_PAUSE = 10.0
# With neighbours it may cost them this share of the bus's time, silence after it included.
_SHARE = 0.01
_NEIGHBOURLY_PAUSE = 60.0
# Faults that cost time: after a plain no the bus is free at once.
_SILENCE: tuple[str, ...] = (
    LinkCode.TIMEOUT,
    LinkCode.BAD_REPLY,
    DeviceCode.DRIVER_STUCK,
    LinkCode.FLOOD,
)
_DOUBLINGS = 10
# Pauses are shortened to so much, at random, that devices which failed together come one by one.
_JITTER = (0.8, 1.0)
# No poll takes longer: the daemon gives up on drivers before that. In seconds.
_SLOWEST_POLL = 130.0


@dataclass(slots=True)
class _PollTurn:
    """When a device's next poll is due. Times are monotonic seconds; the grid starts at `start`."""

    device: Device
    start: float
    due: float
    silent: int = 0
    up: bool = True
    cost: float = 0.0


class Bus:
    """Polls the devices of one link, one after the other, for ever."""

    def __init__(
        self,
        link: str,
        devices: Sequence[Device],
        sinks: Sequence[Sink],
        clock: Clock,
        *,
        slot: int = 0,
    ) -> None:
        """`slot`: by how many slots this bus starts later than others may."""
        self.link = link
        self._slot = slot
        # Held for each poll; who wants the link between two polls takes it, too.
        self.turn = asyncio.Lock()
        self.skipped = 0
        self.last_poll = clock.monotonic()
        self.rounds = 0
        self._sinks = sinks
        self._clock = clock
        self._devices = devices
        self._turns: list[_PollTurn] = []

    async def run(self) -> None:
        """Until cancelled."""
        start = (math.ceil(self._clock.monotonic() / SLOT) + self._slot) * SLOT
        self._turns = turns = [_PollTurn(device, start, start) for device in self._devices]
        while turns:
            # Of those that are due, one that answers goes before one that may cost a timeout.
            turn = min(turns, key=lambda turn: (turn.due, turn.silent))
            pause = turn.due - self._clock.monotonic()
            if pause > 0:
                await self._clock.sleep(pause)
            async with self.turn:
                poll = await poll_once(turn.device, self._sinks, self._clock)
            self.last_poll = self._clock.monotonic()
            self._note(turn, poll)
            self._schedule(turn)

    def rename(self, old: str, new: str) -> None:
        """A device goes on under another name; to be called with `turn` held."""
        fresh = {one.id: one.renamed(new) if one.id == old else one for one in self._devices}
        self._devices = list(fresh.values())
        for turn in self._turns:
            turn.device = fresh[turn.device.id]

    @property
    def patience(self) -> float:
        """Seconds after which a bus that polled nothing is stuck, not slow."""
        longest = max((device.interval for device in self._devices), default=0.0)
        return longest + _NEIGHBOURLY_PAUSE + _SLOWEST_POLL

    def _note(self, turn: _PollTurn, poll: Poll) -> None:
        """One event when a device goes down, one when it is back, nothing in between."""
        if poll.fault is None:
            if not turn.up:
                turn.device.tell([Notice(EventKind.DEVICE_BACK, "back")], poll.time)
            turn.up, turn.silent = True, 0
            return
        if turn.up:
            text = f"down: {poll.fault.text} [{poll.fault.code}]"
            down = Notice(EventKind.DEVICE_DOWN, text, {"code": poll.fault.code})
            turn.device.tell([down], poll.time)
        turn.up = False
        # A link that is gone holds off by itself, at no cost; so does nothing else here.
        turn.silent = turn.silent + 1 if poll.fault.code in _SILENCE else 0
        turn.cost = poll.took

    def _schedule(self, turn: _PollTurn) -> None:
        """The next slot of the device's grid that lies ahead: a slow poll skips, never stacks."""
        now, interval = self._clock.monotonic(), turn.device.interval
        before = turn.due
        ahead = max(now, before + interval / 2) + self._pause(turn)
        turn.due = turn.start + math.ceil((ahead - turn.start) / interval) * interval
        if not turn.silent:
            self.skipped += round((turn.due - before) / interval) - 1

    def _pause(self, turn: _PollTurn) -> float:
        """Beyond the interval, for a device that has been silent again and again."""
        excess = min(turn.silent - PATIENCE, _DOUBLINGS)
        if excess <= 0:
            return 0.0
        longest = LONGEST_PAUSE
        if len(self._devices) > 1:
            # After a lost answer the line is listened to for as long again.
            # That share is the most it may be, so the jitter below comes on top.
            longest = max(_NEIGHBOURLY_PAUSE, 2 * turn.cost / _SHARE) / _JITTER[0]
        longest = max(longest - turn.device.interval, 0.0)
        pause: float = min(turn.device.interval * 2.0**excess, longest)
        return pause * random.uniform(*_JITTER)
