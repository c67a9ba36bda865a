"""What counters knew before a restart or a reload."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

from meterd.poll.counters import Counters, CountersState
from meterd.poll.segments import GuardState

log = logging.getLogger(__name__)


class Memos(Protocol):
    """Texts that outlive the process: the store's writer has them."""

    def remember(self, name: str, body: str) -> None: ...

    def recall(self, name: str) -> str | None: ...


class CounterMemory:
    """The counters of all devices, by device."""

    def __init__(self) -> None:
        self._counters: dict[str, Counters] = {}

    def add(self, device: str, counters: Counters) -> None:
        self._counters[device] = counters

    def rename(self, old: str, new: str) -> None:
        """A device goes on under another name."""
        if old in self._counters:
            self._counters[new] = self._counters.pop(old)

    def keep_only(self, devices: Sequence[str]) -> None:
        """After a reload: what is gone is polled no more."""
        self._counters = {name: c for name, c in self._counters.items() if name in devices}

    def state(self, device: str, memos: Memos) -> CountersState | None:
        """Where the device's counters stand: in this process, else before its start."""
        if device in self._counters:
            return self._counters[device].state()
        body = memos.recall(_name(device))
        return _parsed(device, body) if body is not None else None

    def save(self, memos: Memos) -> None:
        """For the next start. An older state does no harm: the rise since is booked then."""
        for device, counters in self._counters.items():
            memos.remember(_name(device), json.dumps(asdict(counters.state())))


def _name(device: str) -> str:
    return f"counters {device}"


def _parsed(device: str, body: str) -> CountersState | None:
    try:
        data = json.loads(body)
        guards = {name: GuardState.of(state) for name, state in data["guards"].items()}
        return CountersState(guards, data["identity"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s: its counters begin anew: what was noted is no state: %s", device, error)
        return None
