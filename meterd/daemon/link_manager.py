"""The link manager: links in use, their devices, and the loop that polls each link."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from meterd.config.settings import DeviceSettings, Settings
from meterd.daemon.busload import load_of
from meterd.daemon.counter_state import CounterState, Memos
from meterd.daemon.events import EventLog
from meterd.daemon.link_plan import (
    Built,
    LinkPlan,
    bare,
    build,
    close_driver,
    guards,
    link_plans,
    polled,
)
from meterd.daemon.poll_timeout import PollTimeout
from meterd.daemon.service import ContainedDriver, forever
from meterd.drivers import registry
from meterd.drivers.modbus import ModbusMeter
from meterd.model.clock import Clock
from meterd.model.driver import Commands, Driver
from meterd.model.event import EventKind, Scalar
from meterd.model.sample import Sink
from meterd.poll.bus import SLOT, Bus
from meterd.poll.counters import Counters
from meterd.wire.link import Link

log = logging.getLogger(__name__)

_BUSES_A_SLOT = 10
# How often is looked at what each bus carries, in seconds.
_WEIGH_EVERY = 600.0
# Seconds that a poll under way may take to give up when its device is polled no more.
_LAST_POLL_S = 10.0


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


class LinkManager:
    """Every link of a site, by its key."""

    def __init__(
        self, clock: Clock, sinks: Sequence[Sink], counters: CounterState, events: EventLog
    ) -> None:
        """Every bus holds `sinks`, this very list, so that a reload reaches those that run on."""
        self._clock = clock
        self._sinks = sinks
        self._counters = counters
        self._events = events
        self._running: dict[str, _Running] = {}
        self._drivers: dict[str, Driver] = {}
        self._contained: dict[str, ContainedDriver] = {}
        self._limit = PollTimeout()

    def prepare(self, settings: Settings) -> Prepared:
        """Build the links that are new or different; start nothing. Raises ConfigError."""
        prepared = Prepared()
        for key, plan in link_plans(settings).items():
            running = self._running.get(key)
            if running is not None and running.plan == plan:
                prepared.kept.add(key)
            else:
                built = build(plan, None if running is None else running.built)
                # All that a foreign driver is asked for later, asked for where it may still fail.
                for name, driver, device in built.drivers:
                    guards(name, driver, device, None)
                    polled(name, driver, device)
                prepared.built.append(built)
        return prepared

    async def replace(
        self, prepared: Prepared, memos: Memos, ready: Callable[[], None] = lambda: None
    ) -> None:
        """Polls what was prepared, and nothing else; links that were taken over stay open.

        `ready` is called when what is old has been polled last, before anything new is.
        """
        await self._end(prepared.kept, prepared.built)
        ready()
        for built in prepared.built:
            built.link.retime(built.plan.times)
            self.start(built, memos)
        named = self.places()
        self._drivers = {name: driver for name, driver in self._drivers.items() if name in named}

    def start(self, built: Built, memos: Memos) -> None:
        """Poll a link's devices, their counters where they stood."""
        members, key = [], built.plan.key
        for name, driver, settings in built.drivers:
            counters = self._guards(name, driver, settings, memos, key)
            self._counters.add(name, counters)
            self._drivers[name] = driver
            origin = registry.origin(settings.driver)
            contained = ContainedDriver(name, driver, self._limit, origin)
            self._contained[name] = contained
            device = polled(name, contained, settings)
            members.append(replace(device, counters=counters, noticed=self._events.add))
        # Ten buses a slot, and the slots of one second in turn: few wake-ups, and no crowd.
        slot = len(self._running) // _BUSES_A_SLOT % round(1 / SLOT)
        bus = Bus(key, members, self._sinks, self._clock, slot=slot)
        task = asyncio.create_task(forever(f"bus {key}", bus.run))
        self._running[key] = _Running(built, bus, task)

    def _guards(
        self, name: str, driver: Driver, settings: DeviceSettings, memos: Memos, link: str
    ) -> Counters:
        try:
            return guards(name, driver, settings, self._counters.state(name, memos), link)
        except Exception:
            # What was remembered is data from outside; without it they begin anew.
            log.exception("%s: its counters begin anew: a bug", name)
            return guards(name, driver, settings, None, link)

    async def watch(self) -> None:
        """Calculates the load of the buses now and periodically, later from measured durations."""
        while True:
            await self.weigh()
            await self._clock.sleep(_WEIGH_EVERY)

    async def weigh(self) -> None:
        """Look at what each bus carries; polls go on meanwhile."""
        for running in list(self._running.values()):
            self._weigh(running)
            await asyncio.sleep(0)

    def _weigh(self, running: _Running) -> None:
        """Notes one event when a bus becomes overloaded, and one when that ends."""
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
        """Renames a device between two polls; its link stays open."""
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
        """While entered, no device of the link is polled."""
        running = self._of(device)
        if running is None:
            yield
            return
        async with running.bus.turn:
            yield

    async def stop(self, kept: set[str] | frozenset[str] = frozenset()) -> None:
        """Stop polling, and close the links, of all but those that are kept."""
        await self._end(kept, ())

    async def _end(self, kept: set[str] | frozenset[str], taken: Collection[Built]) -> None:
        """`taken`: whose links and drivers go on. Never raises, and ends in time."""
        stopping = [self._running.pop(key) for key in set(self._running) - kept]
        tasks = [running.task for running in stopping]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_LAST_POLL_S)
            for running in stopping:
                if running.task in stuck:
                    log.error("%s: a poll does not end; it is left behind", running.plan.key)
        await _close(stopping, taken)

    def places(self) -> dict[str, str]:
        """The key of the link that each device is on."""
        return {
            name: key for key, running in self._running.items() for name, _ in running.plan.devices
        }

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
            if now - running.bus.last_poll > running.bus.stuck_after
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
        running = self._of(device)
        driver: object = bare(self._drivers[device]) if device in self._drivers else None
        if running is None or not isinstance(driver, Commands) or command not in driver.commands:
            raise LookupError(command)
        async with running.bus.turn:
            log.warning("%s is sent the command %s", device, command)
            await driver.act(command)

    def _of(self, device: str) -> _Running | None:
        for running in self._running.values():
            if any(name == device for name, _ in running.plan.devices):
                return running
        return None


async def _close(stopping: Sequence[_Running], taken: Collection[Built]) -> None:
    """Close links and drivers that are not among the `taken`. Never raises."""
    links = {id(built.link) for built in taken}
    drivers = {id(bare(driver)) for built in taken for _, driver, _ in built.drivers}
    ending = (driver for running in stopping for _, driver, _ in running.built.drivers)
    closing = [
        *(close_driver(driver) for driver in ending if id(bare(driver)) not in drivers),
        *(running.link.close() for running in stopping if id(running.link) not in links),
    ]
    for error in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(error, Exception):
            log.error("a link or a driver could not be closed", exc_info=error)


def _renamed(built: Built, old: str, new: str) -> Built:
    """The same as if built from a configuration with the new name."""

    def now(name: str) -> str:
        return new if name == old else name

    devices = tuple((now(name), settings) for name, settings in built.plan.devices)
    drivers = [(now(name), driver, settings) for name, driver, settings in built.drivers]
    return replace(built, plan=replace(built.plan, devices=devices), drivers=drivers)
