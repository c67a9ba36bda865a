"""The sink that remembers each device's last poll, last good poll and last fault."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from meterd.model.sample import Fault, Poll

_LATENCIES = 100


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
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def latency(self, quantile: float) -> float | None:
        """Seconds that a good poll took, over the last hundred; None before the first."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]


class Latest:
    """One DeviceState a device; known devices are there before their first poll."""

    def __init__(self, devices: Iterable[str] = ()) -> None:
        self.states: dict[str, DeviceState] = {device: DeviceState() for device in devices}

    def keep_only(self, devices: Iterable[str]) -> None:
        """After a reload: forget the devices that are gone, learn the new ones."""
        self.states = {device: self.states.get(device) or DeviceState() for device in devices}

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
        state.good = poll
        state.latencies.append(poll.took)
        state.info.update(poll.info)
