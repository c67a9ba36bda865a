"""The running site: builds what differs, then stops the old, then starts the new."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from meterd.alerts.engine import TICK, Alerts
from meterd.alerts.hooks.webhook import Webhook
from meterd.alerts.rule import Rule
from meterd.config.renamed import outdated, renamed
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
from meterd.daemon.naming import Naming, advice, need_new
from meterd.daemon.plan import counter_terms, link_plans
from meterd.daemon.recount import TermsOf, unknown_terms
from meterd.daemon.replacing import Replaced, count_anew, replace_meter
from meterd.daemon.service import ContainedSink, forever
from meterd.daemon.timeline import Timeline
from meterd.daemon.totals import following
from meterd.daemon.vitals import Vitals
from meterd.drivers.modbus import ModbusMeter
from meterd.energy.quarter import Found
from meterd.energy.tariff import Tariff
from meterd.errors import StoreError
from meterd.model.alert import Alert
from meterd.model.clock import Clock
from meterd.model.event import Event, EventKind
from meterd.model.sample import Sink
from meterd.model.times import rfc3339
from meterd.poll.latest import Latest
from meterd.store import replacements
from meterd.store.reader import Reader
from meterd.store.replacements import Replacement
from meterd.store.tools.correct import Corrections
from meterd.store.tools.merge import merged
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
        self.event_log.heard = self._heard
        self._notes: set[asyncio.Task[None]] = set()
        self._naming = Naming(self.event_log)
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
        """What people marked as invalid or set, and how they do."""
        store = self._open_store
        # The counters that are polled go on from what is counted anew.
        store.corrections.recount = following(
            store.writer, store.reader, self._memory, terms=self._terms, still=self._lines.still
        )
        return store.corrections

    def _terms(self, device: str) -> TermsOf:
        driver, settings = self._lines.driver(device), self.settings.devices.get(device)
        if driver is None or settings is None:
            return unknown_terms
        return counter_terms(driver, settings)

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
        # Who asks may have been told its name before it was renamed.
        return self._lines.modbus(self.former.get(device, device))

    @property
    def former(self) -> Mapping[str, str]:
        """Names that devices had -> the names they have now."""
        return self._store.writer.memory.catalog.renamed if self._store is not None else {}

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
            settings = await self._naming.meant(settings)
            await self._apply(settings)

    async def rename(self, old: str, new: str, who: str = "", *, merge: bool = False) -> None:
        """A device goes on under another name, with all its history, and without a gap.

        `merge`: the store may know that name, from before or after. Raises MeterdError:
        unknown_device, device_exists; StoreError.
        """
        async with self._turn:
            need_new(self.settings, old, new)
            store = self._open_store
            self._memory.save(store.writer)
            configured, now = old in self.settings.devices, self._clock.now_ms()
            if merge and new in store.writer.memory.catalog.devices:
                await self._merge(store, old, new, who, now)
            else:
                await store.writer.rename(old, new, who=who, now=now)
                await self._call(old, new)
            self._naming.knows(old, new)
            text = f"{old} is called {new} now" + (f"; {advice(old, new)}" if configured else "")
            data = {"old": old, "new": new, "who": who}
            self.event_log.note(EventKind.RENAMED, text, data)

    async def _merge(self, store: Store, old: str, new: str, who: str, now: int) -> None:
        writer, reader = store.writer, store.reader
        async with self._lines.still(old):
            start = await merged(writer, reader, old, new, who=who, now=now)
        await self._call(old, new)
        still = self._lines.still(new)
        await count_anew(writer, reader, self._memory, new, start, now, still=still)

    async def replace(self, device: str, at: int, who: str = "", *, undo: bool = False) -> Replaced:
        """From `at` on (Unix ms) another meter is read as this device; or not, after all.

        Raises MeterdError: unknown_device, not_replaced; StoreError.
        """
        async with self._turn:
            store, now = self._open_store, self._clock.now_ms()
            device = self.former.get(device, device)
            done = await replace_meter(
                store.writer,
                store.reader,
                self._memory,
                device,
                Replacement(at, now, who),
                still=self._lines.still(device),
                undo=undo,
            )
            what = "was no other meter after all" if undo else "is another meter"
            text = f"{what} since {rfc3339(at)}; {done.written} guarded totals are counted anew"
            self.event_log.add(Event(EventKind.REPLACED, device, now, text, {"who": who}))
            return done

    def _heard(self, event: Event) -> None:
        """That a counter is another meter's is kept, for whoever counts its totals anew."""
        if event.kind is EventKind.SWAP and self._store is not None:
            task = asyncio.create_task(self._note_swap(self._store.writer, event))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _note_swap(self, writer: Writer, event: Event) -> None:
        one = Replacement(event.time, event.time, replacements.NOTICED)
        try:
            device = self.former.get(event.device, event.device)
            await writer.do(partial(replacements.add, device=device, one=one))
        except StoreError as error:
            log.error("%s: that it is another meter is not noted: %s", event.device, error)

    async def _call(self, old: str, new: str) -> None:
        """What is in memory of a device that the store calls otherwise by now."""
        await self._lines.rename(old, new)
        self.settings = renamed(self.settings, {old: new})
        for latest in (self.latest, self._cluster.elsewhere):
            latest.rename(old, new)
        self._alerts.rename(old, new)
        self.vitals.rename(old, new)
        self.vitals.place(self._lines.places())
        self.event_log.rename(old, new)

    def _reclaim(self, settings: Settings) -> None:
        """Former names of devices that are configured beside them are those of others now."""
        catalog = self._open_store.writer.memory.catalog
        for old, new in list(catalog.renamed.items()):
            if old in settings.devices and new in settings.devices:
                catalog.reclaim(old)

    async def _follow(self) -> None:
        """Devices that were renamed by another meterd, or while the store was away."""
        if not outdated(self.settings, self.former):
            return
        async with self._turn:
            names = outdated(self.settings, self.former)
            self._naming.now(self.settings, self.former)
            for old, new in names.items():
                await self._call(old, new)

    async def _apply(self, settings: Settings) -> None:
        link_plans(settings)
        mine = self._cluster.mine(settings)
        prepared = self._lines.prepare(mine)
        rules, hooks = list(alerting.rules(settings)), alerting.hooks(settings)
        await self._swap_store(settings)
        self._reclaim(settings)
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
        # What is held is told by the names that devices have now.
        await self._follow()
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
        await asyncio.gather(*tasks, *self._notes, return_exceptions=True)
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
            await self._follow()
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
