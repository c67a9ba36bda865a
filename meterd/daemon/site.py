"""The running site: builds what differs, then stops the old, then starts the new."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from meterd.alerts.engine import TICK, Alerts
from meterd.alerts.hooks.webhook import Webhook
from meterd.alerts.rules import Rule
from meterd.config.settings import DeviceSettings, Settings, StoreSettings
from meterd.daemon import own
from meterd.daemon.alerted import AlertMemory
from meterd.daemon.calm import settle
from meterd.daemon.cluster import Cluster, share_of
from meterd.daemon.consumed import DEFAULT_INTERVAL, Consumed
from meterd.daemon.limit import Limit
from meterd.daemon.memory import CounterMemory
from meterd.daemon.plan import LinkPlan, devices, guards, link_plans, polled
from meterd.daemon.service import ContainedDriver, ContainedSink, forever
from meterd.daemon.vitals import Vitals
from meterd.drivers.modbus import ModbusMeter
from meterd.energy.quarter import Found
from meterd.energy.tariff import Tariff
from meterd.model.alert import Alert
from meterd.model.clock import Clock
from meterd.model.sample import Driver, Sink
from meterd.poll.bus import SLOT, Bus
from meterd.poll.counters import Event
from meterd.poll.latest import Latest
from meterd.store.correct import Corrections
from meterd.store.reader import Reader
from meterd.store.rescue import Precautions
from meterd.store.share import Share
from meterd.store.writer import Writer, WriterStatus
from meterd.wire.link import Link

log = logging.getLogger(__name__)

# The writer wakes at least once a commit; so long after that it is stuck.
_WRITER_PATIENCE = 120.0
_HOOK_GRACE = 2.0
_BUSES_A_SLOT = 10
# How often is noted where the counters stand, in seconds.
_MEMORY_EVERY = 600.0


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device as it is configured, for those who ask. `interval` is in seconds.

    `timeout` is what one of its exchanges may take now, in seconds, where its driver tells.
    """

    id: str
    driver: str
    model: str | None
    link: str
    interval: float
    labels: Mapping[str, str]
    enabled: bool
    timeout: float | None
    commands: tuple[str, ...] = ()


@dataclass(slots=True)
class _Running:
    """A link in use, and the loop that polls its devices."""

    plan: LinkPlan
    link: Link
    bus: Bus
    task: asyncio.Task[None]


@dataclass(slots=True)
class _Store:
    settings: StoreSettings
    writer: Writer
    reader: Reader
    corrections: Corrections


@dataclass(frozen=True, slots=True)
class _Built:
    """A link that is not opened yet, and the drivers of its devices."""

    plan: LinkPlan
    link: Link
    drivers: Sequence[tuple[str, Driver, DeviceSettings]]


@dataclass(slots=True)
class _Prepared:
    """What `apply` has built and not yet started, and which links run on."""

    built: list[_Built] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)


class Site:
    """Everything between the settings and the API."""

    def __init__(self, clock: Clock) -> None:
        self.settings = Settings()
        self.latest = Latest()
        self.started = clock.now_ms()
        self._clock = clock
        self._alerts = Alerts([], {}, clock=clock)
        self._alert_memory = AlertMemory(self._alerts, clock)
        self._alerts_task: asyncio.Task[None] | None = None
        self._hooks: dict[str, Webhook] = {}
        self._store: _Store | None = None
        self._sinks: list[Sink] = []
        self._followers: list[Sink] = []
        self._running: dict[str, _Running] = {}
        self._drivers: dict[str, Driver] = {}
        self._limit = Limit()
        self.vitals = Vitals()
        self._vitals_task: asyncio.Task[None] | None = None
        self._memory = CounterMemory()
        self._cluster = Cluster(self._wanted, self._leased, clock)
        self._turn = asyncio.Lock()  # of those who change the site
        self._consumed = Consumed(lambda: self.reader, self._interval)
        self._memory_task: asyncio.Task[None] | None = None
        self._calm_task: asyncio.Task[None] | None = None

    # -- what the API asks -------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.settings.site.name

    @property
    def timezone(self) -> str:
        return self.settings.site.timezone

    @property
    def reader(self) -> Reader:
        return self._open_store.reader

    @property
    def _open_store(self) -> _Store:
        if self._store is None:
            raise RuntimeError("the site is stopped")
        return self._store

    @property
    def corrections(self) -> Corrections:
        """What people marked as invalid, and how they do."""
        return self._open_store.corrections

    @property
    def tariffs(self) -> Mapping[str, Tariff]:
        return self.settings.tariffs

    async def quarters(self, device: str, quantity: str, start: int, end: int) -> Found:
        """What a device consumed in each quarter hour, and how that is known."""
        return await self._consumed.quarters(device, quantity, start, end)

    def _interval(self, device: str) -> float:
        known = self.settings.devices.get(device)
        return known.interval if known else DEFAULT_INTERVAL

    def devices(self) -> Sequence[DeviceInfo]:
        """Every configured device, in the configuration's order."""
        return [self._info(name, device) for name, device in self.settings.devices.items()]

    def _info(self, name: str, device: DeviceSettings) -> DeviceInfo:
        named = self.settings.links.get(device.link)
        return DeviceInfo(
            id=name,
            driver=device.driver,
            model=getattr(device.options, "map", None),
            link=named.url if named else device.link,
            interval=device.interval,
            labels=device.labels,
            enabled=device.enabled,
            timeout=getattr(self._drivers.get(name), "timeout", None),
            commands=device.commands,
        )

    def modbus(self, device: str) -> tuple[ModbusMeter, Link, asyncio.Lock] | None:
        """A polled Modbus meter, its link, and the lock that its bus holds for each poll."""
        meter = self._drivers.get(device)
        if not isinstance(meter, ModbusMeter):
            return None
        for running in self._running.values():
            if any(name == device for name, _ in running.plan.devices):
                return meter, running.link, running.bus.turn
        return None

    async def command(self, device: str, command: str) -> None:
        """Make a device act, between two polls.

        Raises LookupError where its driver has no such command, LinkError, DeviceError.
        """
        driver = self._drivers.get(device)
        act = getattr(driver, "act", None)
        if act is None or command not in getattr(driver, "commands", ()):
            raise LookupError(command)
        for running in self._running.values():
            if any(name == device for name, _ in running.plan.devices):
                async with running.bus.turn:
                    log.warning("%s is sent the command %s", device, command)
                    await act(command)

    def store_status(self) -> WriterStatus:
        return self._open_store.writer.status

    def alerts(self) -> Sequence[Alert]:
        return self._alerts.active()

    @property
    def alerting(self) -> Alerts:
        """Where alerts are acknowledged and silenced."""
        return self._alerts

    @property
    def keep_raw(self) -> float | None:
        """How long samples stay as they were polled, in seconds; None: for ever."""
        return self.settings.store.keep.raw

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Give every poll to one more sink, until what this returns is called."""
        contained = ContainedSink(sink)
        self._followers.append(contained)
        self._sinks.append(contained)

        def leave() -> None:
            for sinks in (self._followers, self._sinks):
                if contained in sinks:
                    sinks.remove(contained)

        return leave

    def events(self) -> Sequence[Event]:
        """What was noticed of counters lately, newest first."""
        return self._memory.events()

    def link_counters(self) -> Mapping[str, Mapping[str, int]]:
        return {key: dict(running.link.counters) for key, running in self._running.items()}

    def ready(self) -> tuple[bool, str]:
        """Whether the store takes samples and every device has been asked once, else why not."""
        status = self.store_status()
        if not status.writable:
            return False, f"the store is not writable: {status.error}"
        waiting = [name for name, state in self.latest.states.items() if not state.polls]
        if waiting:
            return False, f"not polled yet: {', '.join(waiting)}"
        return True, ""

    def overdue(self) -> Mapping[str, float]:
        """What gives no sign of life, with the seconds since its last one: for the watchdog."""
        now = self._clock.monotonic()
        late = {
            f"bus {key}": now - running.bus.last_poll
            for key, running in self._running.items()
            if now - running.bus.last_poll > running.bus.patience
        }
        if self._store is not None:
            silence = now - self._store.writer.status.alive
            if silence > self._store.settings.commit + _WRITER_PATIENCE:
                late["store"] = silence
        return late

    # -- changing it -------------------------------------------------------------------------

    async def apply(self, settings: Settings) -> None:
        """Make the site what `settings` say.

        Raises ConfigError or StoreError before anything is touched: the site then runs on as
        it was. What did not change keeps its connection and its rhythm.
        """
        async with self._turn:
            await self._apply(settings)

    async def _apply(self, settings: Settings) -> None:
        link_plans(settings)
        mine = self._cluster.mine(settings)
        prepared = self._prepare(mine)
        rules, hooks = list(_rules(settings)), _hooks(settings)
        await self._swap_store(settings)
        await self._stop_buses(set(self._running) - prepared.kept)
        self.settings = settings
        self.latest.keep_only(name for name, d in mine.devices.items() if d.enabled)
        await self._swap_alerts(rules, hooks)
        for built in prepared.built:
            self._start(built)
        self._memory.keep_only(list(self.latest.states))
        self.vitals.place(
            {name: key for key, one in self._running.items() for name, _ in one.plan.devices}
        )
        if self._vitals_task is None:
            self._vitals_task = asyncio.create_task(
                forever("vitals", partial(self.vitals.watch, self._clock))
            )
        if self._memory_task is None:
            self._memory_task = asyncio.create_task(forever("memory", self._remember))
        if self._calm_task is not None:
            self._calm_task.cancel()
        self._calm_task = asyncio.create_task(settle(self._clock))

    def _wanted(self) -> Sequence[str]:
        return [name for name, device in self.settings.devices.items() if device.enabled]

    async def _leased(self, held: frozenset[str]) -> None:
        log.info("polled here: %s", ", ".join(sorted(held)) or "nothing")
        async with self._turn:
            await self._apply(self.settings)

    async def close(self) -> None:
        """Stop polling, commit everything, close."""
        await self._cluster.stop()
        await self._stop_buses(set(self._running))
        started = (
            self._alerts_task,
            self._memory_task,
            self._calm_task,
            self._vitals_task,
        )
        tasks = [task for task in started if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._alerts_task = self._memory_task = self._calm_task = self._vitals_task = None
        await asyncio.gather(*(hook.close(_HOOK_GRACE) for hook in self._hooks.values()))
        if self._store is not None:
            self._memory.save(self._store.writer)
            self._alert_memory.save(self._store.writer)
            await self._store.writer.close()
            self._store.reader.close()
        await self._cluster.close()

    def _prepare(self, settings: Settings) -> _Prepared:
        """Build the links that are new or different; start nothing."""
        prepared = _Prepared()
        for key, plan in link_plans(settings).items():
            running = self._running.get(key)
            if running is not None and running.plan == plan:
                prepared.kept.add(key)
            else:
                link = plan.open()
                prepared.built.append(_Built(plan, link, devices(plan, link)))
        return prepared

    def _start(self, built: _Built) -> None:
        """Poll a link's devices, their counters where they stood."""
        writer = self._open_store.writer
        members = []
        for name, driver, settings in built.drivers:
            counters = guards(name, driver, settings, self._memory.state(name, writer))
            self._memory.add(name, counters)
            self._drivers[name] = driver
            device = polled(name, ContainedDriver(name, driver, self._limit), settings)
            members.append(replace(device, counters=counters, noticed=self._memory.notice))
        key = built.plan.key
        # Ten buses a slot, and the slots of one second in turn: few wake-ups, and no crowd.
        slot = len(self._running) // _BUSES_A_SLOT % round(1 / SLOT)
        bus = Bus(key, members, self._sinks, self._clock, slot=slot)
        task = asyncio.create_task(forever(f"bus {key}", bus.run))
        self._running[key] = _Running(built.plan, built.link, bus, task)

    async def _remember(self) -> None:
        while True:
            await self._clock.sleep(_MEMORY_EVERY)
            self._memory.save(self._open_store.writer)

    async def _swap_store(self, settings: Settings) -> None:
        old, wanted = self._store, settings.store
        same = self._cluster.settings == settings.cluster
        if old is not None and same and old.settings == wanted:
            return
        leases = self._cluster.prepare(settings)
        writer = _writer(wanted, share_of(leases))
        await writer.open()
        reader = Reader(wanted.url, writer.memory)
        self._store = _Store(wanted, writer, reader, Corrections(writer, reader))
        # Every bus holds this very list, so that a reload reaches those that run on.
        sinks: tuple[Sink, ...] = (self.latest, writer, self._alerts, self.vitals)
        self._sinks[:] = [*(ContainedSink(sink) for sink in sinks), *self._followers]
        if old is not None:
            await old.writer.close()
            old.reader.close()
        await self._cluster.start(leases, settings.cluster)

    async def _watch_alerts(self) -> None:
        while True:
            await self._clock.sleep(TICK)
            self._alerts.take(own.health(self.store_status(), self._clock.now_ms()))
            self._alerts.tick()
            self._alert_memory.look(self._open_store.writer)

    async def _stop_buses(self, keys: set[str]) -> None:
        stopping = [self._running.pop(key) for key in keys]
        for running in stopping:
            running.task.cancel()
        await asyncio.gather(*(running.task for running in stopping), return_exceptions=True)
        for running in stopping:
            await running.link.close()

    async def _swap_alerts(self, rules: Sequence[Rule], hooks: dict[str, Webhook]) -> None:
        """New hooks first, so that no alert finds none; alerts that are firing live on."""
        old, self._hooks = self._hooks, hooks
        for hook in hooks.values():
            await hook.start()
        devices = self.settings.devices
        change = partial(
            self._alerts.replace,
            rules,
            hooks,
            site=self.name,
            labels={name: device.labels for name, device in devices.items()},
            devices=[*self.latest.states, own.DEVICE],
        )
        change()
        if self._alerts_task is None:
            self._alert_memory.restore(self._open_store.writer)
            # Once more, for the alerts of devices that went meanwhile.
            change()
            self._alerts_task = asyncio.create_task(forever("alerts", self._watch_alerts))
        await asyncio.gather(*(hook.close(_HOOK_GRACE) for hook in old.values()))


def _writer(settings: StoreSettings, share: Share | None = None) -> Writer:
    spool = settings.spool
    return Writer(
        settings.url,
        commit=settings.commit,
        keep=settings.keep.raw,
        rows=settings.rows,
        to_file=settings.journal == "file",
        precautions=Precautions(
            memory=spool.memory,
            spool=None if spool.file is None else Path(spool.file).absolute(),
            size=spool.size,
            reserve=settings.reserve,
        ),
        share=share,
    )


def _hooks(settings: Settings) -> dict[str, Webhook]:
    return {
        name: Webhook(name, hook.url, timeout=hook.timeout, headers=hook.headers)
        for name, hook in settings.alerts.hooks.items()
    }


def _rules(settings: Settings) -> Iterator[Rule]:
    named = settings.alerts.rules
    yield from (rule for rule in own.rules(settings.alerts.hooks) if rule.name not in named)
    for name, rule in settings.alerts.rules.items():
        yield Rule(
            name=name,
            quantity=rule.quantity,
            device=rule.device,
            equals=rule.equals,
            above=rule.above,
            below=rule.below,
            clear_below=rule.clear_below,
            clear_above=rule.clear_above,
            hold=rule.for_,
            severity=rule.severity,
            notify=rule.notify,
            text=rule.text or "",
        )
