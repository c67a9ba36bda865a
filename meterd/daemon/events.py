"""The event log: events are logged, counted by kind, and the newest 500 kept in memory."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from meterd.model.clock import Clock
from meterd.model.event import Event, EventKind, Scalar
from meterd.poll.cycle import log_event

_KEPT = 500


class EventLog:
    """Takes every event of the daemon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest: deque[Event] = deque(maxlen=_KEPT)
        self.heard: Callable[[Event], None] = lambda _: None
        """Is called with each event of a device."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """How many since the start, by device and kind."""

    def add(self, event: Event) -> None:
        """One line in the log, and kept."""
        log_event(event)
        self.keep(event)

    def keep(self, event: Event) -> None:
        """Kept, where the log has its line already."""
        self._store(event)
        if event.device:
            self.heard(event)

    def _store(self, event: Event) -> None:
        self.counts[event.device, str(event.kind)] += 1
        self._newest.appendleft(event)

    def add_past(self, event: Event) -> None:
        """An event found in stored samples: logged and kept, but not passed to `heard`."""
        log_event(event)
        self._store(event)

    def note(self, kind: EventKind, text: str, data: Mapping[str, Scalar] | None = None) -> None:
        """An event of meterd itself, now."""
        self.add(Event(kind, "", self._clock.now_ms(), text, data or {}))

    def rename(self, old: str, new: str) -> None:
        """Renames the device of past events."""
        self.counts = Counter(
            {(new if name == old else name, kind): n for (name, kind), n in self.counts.items()}
        )
        events = (replace(one, device=new) if one.device == old else one for one in self._newest)
        self._newest = deque(events, maxlen=_KEPT)

    def newest(self) -> Sequence[Event]:
        """Newest first, at most 500."""
        return list(self._newest)
