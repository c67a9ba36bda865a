"""Events of a device or of meterd itself, such as counter resets and reloads.

Code that has neither the time nor the device's name (a driver, a link, a counter guard) makes a
Notice; `poll_once` makes an Event of it. The daemon logs, counts and serves events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = str | int | float | bool | None


class EventKind(StrEnum):
    """The kinds of events; the values are stable names in the API, logs and metrics."""

    DEVICE_DOWN = "device_down"
    DEVICE_BACK = "device_back"
    ROWS_LEFT_OUT = "rows_left_out"
    ROWS_BACK = "rows_back"
    FOREIGN_TRAFFIC = "foreign_traffic"
    FOREIGN_TRAFFIC_GONE = "foreign_traffic_gone"
    # A repeater or gateway sends each response more than once.
    ANSWERS_DOUBLED = "answers_doubled"
    ANSWERS_SINGLE = "answers_single"
    # Counters (poll/counters.py).
    ROLLOVER = "rollover"
    RESET = "reset"
    GLITCH = "glitch"
    STUCK = "stuck"
    SWAP = "swap"
    GUARD_WAITS = "guard_waits"
    GUARD_RESOLVED = "guard_resolved"
    # A driver returned invalid readings.
    DRIVER_MISTAKE = "driver_mistake"
    # A meter refused the writes by which its map unlocks it.
    WAKE_REFUSED = "wake_refused"
    # A bus has more requests than fit into its devices' intervals.
    BUS_OVERLOADED = "bus_overloaded"
    BUS_RELIEVED = "bus_relieved"
    # The UTC clock was set while meterd ran; it is behind the newest stored sample.
    CLOCK_STEPPED = "clock_stepped"
    CLOCK_BEHIND = "clock_behind"
    # A device was renamed, or the configuration still has its former name.
    RENAMED = "renamed"
    # A meter was replaced by another one, as an operator reported.
    REPLACED = "replaced"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    CERTIFICATE = "certificate"
    # The store's file was deleted or replaced while meterd ran; a new one was created.
    STORE_BEGUN_ANEW = "store_begun_anew"
    # A tool such as an import holds the store while meterd starts.
    STORE_HELD = "store_held"
    STORE_FREE = "store_free"
    # A part of the store cannot be read; the rest is unaffected.
    STORE_DAMAGED = "store_damaged"
    # Polls are kept in memory and in the spool until the store is writable.
    STORE_NOT_WRITABLE = "store_not_writable"
    STORE_WRITABLE = "store_writable"
    # The spool cannot be written or is full: polls are kept in memory only, or dropped.
    SPOOL_FAILED = "spool_failed"
    POLLS_LOST = "polls_lost"


@dataclass(frozen=True, slots=True)
class Notice:
    """An event without time and device. `text` is a sentence without the device's name.

    `data` are machine-readable facts under stable names, `quantity` among them where the event
    concerns a single quantity.
    """

    kind: EventKind
    text: str
    data: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a device (empty: of meterd itself) at a time in Unix ms UTC."""

    kind: EventKind
    device: str
    time: int
    text: str
    data: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def of(cls, notice: Notice, device: str, time: int) -> "Event":
        """The event of a notice."""
        return cls(notice.kind, device, time, notice.text, notice.data)

    @property
    def quantity(self) -> str:
        """The quantity that the event concerns; "" where there is none."""
        return str(self.data.get("quantity", ""))

    def __str__(self) -> str:
        """The line for the log."""
        if self.kind in _STATES:
            return f"{self.device} is {self.text}"
        about = "" if self.text.startswith(self.quantity) else self.quantity
        return ": ".join(part for part in (self.device, about, self.text) if part)


_STATES = (EventKind.DEVICE_DOWN, EventKind.DEVICE_BACK)
