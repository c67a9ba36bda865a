"""Poll scheduler: one loop per link, fixed poll times per device, backoff for silent devices."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from meterd.errors import DeviceCode, LinkCode
from meterd.model.clock import Clock
from meterd.model.event import EventKind, Notice
from meterd.model.sample import Poll, Sink
from meterd.poll.cycle import PollTarget, poll_once

# Seconds. Polls start at multiples of this on all buses: one wake-up of the process serves many.
SLOT = 0.05
# After more polls without reply in a row a device is polled at less than its interval,
MISSED_POLLS_BEFORE_BACKOFF = 3
# with at most this pause in seconds where it is alone on the bus.
BACKOFF_MAX_S = 10.0
# On a shared bus it may take this share of the bus's time, the drain after a timeout included.
_SILENT_SHARE_MAX = 0.01
_SHARED_BUS_BACKOFF_MAX_S = 60.0
# Faults that cost time: after a plain no the bus is free at once.
_SILENCE: tuple[str, ...] = (
    LinkCode.TIMEOUT,
    LinkCode.BAD_REPLY,
    DeviceCode.DRIVER_STUCK,
    LinkCode.FLOOD,
)
_DOUBLINGS = 10
# Pauses are multiplied by a random factor of this range: devices that failed together spread.
_BACKOFF_JITTER = (0.8, 1.0)
# Seconds. No poll takes longer: the daemon cancels a driver's read before that.
_POLL_MAX_S = 130.0


@dataclass(slots=True)
class _PollTurn:
    """Schedule of one device. Times are monotonic seconds; polls are due at `start` + n * interval.

    `missed` counts polls without reply in a row, `cost` is the duration of the last of them (s).
    """

    device: PollTarget
    start: float
    due: float
    missed: int = 0
    up: bool = True
    cost: float = 0.0


class Bus:
    """Polls the devices of one link, one at a time, until `run` is cancelled."""

    def __init__(
        self,
        link: str,
        devices: Sequence[PollTarget],
        sinks: Sequence[Sink],
        clock: Clock,
        *,
        slot: int = 0,
    ) -> None:
        """`slot`: offset of this bus's polls in slots, which spreads the buses over time."""
        self.link = link
        self._slot = slot
        # Held for each poll; whatever else uses the link (commands, the proxy) takes it, too.
        self.turn = asyncio.Lock()
        self.skipped = 0
        self.last_poll = clock.monotonic()
        self.rounds = 0
        self._sinks = sinks
        self._clock = clock
        self._devices = devices
        self._turns: list[_PollTurn] = []

    async def run(self) -> None:
        """Poll until cancelled."""
        start = (math.ceil(self._clock.monotonic() / SLOT) + self._slot) * SLOT
        self._turns = turns = [_PollTurn(device, start, start) for device in self._devices]
        while turns:
            # Of devices due at the same time, one that may cost a timeout comes last.
            turn = min(turns, key=lambda turn: (turn.due, turn.missed))
            pause = turn.due - self._clock.monotonic()
            if pause > 0:
                await self._clock.sleep(pause)
            async with self.turn:
                poll = await poll_once(turn.device, self._sinks, self._clock)
            self.last_poll = self._clock.monotonic()
            self._report(turn, poll)
            self._schedule(turn)

    def rename(self, old: str, new: str) -> None:
        """Rename a device without interrupting its schedule; call with `turn` held."""
        devices = {
            device.id: device.renamed(new) if device.id == old else device
            for device in self._devices
        }
        self._devices = list(devices.values())
        for turn in self._turns:
            turn.device = devices[turn.device.id]

    @property
    def stuck_after(self) -> float:
        """Seconds without a finished poll after which the bus counts as stuck."""
        interval_max = max((device.interval for device in self._devices), default=0.0)
        return interval_max + _SHARED_BUS_BACKOFF_MAX_S + _POLL_MAX_S

    def _report(self, turn: _PollTurn, poll: Poll) -> None:
        """Events on changes only: one when a device goes down, one when it is back."""
        if poll.fault is None:
            if not turn.up:
                turn.device.tell([Notice(EventKind.DEVICE_BACK, "back")], poll.time)
            turn.up, turn.missed = True, 0
            return
        if turn.up:
            text = f"down: {poll.fault.text} [{poll.fault.code}]"
            down = Notice(EventKind.DEVICE_DOWN, text, {"code": poll.fault.code})
            turn.device.tell([down], poll.time)
        turn.up = False
        # A link that cannot be opened has a backoff of its own (wire/streamlink.py), at no cost.
        turn.missed = turn.missed + 1 if poll.fault.code in _SILENCE else 0
        turn.cost = poll.took

    def _schedule(self, turn: _PollTurn) -> None:
        """Next due time on the device's grid: times that a slow poll missed are skipped."""
        now, interval = self._clock.monotonic(), turn.device.interval
        before = turn.due
        ahead = max(now, before + interval / 2) + self._pause(turn)
        turn.due = turn.start + math.ceil((ahead - turn.start) / interval) * interval
        if not turn.missed:
            self.skipped += round((turn.due - before) / interval) - 1

    def _pause(self, turn: _PollTurn) -> float:
        """Seconds of backoff on top of the interval, for a device that stays silent."""
        excess = min(turn.missed - MISSED_POLLS_BEFORE_BACKOFF, _DOUBLINGS)
        if excess <= 0:
            return 0.0
        pause_max = BACKOFF_MAX_S
        if len(self._devices) > 1:
            # Twice: after a lost reply the line is drained for as long again.
            # The share is an upper limit, so it holds for the pause shortened by jitter, too.
            pause_max = (
                max(_SHARED_BUS_BACKOFF_MAX_S, 2 * turn.cost / _SILENT_SHARE_MAX)
                / _BACKOFF_JITTER[0]
            )
        pause_max = max(pause_max - turn.device.interval, 0.0)
        pause: float = min(turn.device.interval * 2.0**excess, pause_max)
        return pause * random.uniform(*_BACKOFF_JITTER)
