"""In-memory sink: each device's last poll, last good poll and last fault."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from meterd.model.sample import Fault, Layout, Poll

_LATENCIES_MAX = 100
# Layouts whose last time is kept per device: a device has two or three.
_LAYOUTS_MAX = 16
# Assumed interval of slow columns in ms, until two polls with them came.
_SLOW_MS = 60_000


class PollPart(NamedTuple):
    """The newest good poll of one layout. `pace`: ms since the one before it, 0 if unknown."""

    poll: Poll
    pace: int

    def interval(self, usual: float) -> float:
        """Interval of these columns in ms, on a device that is polled every `usual` ms."""
        return max(usual, self.pace or _SLOW_MS)


@dataclass(slots=True)
class DeviceState:
    """Current state of one device. Times are Unix ms UTC; `since` is when `up` changed.

    `parts` are the newest good poll and earlier ones with columns that no newer poll has.
    """

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

    def add(self, poll: Poll) -> None:
        """Add a good poll. Earlier ones stay in `parts` while they have columns that it lacks."""
        last = self._times.get(id(poll.layout))
        interval = poll.time - last[1] if last else 0
        if len(self._times) >= _LAYOUTS_MAX:
            self._times.clear()
        # The entry refers to the layout, so that its id is not reused.
        self._times[id(poll.layout)] = poll.layout, poll.time
        older_parts: Sequence[PollPart] = self.parts[1:]
        if not self.parts or self.parts[0].poll.layout is not poll.layout:
            columns = poll.layout.index.keys()
            older_parts = [
                part for part in self.parts if not part.poll.layout.index.keys() <= columns
            ]
        self.parts = (PollPart(poll, interval), *older_parts)
        self.good = poll

    def rename(self, name: str) -> None:
        """Put another device name into the polls held here."""
        renamed: dict[int, Poll] = {}

        def rename_poll(poll: Poll) -> Poll:
            # Equal objects stay identical: callers compare polls by identity to see a new one.
            return renamed.setdefault(id(poll), replace(poll, device=name))

        self.last = rename_poll(self.last) if self.last else None
        self.good = rename_poll(self.good) if self.good else None
        self.parts = tuple(part._replace(poll=rename_poll(part.poll)) for part in self.parts)

    def latency(self, quantile: float) -> float | None:
        """Quantile of the last 100 good polls' durations, in seconds; None before the first."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        seconds = ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]
        # The array holds float32, which are exact to about a microsecond.
        return round(seconds, 6)


class Latest:
    """A DeviceState per device; configured devices have one before their first poll."""

    def __init__(self, devices: Iterable[str] = ()) -> None:
        self.states: dict[str, DeviceState] = {device: DeviceState() for device in devices}

    def keep_only(self, devices: Iterable[str]) -> None:
        """After a reload: drop devices that are gone, add new ones."""
        self.states = {device: self.states.get(device) or DeviceState() for device in devices}

    def rename(self, old: str, new: str) -> None:
        """Rename a device; its place in the order stays."""
        self.states = {new if name == old else name: state for name, state in self.states.items()}
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
        state.add(poll)
        if len(state.latencies) >= _LATENCIES_MAX:
            del state.latencies[0]
        state.latencies.append(poll.took)
        if poll.info:
            state.info.update(poll.info)
