"""The running site: builds all parts from settings, and applies other settings at a reload."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from meterd.alerts.engine import TICK_S, Alerts
from meterd.config.renamed_devices import rename_devices, stale_names
from meterd.config.settings import Settings
from meterd.daemon import self_monitoring
from meterd.daemon.alerting import AlertPart
from meterd.daemon.cluster import Cluster
from meterd.daemon.corrected_totals import following
from meterd.daemon.counter_recount import Recounted, TermsOf, unknown_terms
from meterd.daemon.counter_state import CounterState, Memos
from meterd.daemon.device_names import DeviceNames, advice, need_new
from meterd.daemon.energy_queries import DEFAULT_INTERVAL, EnergyQueries
from meterd.daemon.events import EventLog
from meterd.daemon.gc_tuning import settle, trim
from meterd.daemon.info import DeviceInfo, info_of
from meterd.daemon.link_manager import LinkManager, Prepared
from meterd.daemon.link_plan import counter_terms, link_plans
from meterd.daemon.metrics import DaemonMetrics
from meterd.daemon.reload import (
    PreparedChange,
    ReloadPart,
    Unchanged,
    committed,
    prepared,
    to_the_end,
)
from meterd.daemon.replacing import Replaced, count_anew, replace_meter
from meterd.daemon.saved_alerts import SavedAlerts
from meterd.daemon.service import ContainedSink, forever
from meterd.daemon.store_lifecycle import Store, StorePart
from meterd.daemon.timeline import Timeline
from meterd.drivers.modbus import ModbusMeter
from meterd.energy.quarter import QuarterSeries
from meterd.energy.tariff import Tariff
from meterd.errors import StoreCode, StoreError
from meterd.model.alert import Alert
from meterd.model.clock import Clock
from meterd.model.event import Event, EventKind
from meterd.model.sample import Sink
from meterd.model.times import rfc3339
from meterd.poll.latest import Latest
from meterd.store.db import replacements
from meterd.store.db.replacements import Replacement
from meterd.store.reader import Reader
from meterd.store.tools.correct import Corrections, Recount
from meterd.store.tools.merge import merge_devices
from meterd.store.writer import Writer, WriterStatus
from meterd.wire.link import Link

log = logging.getLogger(__name__)

# How often is noted where the counters stand, in seconds.
_MEMORY_EVERY = 600.0
# And first after the start: a new device is not to begin anew when the power fails then.
_MEMORY_SOON = 60.0
# Seconds that a store which is about to close gets for notes under way.
_NOTES_WAIT_S = 5.0


class Site:
    """Everything between the settings and the API."""

    def __init__(self, clock: Clock) -> None:
        self.settings = Settings()
        self.latest = Latest()
        self.started = clock.now_ms()
        self._clock = clock
        self._alerts = Alerts([], {}, clock=clock)
        self._alert_memory = SavedAlerts(self._alerts, clock)
        self._sinks: list[Sink] = []
        self._followers: list[Sink] = []
        self.daemon_metrics = DaemonMetrics()
        self._memory = CounterState()
        self.event_log = EventLog(clock)
        self._timeline = Timeline(clock, self.event_log.note)
        self.event_log.heard = self._note_event
        self._notes: set[asyncio.Task[None]] = set()
        self._naming = DeviceNames(self.event_log)
        self._lines = LinkManager(clock, self._sinks, self._memory, self.event_log)
        self._cluster = Cluster(self._wanted, self._leased, clock)
        self._consumed = EnergyQueries(lambda: self.reader, self._interval)
        self._turn = asyncio.Lock()  # of those who change the site
        self._reloads = 0  # under way, or waiting for their turn
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._store_part = StorePart(self._cluster, self._use, self._note, self._recounting)
        self._line_part = LinePart(
            self._lines,
            self._cluster.mine,
            lambda: self._open_store.writer,
            self._placed,
            self.daemon_metrics,
        )
        self._alert_part = AlertPart(
            self._alerts,
            lambda: self.latest.states,
            lambda: self._alert_memory.restore(self._open_store.writer),
        )
        self._joined: list[ReloadPart] = []

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
        if (store := self._store_part.store) is None:
            raise StoreError("the store is not open", code=StoreCode.UNAVAILABLE)
        return store

    @property
    def corrections(self) -> Corrections:
        """What people marked as invalid or set, and how they do."""
        return self._open_store.corrections

    def _recounting(self, writer: Writer, reader: Reader) -> Recount:
        """Counters that are polled go on from what corrections make of their totals."""
        return following(
            writer,
            reader,
            self._memory,
            terms=self._terms,
            still=self._lines.still,
            heard=self._recounted,
        )

    def _recounted(self, device: str, recounted: Recounted) -> None:
        """Notes the events of a recount that are new."""
        # Live polls tell it at the read that makes it sure, a recount at the one where it was.
        noted = {
            (past_event.kind, past_event.device, str(past_event))
            for past_event in self.event_log.newest()
        }
        for past_event in sorted(recounted.events, key=lambda event: event.time):
            if (past_event.kind, past_event.device, str(past_event)) not in noted:
                self.event_log.add_past(past_event)
        if recounted.more:
            log.warning("%s: and %d more in its stored counters", device, recounted.more)

    def _terms(self, device: str) -> TermsOf:
        driver, settings = self._lines.driver(device), self.settings.devices.get(device)
        if driver is None or settings is None:
            return unknown_terms
        return counter_terms(driver, settings)

    @property
    def tariffs(self) -> Mapping[str, Tariff]:
        return self.settings.tariffs

    async def quarters(self, device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        """What a counter of a device rose by in each quarter hour of start <= t < end (Unix ms).

        `start` and `end` are multiples of 15 min; quarter hours of which nothing is known are
        left out. The method is "counter", from the guarded counter, or "integrated", from power,
        where the device has no such counter. Raises StoreError.
        """
        return await self._consumed.quarters(device, quantity, start, end)

    def _interval(self, device: str) -> float:
        device_settings = self.settings.devices.get(device)
        return device_settings.interval if device_settings else DEFAULT_INTERVAL

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
        store = self._store_part.store
        return {} if store is None else store.writer.memory.catalog.renamed

    async def command(self, device: str, command: str) -> None:
        """Make a device act, between two polls.

        Raises LookupError where its driver has no such command, LinkError, DeviceError.
        """
        await self._lines.command(device, command)

    def store_status(self) -> WriterStatus:
        return self._open_store.writer.status

    def alerts(self) -> Sequence[Alert]:
        """Pending and firing alerts, and those resolved a short while ago."""
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
        """The latest events, newest first."""
        return self.event_log.newest()

    def event_counts(self) -> Mapping[tuple[str, str], int]:
        """How many events since the start, by device (empty: meterd's own) and kind."""
        return self.event_log.counts

    def link_counters(self) -> Mapping[str, Mapping[str, int]]:
        """Link URL -> name of an event -> how often it happened since the start."""
        return self._lines.counters()

    def ready(self) -> tuple[bool, str]:
        """Whether the store takes samples and every device was polled once; else the reason."""
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
        store = self._store_part.store
        silence = None if store is None else store.silence(self._clock.monotonic())
        if silence is not None:
            late["store"] = silence
        return late

    # -- changing it -------------------------------------------------------------------------

    def join(self, part: ReloadPart) -> None:
        """One more part that every change prepares, and puts in use after the site's own."""
        self._joined.append(part)

    async def apply(self, settings: Settings) -> None:
        """Make the site what `settings` say: each part prepares its change, then all are committed.

        Raises ConfigError, StoreError or what a part that joined raises while it prepares: what
        the others prepared is put away, and the site runs on as it was. Another store may have
        been made or migrated by then, and stays so; that devices were renamed is an event already.
        A commit does not raise: a step of it that fails is logged, and the others follow. What did
        not change keeps its connection and its rhythm. Where it is cancelled, all is done or
        nothing.
        """
        self._reloads += 1
        try:
            async with self._turn:
                await self._change(await self._naming.meant(settings))
        finally:
            self._reloads -= 1

    @asynccontextmanager
    async def _between_reloads(self) -> AsyncIterator[None]:
        """For who asks by the API. Raises StoreError while a reload is under way: it closes
        servers once their clients are answered, so that each would wait for the other."""
        if self._reloads:
            raise StoreError(
                "the configuration is read anew: ask again", code=StoreCode.UNAVAILABLE
            )
        async with self._turn:
            yield

    async def close(self) -> None:
        """Stop polling, commit everything, close."""
        async with self._turn:
            await self._change(None)

    async def _change(self, settings: Settings | None) -> None:
        # The store comes late: to open one may make files, and may take long.
        parts: Sequence[ReloadPart] = (self._line_part, self._alert_part, self._store_part)
        lines, alerts, store, *joined = await prepared((*parts, *self._joined), settings)
        await to_the_end(self._commit(settings, (store, lines, alerts, *joined)))

    async def _commit(self, settings: Settings | None, changes: Sequence[PreparedChange]) -> None:
        if settings is None:
            await self._end_tasks(self._tasks)
            # Once nothing is polled, and before the store is closed.
            await committed((*changes, _TimelineEnd(self._timeline)))
            return
        self.settings = settings
        await committed(changes)
        await self._begin_tasks()

    async def _begin_tasks(self) -> None:
        """Starts the tasks beside polling; those that look at each change start anew."""
        await self._end_tasks([name for name in ("loads", "gc") if name in self._tasks])
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "alerts": self._watch_alerts,
            "vitals": partial(self.daemon_metrics.watch, self._clock),
            "memory": self._remember,
            "loads": self._lines.watch,
            "gc": partial(settle, self._clock),
            "trim": partial(trim, self._clock),
        }
        for name, work in works.items():
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(forever(name, work))

    async def _end_tasks(self, names: Iterable[str]) -> None:
        ended = [self._tasks.pop(name) for name in tuple(names)]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def rename(self, old: str, new: str, who: str = "", *, merge: bool = False) -> None:
        """A device goes on under another name, with all its history, and without a gap.

        `merge`: the store may know that name, from before or after. Raises MeterdError:
        unknown_device, device_exists; StoreError.
        """
        async with self._between_reloads():
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
            start = await merge_devices(writer, reader, old, new, who=who, now=now)
        await self._call(old, new)
        still = self._lines.still(new)
        recounted = await count_anew(
            writer, reader, self._memory, new, start, now, still=still, terms=self._terms(new)
        )
        self._recounted(new, recounted)

    async def replace(self, device: str, at: int, who: str = "", *, undo: bool = False) -> Replaced:
        """From `at` on (Unix ms) another meter is read as this device; or not, after all.

        Raises MeterdError: unknown_device, not_replaced; StoreError.
        """
        async with self._between_reloads():
            store, now = self._open_store, self._clock.now_ms()
            device = self.former.get(device, device)
            done = await replace_meter(
                store.writer,
                store.reader,
                self._memory,
                device,
                Replacement(at, now, who),
                still=self._lines.still(device),
                terms=self._terms(device),
                undo=undo,
            )
            what = "was no other meter after all" if undo else "is another meter"
            text = f"{what} since {rfc3339(at)}; {done.written} guarded totals are counted anew"
            self.event_log.add(Event(EventKind.REPLACED, device, now, text, {"who": who}))
            return done

    def _note_event(self, event: Event) -> None:
        """That a counter is another meter's is kept, for whoever counts its totals anew."""
        store = self._store_part.store
        if event.kind is EventKind.SWAP and store is not None:
            task = asyncio.create_task(self._note_swap(store.writer, event))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _note_swap(self, writer: Writer, event: Event) -> None:
        one = Replacement(event.time, event.time, replacements.NOTICED)
        try:
            device = self.former.get(event.device, event.device)
            await writer.do(partial(replacements.add, device=device, replacement=one))
        except StoreError as error:
            log.error("%s: that it is another meter is not noted: %s", event.device, error)

    async def _call(self, old: str, new: str) -> None:
        """Renames a device in all that is in memory, as the store has done."""
        await self._lines.rename(old, new)
        self.settings = rename_devices(self.settings, {old: new})
        for latest in (self.latest, self._cluster.elsewhere):
            latest.rename(old, new)
        self._timeline.rename(old, new)
        self._alerts.rename(old, new)
        self.daemon_metrics.rename(old, new)
        self.daemon_metrics.place(self._lines.places())
        self.event_log.rename(old, new)

    def _reclaim(self, settings: Settings) -> None:
        """Former names that are configured as devices of their own belong to those now."""
        catalog = self._open_store.writer.memory.catalog
        for old, new in list(catalog.renamed.items()):
            if old in settings.devices and new in settings.devices:
                catalog.reclaim(old)

    async def _follow(self) -> None:
        """Devices that were renamed by another meterd, or while the store was away."""
        if not stale_names(self.settings, self.former):
            return
        async with self._turn:
            names = stale_names(self.settings, self.former)
            self._naming.now(self.settings, self.former)
            for old, new in names.items():
                await self._call(old, new)

    def _wanted(self) -> Sequence[str]:
        return [name for name, device in self.settings.devices.items() if device.enabled]

    async def _leased(self, held: frozenset[str]) -> None:
        log.info("polled here: %s", ", ".join(sorted(held)) or "nothing")
        if (store := self._store_part.store) is not None:
            # Who has a device next goes on with its counters.
            self._memory.save(store.writer)
        # What is held is told by the names that devices have now.
        await self._follow()
        async with self._turn:
            await self._change(self.settings)

    async def _remember(self) -> None:
        pause = _MEMORY_SOON
        while True:
            await self._clock.sleep(pause)
            pause = _MEMORY_EVERY
            self._memory.save(self._open_store.writer)
            self._timeline.save(self._open_store.writer)

    async def _note(self, writer: Writer) -> None:
        """Saves the memos to a store."""
        if self._notes:
            await asyncio.wait(self._notes, timeout=_NOTES_WAIT_S)
        self._memory.save(writer)
        self._timeline.save(writer)
        self._alert_memory.save(writer)

    def _use(self, writer: Sink) -> None:
        """Polls go to this writer from now on."""
        self._timeline.sink = writer
        if isinstance(writer, Writer):
            self._timeline.begin(writer.memory.newest(), writer)
        sinks: tuple[Sink, ...] = (self.latest, self._timeline, self._alerts, self.daemon_metrics)
        self._sinks[:] = [*(ContainedSink(sink) for sink in sinks), *self._followers]

    def _placed(self, devices: Sequence[str], elsewhere: Sequence[str]) -> None:
        """Sets the devices that are polled here, and those that other meterds poll."""
        self._reclaim(self.settings)
        self.latest.keep_only(devices)
        self._memory.keep_only(devices, elsewhere)

    async def _watch_alerts(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            await self._follow()
            status = self.store_status()
            self._alerts.take(self_monitoring.health(status, self._clock.now_ms()))
            self._alerts.tick()
            self._alert_memory.look(self._open_store.writer)
            self._hear_store(self._open_store.writer)

    def _hear_store(self, writer: Writer) -> None:
        """Turns the notices of the store's thread, which has logged them, into events."""
        while writer.notices:
            self.event_log.keep(Event.of(writer.notices.popleft(), "", self._clock.now_ms()))


class _TimelineEnd(Unchanged):
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    async def commit(self) -> None:
        self._timeline.close()


class LinePart:
    """The links of a site, and the devices that are polled on them."""

    def __init__(
        self,
        lines: LinkManager,
        mine: Callable[[Settings], Settings],
        memos: Callable[[], Memos],
        placed: Callable[[Sequence[str], Sequence[str]], None],
        daemon_metrics: DaemonMetrics,
    ) -> None:
        """`mine` are the settings with the devices that are polled here, where meterds share
        them; `placed` is told their names before the first poll, and those of all others."""
        self.lines = lines
        self.mine = mine
        self.memos = memos
        self.placed = placed
        self.daemon_metrics = daemon_metrics

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        """Raises ConfigError."""
        if settings is None:
            return _LineChange(self, None, (), ())
        # All of them, so that what cannot be is told whoever polls it.
        link_plans(settings)
        mine = self.mine(settings)
        names = [name for name, device in mine.devices.items() if device.enabled]
        elsewhere = [name for name in settings.devices if name not in mine.devices]
        return _LineChange(self, self.lines.prepare(mine), names, elsewhere)


class _LineChange(Unchanged):
    def __init__(
        self,
        part: LinePart,
        new: Prepared | None,
        names: Sequence[str],
        elsewhere: Sequence[str],
    ) -> None:
        self._part = part
        self._new = new
        self._names = names
        self._elsewhere = elsewhere

    async def commit(self) -> None:
        part = self._part
        if self._new is None:
            await part.lines.stop()
            return
        placed = partial(part.placed, self._names, self._elsewhere)
        await part.lines.replace(self._new, part.memos(), placed)
        part.daemon_metrics.place(part.lines.places())
