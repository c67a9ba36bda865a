"""One poll of one device: the only path from wire to sinks, for daemon, CLI and tests."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meterd.errors import DeviceError, LinkError
from meterd.model.clock import Clock
from meterd.model.sample import Driver, Fault, Poll, Sink, failed
from meterd.poll.counters import Counters, Event
from meterd.poll.normalise import Normaliser


@dataclass(frozen=True, slots=True)
class Device:
    """What polling needs to know of a device. `interval` is in seconds.

    `counters` guards its energy registers; `noticed` is told what that finds.
    """

    id: str
    driver: Driver
    interval: float
    normaliser: Normaliser
    counters: Counters | None = None
    noticed: Callable[[Event], None] | None = None


async def poll_once(device: Device, sinks: Iterable[Sink], clock: Clock) -> Poll:
    """Ask the device, hand what it said to every sink, and return it.

    A poll always speaks: a device that fails gives `device.up` = 0 and its fault.
    """
    time, started = clock.now_ms(), clock.monotonic()
    try:
        readings = await device.driver.read()
    except (LinkError, DeviceError) as error:
        fault = Fault(error.code, str(error))
        poll = failed(device.id, time, fault, clock.monotonic() - started)
    else:
        poll = device.normaliser.poll(readings, time, clock.monotonic() - started)
        if device.counters is not None:
            poll, events = device.counters.step(poll, now=started)
            if device.noticed is not None:
                for event in events:
                    device.noticed(event)
    for sink in sinks:
        sink.take(poll)
    return poll
