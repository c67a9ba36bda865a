"""The running site: builds what differs, then stops the old, then starts the new."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from meterd.alerts.engine import TICK, Alerts
from meterd.alerts.hooks.webhook import Webhook
from meterd.alerts.rule import Rule
from meterd.config.settings import Settings
from meterd.daemon import alerting, own
from meterd.daemon.alerted import AlertMemory
from meterd.daemon.calm import settle
from meterd.daemon.cluster import Cluster, share_of
from meterd.daemon.consumed import DEFAULT_INTERVAL, Consumed
from meterd.daemon.events import EventLog
from meterd.daemon.info import DeviceInfo, info_of
from meterd.daemon.keeping import Store, replaced
from meterd.daemon.lines import Lines
from meterd.daemon.memory import CounterMemory
from meterd.daemon.plan import link_plans
from meterd.daemon.service import ContainedSink, forever
from meterd.daemon.timeline import Timeline
from meterd.daemon.vitals import Vitals
from meterd.drivers.modbus import ModbusMeter
from meterd.energy.quarter import Found
from meterd.energy.tariff import Tariff
from meterd.model.alert import Alert
from meterd.model.clock import Clock
from meterd.model.event import Event
from meterd.model.sample import Sink
from meterd.poll.latest import Latest
from meterd.store.reader import Reader
from meterd.store.tools.correct import Corrections
from meterd.store.writer import Writer, WriterStatus
from meterd.wire.link import Link

log = logging.getLogger(__name__)

_HOOK_GRACE = 2.0
# How often is noted where the counters stand, in seconds.
_MEMORY_EVERY = 600.0
# And first after the start: a new device is not to begin anew when the power fails then.
_MEMORY_SOON = 60.0


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
        self._store: Store | None = None
        self._sinks: list[Sink] = []
        self._followers: list[Sink] = []
        self.vitals = Vitals()
        self._vitals_task: asyncio.Task[None] | None = None
        self._memory = CounterMemory()
        self.event_log = EventLog(clock)
        self._timeline = Timeline(clock, self.event_log.note)
        self._lines = Lines(clock, self._sinks, self._memory, self.event_log)
        self._cluster = Cluster(self._wanted, self._leased, clock)
        self._turn = asyncio.Lock()  # of those who change the site
        self._consumed = Consumed(lambda: self.reader, self._interval)
        self._memory_task: asyncio.Task[None] | None = None
        self._calm_task: asyncio.Task[None] | None = None
        self._loads_task: asyncio.Task[None] | None = None

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
    def _open_store(self) -> Store:
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
        settings, driver = self.settings, self._lines.driver
        return [info_of(name, settings, driver(name)) for name in settings.devices]

    @property
    def elsewhere(self) -> Latest:
        """What other meterds committed last of the devices that they poll."""
        return self._cluster.elsewhere

    def modbus(self, device: str) -> tuple[ModbusMeter, Link, asyncio.Lock] | None:
        """A polled Modbus meter, its link, and the lock that its bus holds for each poll."""
        return self._lines.modbus(device)

    async def command(self, device: str, command: str) -> None:
        """Make a device act, between two polls.

        Raises LookupError where its driver has no such command, LinkError, DeviceError.
        """
        await self._lines.command(device, command)

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
        """What was noticed lately, newest first."""
        return self.event_log.newest()

    def event_counts(self) -> Mapping[tuple[str, str], int]:
        """How many events since the start, by device (empty: meterd's own) and kind."""
        return self.event_log.counts

    def link_counters(self) -> Mapping[str, Mapping[str, int]]:
        return self._lines.counters()

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
        late = self._lines.overdue()
        silence = self._store.silence(self._clock.monotonic()) if self._store else None
        if silence is not None:
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
        prepared = self._lines.prepare(mine)
        rules, hooks = list(alerting.rules(settings)), alerting.hooks(settings)
        await self._swap_store(settings)
        await self._lines.stop(prepared.kept)
        self.settings = settings
        self.latest.keep_only(name for name, d in mine.devices.items() if d.enabled)
        await self._swap_alerts(rules, hooks)
        for built in prepared.built:
            self._lines.start(built, self._open_store.writer)
        leased = [name for name in settings.devices if name not in mine.devices]
        self._memory.keep_only(list(self.latest.states), leased)
        self.vitals.place(self._lines.places())
        if self._vitals_task is None:
            self._vitals_task = asyncio.create_task(
                forever("vitals", partial(self.vitals.watch, self._clock))
            )
        if self._memory_task is None:
            self._memory_task = asyncio.create_task(forever("memory", self._remember))
        if self._loads_task is not None:
            self._loads_task.cancel()
        self._loads_task = asyncio.create_task(forever("loads", self._lines.watch))
        if self._calm_task is not None:
            self._calm_task.cancel()
        self._calm_task = asyncio.create_task(settle(self._clock))

    def _wanted(self) -> Sequence[str]:
        return [name for name, device in self.settings.devices.items() if device.enabled]

    async def _leased(self, held: frozenset[str]) -> None:
        log.info("polled here: %s", ", ".join(sorted(held)) or "nothing")
        if self._store is not None:
            # Who has a device next goes on with its counters.
            self._memory.save(self._store.writer)
        async with self._turn:
            await self._apply(self.settings)

    async def close(self) -> None:
        """Stop polling, commit everything, close."""
        await self._cluster.stop()
        await self._lines.stop()
        started = (
            self._alerts_task,
            self._memory_task,
            self._calm_task,
            self._loads_task,
            self._vitals_task,
        )
        tasks = [task for task in started if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._alerts_task = self._memory_task = self._calm_task = self._vitals_task = None
        self._loads_task = None
        await asyncio.gather(*(hook.close(_HOOK_GRACE) for hook in self._hooks.values()))
        self._timeline.close()
        if self._store is not None:
            self._memory.save(self._store.writer)
            self._timeline.save(self._store.writer)
            self._alert_memory.save(self._store.writer)
            await self._store.close()
        await self._cluster.close()

    async def _remember(self) -> None:
        pause = _MEMORY_SOON
        while True:
            await self._clock.sleep(pause)
            pause = _MEMORY_EVERY
            self._memory.save(self._open_store.writer)
            self._timeline.save(self._open_store.writer)

    async def _swap_store(self, settings: Settings) -> None:
        old, wanted = self._store, settings.store
        same = self._cluster.settings == settings.cluster
        if old is not None and same and old.settings == wanted:
            return
        leases = self._cluster.prepare(settings)
        if old is not None:
            self._memory.save(old.writer)
            self._alert_memory.save(old.writer)
        self._store = await replaced(old, wanted, share_of(leases), self._use)
        await self._cluster.start(leases, settings.cluster)

    def _use(self, writer: Sink) -> None:
        """Polls go to this writer from now on."""
        self._timeline.sink = writer
        if isinstance(writer, Writer):
            self._timeline.begin(writer.memory.newest(), writer)
        sinks: tuple[Sink, ...] = (self.latest, self._timeline, self._alerts, self.vitals)
        self._sinks[:] = [*(ContainedSink(sink) for sink in sinks), *self._followers]

    async def _watch_alerts(self) -> None:
        while True:
            await self._clock.sleep(TICK)
            self._alerts.take(own.health(self.store_status(), self._clock.now_ms()))
            self._alerts.tick()
            self._alert_memory.look(self._open_store.writer)

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
