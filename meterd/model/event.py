"""Events: what was noticed of a device or of meterd itself, beyond its samples.

A room that knows neither the time nor the device's name (a driver, a link, a counter guard)
gives a Notice; `poll_once` makes an Event of it. The daemon logs, counts and serves events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = str | int | float | bool | None


class EventKind(StrEnum):
    """What happened, in one word."""

    DEVICE_DOWN = "device_down"
    DEVICE_BACK = "device_back"
    ROWS_LEFT_OUT = "rows_left_out"
    ROWS_BACK = "rows_back"
    FOREIGN_TRAFFIC = "foreign_traffic"
    FOREIGN_TRAFFIC_GONE = "foreign_traffic_gone"
    # A repeater, or a gateway, sends each answer more than once.
    ANSWERS_DOUBLED = "answers_doubled"
    ANSWERS_SINGLE = "answers_single"
    # Of counters.
    ROLLOVER = "rollover"
    RESET = "reset"
    GLITCH = "glitch"
    STUCK = "stuck"
    SWAP = "swap"
    GUARD_WAITS = "guard_waits"
    GUARD_RESOLVED = "guard_resolved"
    # A driver gave readings that cannot be kept.
    DRIVER_MISTAKE = "driver_mistake"
    # A meter's map has writes that unlock it, and it says no.
    WAKE_REFUSED = "wake_refused"
    # A bus is asked for more than it can carry.
    BUS_OVERLOADED = "bus_overloaded"
    BUS_RELIEVED = "bus_relieved"
    # The clock was set while meterd ran; or it is behind what is stored.
    CLOCK_STEPPED = "clock_stepped"
    CLOCK_BEHIND = "clock_behind"
    # A device has another name, or the configuration still says the one before.
    RENAMED = "renamed"
    # Somebody says that another meter took the place of one.
    REPLACED = "replaced"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    CERTIFICATE = "certificate"
    # The store's file was deleted or replaced while meterd ran.
    STORE_BEGUN_ANEW = "store_begun_anew"
    # A tool, an import for instance, has the store while meterd starts.
    STORE_HELD = "store_held"
    STORE_FREE = "store_free"
    # Something in the store cannot be read; the rest is as it was.
    STORE_DAMAGED = "store_damaged"
    # Polls wait in memory and in the spool, and go to the store later.
    STORE_NOT_WRITABLE = "store_not_writable"
    STORE_WRITABLE = "store_writable"
    # The spool cannot be written, or is full: polls are in memory only, or lost.
    SPOOL_FAILED = "spool_failed"
    POLLS_LOST = "polls_lost"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something noticed while a device was read. `text` is a sentence without the device's name.

    `data` are the facts for programs, under stable names; `quantity` is one of them where it is
    about one quantity.
    """

    kind: EventKind
    text: str
    data: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """What was noticed, of which device (empty: of meterd itself), when (Unix ms UTC)."""

    kind: EventKind
    device: str
    time: int
    text: str
    data: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def of(cls, notice: Notice, device: str, time: int) -> "Event":
        """The notice, with what only the caller knows."""
        return cls(notice.kind, device, time, notice.text, notice.data)

    @property
    def quantity(self) -> str:
        """The quantity that it is about; empty where there is none."""
        return str(self.data.get("quantity", ""))

    def __str__(self) -> str:
        """One line of a log."""
        if self.kind in _STATES:
            return f"{self.device} is {self.text}"
        about = "" if self.text.startswith(self.quantity) else self.quantity
        return ": ".join(part for part in (self.device, about, self.text) if part)


_STATES = (EventKind.DEVICE_DOWN, EventKind.DEVICE_BACK)
