"""The sink that remembers each device's last poll, last good poll and last fault."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from meterd.model.sample import Fault, Layout, Poll

_LATENCIES = 100
# Layouts whose pace is remembered: a device has two or three.
_LAYOUTS = 16
# How often slow columns come, in ms, until two polls with them have been seen.
_SLOW_MS = 60_000


class PollPart(NamedTuple):
    """The newest good poll with its columns. `pace`: ms to the one before it, 0 if unknown."""

    poll: Poll
    pace: int

    def interval(self, usual: float) -> float:
        """How often these columns come, in ms, on a device that is polled each `usual` ms."""
        return max(usual, self.pace or _SLOW_MS)


@dataclass(slots=True)
class DeviceState:
    """What is known of one device now. Times are Unix ms UTC; `since` is of `up`."""

    up: bool | None = None
    since: int | None = None
    last: Poll | None = None
    good: Poll | None = None
    fault: Fault | None = None
    fault_time: int | None = None
    polls: int = 0
    failures: int = 0
    info: dict[str, str] = field(default_factory=dict)
    parts: tuple["PollPart", ...] = ()
    latencies: "array[float]" = field(default_factory=lambda: array("f"))
    _times: dict[int, tuple[Layout, int]] = field(default_factory=dict)

    def learn(self, poll: Poll) -> None:
        """A good poll. Those before it stay while they hold columns that it does not have."""
        before = self._times.get(id(poll.layout))
        pace = poll.time - before[1] if before else 0
        if len(self._times) >= _LAYOUTS:
            self._times.clear()
        # The layout is kept beside its time, so that its id stays its own.
        self._times[id(poll.layout)] = poll.layout, poll.time
        kept: Sequence[PollPart] = self.parts[1:]
        if not self.parts or self.parts[0].poll.layout is not poll.layout:
            columns = poll.layout.index.keys()
            kept = [part for part in self.parts if not part.poll.layout.index.keys() <= columns]
        self.parts = (PollPart(poll, pace), *kept)
        self.good = poll

    def rename(self, name: str) -> None:
        """What is known, as of a device of another name."""
        called: dict[int, Poll] = {}

        def now(poll: Poll) -> Poll:
            # One object stays one: it is how others tell whether a poll is the last one.
            return called.setdefault(id(poll), replace(poll, device=name))

        self.last = now(self.last) if self.last else None
        self.good = now(self.good) if self.good else None
        self.parts = tuple(part._replace(poll=now(part.poll)) for part in self.parts)

    def latency(self, quantile: float) -> float | None:
        """Seconds that a good poll took, over the last hundred; None before the first."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        found = ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]
        # Held in half the room of other floats, which are good for a microsecond.
        return round(found, 6)


class Latest:
    """One DeviceState a device; known devices are there before their first poll."""

    def __init__(self, devices: Iterable[str] = ()) -> None:
        self.states: dict[str, DeviceState] = {device: DeviceState() for device in devices}

    def keep_only(self, devices: Iterable[str]) -> None:
        """After a reload: forget the devices that are gone, learn the new ones."""
        self.states = {device: self.states.get(device) or DeviceState() for device in devices}

    def rename(self, old: str, new: str) -> None:
        """A device goes on under another name, in its place."""
        self.states = {new if name == old else name: one for name, one in self.states.items()}
        if new in self.states:
            self.states[new].rename(new)

    def take(self, poll: Poll) -> None:
        state = self.states.setdefault(poll.device, DeviceState())
        if state.up is not poll.up:
            state.up, state.since = poll.up, poll.time
        state.last = poll
        state.polls += 1
        if poll.fault is not None:
            state.failures += 1
            state.fault, state.fault_time = poll.fault, poll.time
            return
        state.learn(poll)
        if len(state.latencies) >= _LATENCIES:
            del state.latencies[0]
        state.latencies.append(poll.took)
        if poll.info:
            state.info.update(poll.info)
