"""A site made up for tests and for looking at the page: `python -m tests.api.fake --port 8421`."""

import argparse
import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meterd.alerts.engine import Alerts
from meterd.config.settings import Settings
from meterd.daemon.info import DeviceInfo
from meterd.daemon.metrics import DaemonMetrics
from meterd.energy.quarter import COUNTER, QuarterSeries
from meterd.energy.tariff import Tariff
from meterd.errors import StoreError
from meterd.model.alert import Alert, AlertState
from meterd.model.clock import SystemClock
from meterd.model.event import Event, EventKind
from meterd.model.quantity import Kind
from meterd.model.sample import Fault, Layout, Poll, Quality, QualityFlag, Sink, failed
from meterd.poll.latest import Latest
from meterd.store.head.catalog import Name
from meterd.store.query.range_query import SeriesInfo, SeriesPoints
from meterd.store.query.series_array import EMPTY, SeriesArray
from meterd.store.tools.correct import Correction
from meterd.store.writer import WriterStatus

NOW = 1_795_255_200_000  # 2026-11-21T10:00:00Z


# For the type checker a fake is what it stands for: what it lacks, no test here needs.
if TYPE_CHECKING:
    from meterd.daemon.site import Site as _Site
    from meterd.store.reader import Reader as _Reader
else:
    _Reader = _Site = object


@dataclass(frozen=True, slots=True)
class FakeDevice(DeviceInfo):
    """A polled meter, but for what a test says of it."""

    driver: str = "modbus"
    model: str | None = "eastron_sdm630"
    link: str = "tcp://192.0.2.7:502"
    interval: float = 5.0
    labels: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True
    timeout: float | None = 1.0


@dataclass(frozen=True, slots=True)
class FakeSeries(SeriesInfo):
    """A series of the last day, but for what a test says of it."""

    kind: Kind = Kind.GAUGE
    first: int = NOW - 86_400_000
    last: int = NOW


@dataclass(frozen=True, slots=True)
class FakeStatus(WriterStatus):
    """A store that is well."""

    writable: bool = True
    queued: int = 12
    committed: int = 3400
    dropped: int = 0
    last_commit: float = NOW / 1000 - 4
    took: float = 0.004
    error: str = ""
    alive: float = 0.0


Ask = tuple[list[str], list[str], int, int, int, str]


@dataclass
class FakeReader(_Reader):
    """Answers with a slow wave, and remembers what it was asked."""

    known: list[SeriesInfo] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    error: StoreError | None = None
    points: Callable[[str, int], float | None] = lambda device, ms: 1000.0
    delay: float = 0.0
    edges: list[int] = field(default_factory=list)

    def names(self) -> list[SeriesInfo]:
        return self.known

    def columns(
        self,
        names: Sequence[tuple[str, str, str]],
        start: int,
        end: int,
        *,
        most: int | None = None,
    ) -> list[SeriesArray]:
        """Nothing: PromQL has a history of its own in its tests."""
        return [EMPTY for _ in names]

    def ordered(self, names: Sequence[Name]) -> list[Name]:
        return list(names)

    def day(self, device: str, day: int, wanted: object) -> None:
        """Nothing to export."""

    async def series(self) -> list[SeriesInfo]:
        if self.error:
            raise self.error
        return self.known

    async def range(
        self,
        devices: Sequence[str] | None,
        quantities: Sequence[str] | None,
        start: int,
        end: int,
        step: int,
        agg: str,
        edges: Sequence[int] = (),
    ) -> list[SeriesPoints]:
        assert devices is not None
        assert quantities is not None
        self.edges = list(edges)
        self.asked.append((list(devices), list(quantities), start, end, step, agg))
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return [
            SeriesPoints(
                one.device, one.quantity, one.unit, self._points(one.device, start, end, step)
            )
            for one in self.known
            if one.device in devices and one.quantity in quantities
        ]

    def _points(self, device: str, start: int, end: int, step: int) -> list[tuple[int, float]]:
        width = step or 5000
        times = range(start - start % width, end, width)
        found = ((ms, self.points(device, ms)) for ms in times)
        return [(ms, value) for ms, value in found if value is not None]


class FakeBook:
    """No corrections."""

    async def all(self) -> Sequence[Correction]:
        return ()


@dataclass
class FakeSite(_Site):
    name: str = "Home"
    settings: Settings = field(default_factory=Settings)
    timezone: str = "Australia/Brisbane"
    started: int = NOW - 3_600_000
    latest: Latest = field(default_factory=Latest)
    elsewhere: Latest = field(default_factory=Latest)
    reader: FakeReader = field(default_factory=FakeReader)
    known: list[FakeDevice] = field(default_factory=list)
    firing: list[Alert] = field(default_factory=list)
    status: WriterStatus = field(default_factory=FakeStatus)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    readiness: tuple[bool, str] = (True, "")

    tariffs: Mapping[str, Tariff] = field(default_factory=dict)
    daemon_metrics: DaemonMetrics = field(default_factory=DaemonMetrics)

    @property
    def former(self) -> Mapping[str, str]:
        return {}

    async def quarters(self, device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        return (), COUNTER

    def devices(self) -> Sequence[DeviceInfo]:
        return self.known

    def store_status(self) -> WriterStatus:
        return self.status

    corrections: Any = field(default_factory=FakeBook)
    sinks: list[Sink] = field(default_factory=list)
    keep_raw: float | None = None
    sent: list[tuple[str, str]] = field(default_factory=list)
    refusing: Exception | None = None
    alerting: Alerts = field(default_factory=lambda: Alerts([], {}, clock=SystemClock()))

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def take(self, poll: Poll) -> None:
        """As a bus does."""
        for sink in (self.latest, *self.sinks):
            sink.take(poll)

    def alerts(self) -> Sequence[Alert]:
        return self.firing

    async def command(self, device: str, command: str) -> None:
        if self.refusing is not None:
            raise self.refusing
        self.sent.append((device, command))

    def events(self) -> Sequence[Event]:
        data = {"quantity": "active_energy.import"}
        return [Event(EventKind.RESET, "main", 1_763_719_200_000, "began anew", data)]

    def event_counts(self) -> Mapping[tuple[str, str], int]:
        return {("main", "reset"): 1}

    def link_counters(self) -> Mapping[str, Mapping[str, int]]:
        return self.counters

    def ready(self) -> tuple[bool, str]:
        return self.readiness

    def add(self, device: FakeDevice, *polls: Poll) -> None:
        self.known.append(device)
        for poll in polls:
            self.latest.take(poll)
            stored = {(one.device, one.quantity) for one in self.reader.known}
            self.reader.known += [
                FakeSeries(device.id, quantity, unit)
                for quantity, unit in zip(poll.layout.quantities, poll.layout.units, strict=True)
                if (device.id, quantity) not in stored
            ]


Columns = Mapping[str, tuple[float | None, str]]


def good(device: str, time: int, columns: Columns, **more: object) -> Poll:
    """A good poll of these quantities: name -> (value, unit)."""
    whole = {**columns, "device.up": (1.0, "1")}
    layout = Layout.of([(name, unit) for name, (_, unit) in whole.items()])
    values = tuple(value for value, _ in whole.values())
    return Poll(device, time, layout, values, **more)  # type: ignore[arg-type]


def three_phase(watts: float, kwh: float) -> Columns:
    """What a three-phase meter says while it draws so many watts."""
    volts = (229.8, 230.4, 231.2)
    shares = (0.5, 0.2, 0.3)
    return {
        "active_power": (watts, "W"),
        **{f"active_power.l{i + 1}": (watts * s, "W") for i, s in enumerate(shares)},
        **{f"voltage.l{i + 1}": (v, "V") for i, v in enumerate(volts)},
        **{
            f"current.l{i + 1}": (round(abs(watts) * s / v, 3), "A")
            for i, (s, v) in enumerate(zip(shares, volts, strict=True))
        },
        "frequency": (50.02, "Hz"),
        "power_factor": (0.97, "1"),
        "active_energy.import": (kwh * 1000, "Wh"),
        "active_energy.export": (0.0, "Wh"),
    }


def one_phase(watts: float, kwh: float) -> Columns:
    return {
        "active_power": (watts, "W"),
        "voltage.l1": (230.1, "V"),
        "current.l1": (watts / 230.1, "A"),
        "active_energy.import": (kwh * 1000, "Wh"),
    }


def ups(*, on_battery: bool = False) -> Columns:
    return {
        "input.voltage": (0.0 if on_battery else 229.5, "V"),
        "output.voltage": (230.0, "V"),
        "ups.load": (37.0, "%"),
        "input.frequency": (50.0, "Hz"),
        "battery.voltage": (25.3 if on_battery else 27.4, "V"),
        "battery.charge": (83.0 if on_battery else 100.0, "%"),
        "battery.runtime": (1140.0, "s"),
        "ups.temperature": (31.0, "°C"),
        "ups.status.ol": (float(not on_battery), "1"),
        "ups.status.ob": (float(on_battery), "1"),
        "ups.status.lb": (0.0, "1"),
    }


def alert(now: int, **more: object) -> Alert:
    whole: dict[str, object] = {
        "id": "on-battery/rack-ups",
        "rule": "on-battery",
        "device": "rack-ups",
        "quantity": "ups.status.ob",
        "state": AlertState.FIRING,
        "severity": "critical",
        "value": 1.0,
        "unit": "1",
        "since": now - 95_000,
        "updated": now - 1000,
    }
    return Alert(**{**whole, **more})  # type: ignore[arg-type]


def home(now: int = NOW, *, outage: bool = False) -> FakeSite:
    """Six devices: four meters that answer, a UPS, and a meter that does not."""
    site = FakeSite(started=now - 3_600_000)
    site.add(
        FakeDevice("main", labels={"building": "A"}),
        good(
            "main",
            now - 2000,
            three_phase(3412.5, 18234.61),
            info={"info.model": "SDM630", "info.serial_number": "1234"},
            took=0.021,
        ),
    )
    site.add(
        FakeDevice("heat-pump", link="tcp://192.0.2.8:502"),
        good("heat-pump", now - 1000, three_phase(1287.0, 5120.4), took=0.034),
    )
    site.add(FakeDevice("solar"), good("solar", now - 3000, three_phase(-2140.0, 12.9)))
    site.add(
        FakeDevice("kitchen", model="eastron_sdm120"),
        good(
            "kitchen",
            now - 40_000,
            {**one_phase(640.0, 812.33), "power_factor": (None, "1")},
            doubts={4: QualityFlag(Quality.INVALID, "the meter says: not available")},
        ),
    )
    site.add(
        FakeDevice("garage", model="peacefair_pzem-016", link="serial:///dev/ttyUSB0?baud=9600"),
        good("garage", now - 200_000, one_phase(55.0, 64.2)),
        failed("garage", now - 120_000, Fault("timeout", "no answer from unit 3 within 1 s")),
    )
    site.add(
        FakeDevice("rack-ups", "megatec", None, "serial:///dev/ttyUSB1?baud=2400", 2.0),
        good("rack-ups", now - 1000, ups(on_battery=outage), took=0.11),
    )
    site.counters = {"tcp://192.0.2.7:502": {"exchanges": 812, "dropped_wrong_unit": 2}}
    if outage:
        gone = alert(
            now, id="gone/garage", rule="gone", device="garage", quantity="device.up", value=0.0
        )
        site.firing = [alert(now), gone]
    return site


def busy(now: int = NOW) -> FakeSite:
    """Ten devices with four phases' worth of quantities: 40 power series and more."""
    site = FakeSite(started=now)
    for number in range(10):
        name = f"meter-{number}"
        site.add(FakeDevice(name), good(name, now, one_phase(100.0 * number, 10.0)))
    return site


async def _live(site: FakeSite, outage: bool, frozen: bool) -> None:
    """Keep the made-up site alive: new polls each second."""
    clock = SystemClock()
    tick = 0
    while True:
        await asyncio.sleep(1.0)
        now, tick = clock.now_ms(), tick + 1
        if frozen:
            continue
        wave = math.sin(tick / 7) * 60
        site.take(good("main", now, three_phase(3412.5 + wave, 18234.61 + tick / 900)))
        site.take(good("heat-pump", now, three_phase(1287 + wave / 9, 5120.4)))
        site.take(good("solar", now, three_phase(-2140 - wave, 12.9)))
        site.take(good("rack-ups", now, ups(on_battery=outage)))


def _wave(device: str, ms: int) -> float | None:
    """History with a hole, so that one can see that it stays one."""
    minutes = ms / 60_000
    if device == "heat-pump" and 3 < minutes % 15 < 5:
        return None
    if device == "garage" and minutes % 15 > 9:
        return None
    bases = {"main": 3000.0, "heat-pump": 1200.0, "solar": -2100.0, "kitchen": 600.0}
    base = bases.get(device, 40.0)
    steps = 0.13 if int(minutes / 4) % 2 else 0
    return base * (1 + steps + 0.04 * math.sin(minutes * 1.7) + 0.01 * math.sin(minutes * 9))


async def _main() -> None:
    from meterd.api.app import serve

    parser = argparse.ArgumentParser(description="Serve a made-up site")
    parser.add_argument("--port", type=int, default=8421)
    parser.add_argument("--outage", action="store_true")
    parser.add_argument("--frozen", action="store_true", help="no device is polled again")
    parser.add_argument("--devices", type=int, default=6)
    options = parser.parse_args()
    site = home(SystemClock().now_ms(), outage=options.outage)
    site.known = site.known[-options.devices :]
    site.reader.points = _wave
    running = await serve(site, "127.0.0.1", options.port)
    print(running.url, flush=True)
    await _live(site, options.outage, options.frozen)


if __name__ == "__main__":
    asyncio.run(_main())
