"""Periodic tasks of the store's thread, in pieces between commits, the most overdue one first."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from meterd.model.clock import Clock
from meterd.store.compaction.session import StoreSession

_PAUSE = 0.05  # seconds between two pieces of a task: readers and the disk want room too

Do = Callable[[StoreSession], bool]
"""One piece of a task; returns whether there is more of it to do."""


@dataclass(slots=True)
class _MaintenanceTask:
    do: Do
    every: float
    due: float


class MaintenanceSchedule:
    """All times are seconds of the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._schedule: list[_MaintenanceTask] = []

    def add(self, do: Do, every: float, first: float = 0.0) -> None:
        """From `first` seconds after now on."""
        self._schedule.append(_MaintenanceTask(do, every, self._clock.monotonic() + first))

    @property
    def due(self) -> float:
        """When the next one is."""
        return min(chore.due for chore in self._schedule)

    def work(self, piece: Callable[[Do], bool]) -> None:
        """Calls `piece` with the task that is due, if any is."""
        chore = min(self._schedule, key=attrgetter("due"))
        if self._clock.monotonic() >= chore.due:
            more = piece(chore.do)
            chore.due = self._clock.monotonic() + (_PAUSE if more else chore.every)

    def put_off(self) -> None:
        """All of them were done just now."""
        for chore in self._schedule:
            chore.due = self._clock.monotonic() + chore.every
