"""One poll of one device: the only path from wire to sinks, for daemon, CLI and tests."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from meterd.errors import DeviceCode, DeviceError, LinkError
from meterd.model.clock import Clock
from meterd.model.driver import Driver, Notices
from meterd.model.event import Event, Notice
from meterd.model.sample import Fault, Poll, Sink, failed
from meterd.poll.counters import Counters
from meterd.poll.normalise import Normaliser

log = logging.getLogger(__name__)

_NOTHING = "the driver gave no reading, so nobody knows whether the device is there"


def log_event(event: Event) -> None:
    """One line for each event: where nobody else listens, that is all that becomes of it."""
    log.warning("%s", event)


@dataclass(frozen=True, slots=True)
class PollTarget:
    """What polling needs to know of a device. `interval` is in seconds.

    `counters` guards its energy registers; `noticed` is told of each event.
    """

    id: str
    driver: Driver
    interval: float
    normaliser: Normaliser
    counters: Counters | None = None
    noticed: Callable[[Event], None] = log_event
    noticing: Notices | None = field(init=False, repr=False, compare=False)
    """The driver, where it notices things."""

    def __post_init__(self) -> None:
        noticing = self.driver if isinstance(self.driver, Notices) else None
        object.__setattr__(self, "noticing", noticing)

    def renamed(self, name: str) -> "PollTarget":
        """The same device under another name."""
        self.normaliser.device = name
        if self.counters is not None:
            self.counters.device = name
        return replace(self, id=name)

    def tell(self, notices: Sequence[Notice], time: int) -> None:
        """Each of them is an event of this device; `time` is Unix ms."""
        for notice in notices:
            self.noticed(Event.of(notice, self.id, time))


async def poll_once(device: PollTarget, sinks: Iterable[Sink], clock: Clock) -> Poll:
    """Ask the device, hand what it said to every sink, and return it.

    A poll always speaks: a device that fails, or says nothing, gives `device.up` = 0 and its fault.
    """
    time, started = clock.now_ms(), clock.monotonic()
    try:
        readings = await device.driver.read()
        if not readings:
            raise DeviceError(_NOTHING, code=DeviceCode.NOTHING_SAID)
    except (LinkError, DeviceError) as error:
        fault = Fault(str(error.code), str(error))
        poll = failed(device.id, time, fault, clock.monotonic() - started)
    else:
        poll = device.normaliser.poll(readings, time, clock.monotonic() - started)
        if device.counters is not None:
            poll, notices = device.counters.step(poll, now=started)
            if notices:
                device.tell(notices, time)
    if (noticing := device.noticing) is not None and (noticed := noticing.notices):
        device.tell(list(noticed), time)
        noticed.clear()
    if noticed := device.normaliser.notices:
        device.tell(list(noticed), time)
        noticed.clear()
    for sink in sinks:
        sink.take(poll)
    return poll
