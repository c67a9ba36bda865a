"""The links in use: what each carries, and the loop that polls it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from meterd.config.settings import Settings
from meterd.daemon.busload import load_of
from meterd.daemon.events import EventLog
from meterd.daemon.limit import Limit
from meterd.daemon.memory import CounterMemory, Memos
from meterd.daemon.plan import Built, LinkPlan, build, guards, link_plans, polled
from meterd.daemon.service import ContainedDriver, forever
from meterd.drivers.modbus import ModbusMeter
from meterd.model.clock import Clock
from meterd.model.event import EventKind, Scalar
from meterd.model.sample import Driver, Sink
from meterd.poll.bus import SLOT, Bus
from meterd.wire.link import Link

log = logging.getLogger(__name__)

_BUSES_A_SLOT = 10
# How often is looked at what each bus carries, in seconds.
_WEIGH_EVERY = 600.0


@dataclass(slots=True)
class _Running:
    """A link in use, and the loop that polls its devices."""

    built: Built
    bus: Bus
    task: asyncio.Task[None]
    is_over: bool = False

    @property
    def plan(self) -> LinkPlan:
        return self.built.plan

    @property
    def link(self) -> Link:
        return self.built.link


@dataclass(slots=True)
class Prepared:
    """What has been built and not yet started, and which links run on."""

    built: list[Built] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)


class Lines:
    """Every link of a site, by its key."""

    def __init__(
        self, clock: Clock, sinks: Sequence[Sink], counters: CounterMemory, events: EventLog
    ) -> None:
        """Every bus holds `sinks`, this very list, so that a reload reaches those that run on."""
        self._clock = clock
        self._sinks = sinks
        self._counters = counters
        self._events = events
        self._running: dict[str, _Running] = {}
        self._drivers: dict[str, Driver] = {}
        self._contained: dict[str, ContainedDriver] = {}
        self._limit = Limit()

    def prepare(self, settings: Settings) -> Prepared:
        """Build the links that are new or different; start nothing. Raises ConfigError."""
        prepared = Prepared()
        for key, plan in link_plans(settings).items():
            running = self._running.get(key)
            if running is not None and running.plan == plan:
                prepared.kept.add(key)
            else:
                prepared.built.append(build(plan))
        return prepared

    def start(self, built: Built, memos: Memos) -> None:
        """Poll a link's devices, their counters where they stood."""
        members, key = [], built.plan.key
        for name, driver, settings in built.drivers:
            counters = guards(name, driver, settings, self._counters.state(name, memos), key)
            self._counters.add(name, counters)
            self._drivers[name] = driver
            contained = self._contained[name] = ContainedDriver(name, driver, self._limit)
            device = polled(name, contained, settings)
            members.append(replace(device, counters=counters, noticed=self._events.add))
        # Ten buses a slot, and the slots of one second in turn: few wake-ups, and no crowd.
        slot = len(self._running) // _BUSES_A_SLOT % round(1 / SLOT)
        bus = Bus(key, members, self._sinks, self._clock, slot=slot)
        task = asyncio.create_task(forever(f"bus {key}", bus.run))
        self._running[key] = _Running(built, bus, task)

    async def watch(self) -> None:
        """Weigh the buses now, by arithmetic, and again and again, by what was measured by then."""
        while True:
            await self.weigh()
            await self._clock.sleep(_WEIGH_EVERY)

    async def weigh(self) -> None:
        """Look at what each bus carries; polls go on meanwhile."""
        for running in list(self._running.values()):
            self._weigh(running)
            await asyncio.sleep(0)

    def _weigh(self, running: _Running) -> None:
        """One event when a bus is asked for too much, and one when that is over."""
        load = load_of(running.built, measured=True)
        if load.is_over == running.is_over:
            return
        running.is_over = load.is_over
        data: dict[str, Scalar] = {"link": load.key, "percent": round(load.share * 100, 1)}
        if load.is_over:
            text = f"{load.text()}: polls will be skipped; {load.hint()}"
            self._events.note(EventKind.BUS_OVERLOADED, text, data)
        else:
            text = f"{load.key}: its devices take {load.share * 100:.0f} % of the bus now"
            self._events.note(EventKind.BUS_RELIEVED, text, data)

    async def rename(self, old: str, new: str) -> None:
        """A device goes on under another name, between two polls; its link stays as it is."""
        running = self._of(old)
        if running is None:
            self._counters.rename(old, new)
            return
        async with running.bus.turn:
            running.bus.rename(old, new)
            running.built = _renamed(running.built, old, new)
            self._drivers = {new if name == old else name: d for name, d in self._drivers.items()}
            self._counters.rename(old, new)
            self._contained[new] = self._contained.pop(old)
            self._contained[new].device = new

    @asynccontextmanager
    async def still(self, device: str) -> AsyncIterator[None]:
        """The device is not polled meanwhile, nor the others on its link."""
        running = self._of(device)
        if running is None:
            yield
            return
        async with running.bus.turn:
            yield

    async def stop(self, kept: set[str] | frozenset[str] = frozenset()) -> None:
        """Stop polling, and close the links, of all but those that are kept."""
        stopping = [self._running.pop(key) for key in set(self._running) - kept]
        for running in stopping:
            running.task.cancel()
        await asyncio.gather(*(running.task for running in stopping), return_exceptions=True)
        for running in stopping:
            await running.link.close()

    def places(self) -> dict[str, str]:
        """The key of the link that each device is on."""
        return {name: key for key, one in self._running.items() for name, _ in one.plan.devices}

    def driver(self, device: str) -> Driver | None:
        return self._drivers.get(device)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Link -> name of an event -> how often it happened since the start."""
        return {key: dict(running.link.counters) for key, running in self._running.items()}

    def overdue(self) -> dict[str, float]:
        """The buses that give no sign of life, with the seconds since their last one."""
        now = self._clock.monotonic()
        return {
            f"bus {key}": now - running.bus.last_poll
            for key, running in self._running.items()
            if now - running.bus.last_poll > running.bus.patience
        }

    def modbus(self, device: str) -> tuple[ModbusMeter, Link, asyncio.Lock] | None:
        """A polled Modbus meter, its link, and the lock that its bus holds for each poll."""
        meter = self._drivers.get(device)
        running = self._of(device)
        if not isinstance(meter, ModbusMeter) or running is None:
            return None
        return meter, running.link, running.bus.turn

    async def command(self, device: str, command: str) -> None:
        """Make a device act, between two polls.

        Raises LookupError where its driver has no such command, LinkError, DeviceError.
        """
        driver: Any = self._drivers.get(device)
        running = self._of(device)
        if running is None or command not in getattr(driver, "commands", ()):
            raise LookupError(command)
        async with running.bus.turn:
            log.warning("%s is sent the command %s", device, command)
            await driver.act(command)

    def _of(self, device: str) -> _Running | None:
        for running in self._running.values():
            if any(name == device for name, _ in running.plan.devices):
                return running
        return None


def _renamed(built: Built, old: str, new: str) -> Built:
    """Equal to what would be built of a configuration that says the new name."""

    def now(name: str) -> str:
        return new if name == old else name

    devices = tuple((now(name), settings) for name, settings in built.plan.devices)
    drivers = [(now(name), driver, settings) for name, driver, settings in built.drivers]
    return replace(built, plan=replace(built.plan, devices=devices), drivers=drivers)
