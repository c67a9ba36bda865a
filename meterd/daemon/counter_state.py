"""State of counter guards, kept over reloads and restarts."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Protocol

from meterd.poll.counters import Counters, CountersState, Origin
from meterd.poll.guard_state import GuardState

log = logging.getLogger(__name__)


class Memos(Protocol):
    """Texts that outlive the process: the store's writer has them."""

    def remember(self, name: str, body: str) -> None: ...

    def recall(self, name: str) -> str | None: ...


class CounterState:
    """The counters of all devices, by device."""

    def __init__(self) -> None:
        self._counters: dict[str, Counters] = {}
        # Of devices that a reload took away: they may come back.
        self._past: dict[str, CountersState] = {}

    def add(self, device: str, counters: Counters) -> None:
        self._counters[device] = counters
        self._past.pop(device, None)

    def rename(self, old: str, new: str) -> None:
        """Moves the state of a renamed device."""
        if old in self._counters:
            self._counters[new] = self._counters.pop(old)
        if old in self._past:
            self._past[new] = self._past.pop(old)

    def go_on(
        self,
        device: str,
        memos: Memos,
        ended: Mapping[str, GuardState],
        *,
        swapped: bool,
        is_same: bool = False,
    ) -> None:
        """The counters stand where a recount ended, by quantity.

        Another meter may answer, unless it `is_same`. `swapped`: it is read next, and begins a
        new segment then.
        """
        if device in self._counters:
            self._counters[device].go_on(ended, swapped=swapped, is_same=is_same)
            return
        state = self.state(device, memos) or CountersState()
        guards = {**state.guards, **ended}
        if swapped:
            guards = {name: guard.swapped() for name, guard in guards.items()}
        identity = state.identity if is_same else {}
        self._past[device] = replace(state, guards=guards, identity=identity)

    def keep_only(self, devices: Sequence[str], elsewhere: Sequence[str] = ()) -> None:
        """After a reload: sets aside the state of devices that are gone; one that returns goes on
        from it.

        What others poll now (`elsewhere`) goes on where they leave it.
        """
        gone = {name: c for name, c in self._counters.items() if name not in devices}
        self._past.update((name, counters.state()) for name, counters in gone.items())
        self._past = {name: one for name, one in self._past.items() if name not in elsewhere}
        self._counters = {name: c for name, c in self._counters.items() if name in devices}

    def state(self, device: str, memos: Memos) -> CountersState | None:
        """Where the device's counters stand: in this process, else before its start."""
        if device in self._counters:
            return self._counters[device].state()
        if device in self._past:
            return self._past[device]
        body = memos.recall(_name(device))
        return _parsed(device, body) if body is not None else None

    def save(self, memos: Memos) -> None:
        """For the next start. An older state does no harm: the rise since is booked then."""
        now = {device: counters.state() for device, counters in self._counters.items()}
        for device, state in {**self._past, **now}.items():
            memos.remember(_name(device), json.dumps(asdict(state)))


def _name(device: str) -> str:
    return f"counters {device}"


def _parsed(device: str, body: str) -> CountersState | None:
    try:
        data = json.loads(body)
        guards = {name: GuardState.of(state) for name, state in data["guards"].items()}
        origin = data.get("origin", {})
        known = Origin(origin.get("settings", {}), origin.get("registers", {}))
        return CountersState(guards, data["identity"], known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s: its counters begin anew: what was noted is no state: %s", device, error)
        return None
