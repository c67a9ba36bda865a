"""Bus load: the share of a line's time that polling takes, calculated, assumed or measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from meterd.config.link_urls import LINE_KEYS
from meterd.config.settings import DeviceSettings
from meterd.daemon.link_plan import Built, LinkPlan, bare
from meterd.drivers import registry
from meterd.drivers.costs import NETWORK, TURNAROUND, Costs, Learner, line_costs
from meterd.drivers.modbus import ModbusMeter
from meterd.model.driver import Driver, RequestSizes
from meterd.model.duration import spell
from meterd.wire.link import Link

# What most meters on RS-485 speak as they come from their maker, and the fastest that any does.
_USUAL_BAUD = "9600"
_FASTEST_BAUD = "115200"
_USUAL = {"bytes": "8", "parity": "N", "stop": "1"}
# A bus that is to be asked at this interval is left so much room.
_ROOM = 1.1
_LISTED = 5

_Drivers = Sequence[tuple[str, Driver, DeviceSettings]]


class RateSource(StrEnum):
    """How the duration of a poll is known."""

    SAID = "said"
    """The baud rate is in the configuration."""
    ASSUMED = "assumed"
    """There is a serial line behind the gateway, and nobody said how fast it is."""
    NETWORK = "network"
    """There is no serial line that is known of."""
    MEASURED = "measured"
    """The exchanges of this link took so long."""


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """What one device asks of its bus: one poll in reads, bytes and seconds.

    Where `is_known` is false its driver does not tell `traffic()`: these three are 0, and stand
    for nothing.
    """

    name: str
    interval: float
    reads: int
    bytes: int
    seconds: float
    is_known: bool = True

    @property
    def share(self) -> float:
        """Of the bus's time; 1 is all of it."""
        return self.seconds / self.interval


@dataclass(frozen=True, slots=True)
class BusLoad:
    """The load of one link by its devices. `baud` is None where there is no serial line.

    `least` is the share of the bus's time that they would take on the fastest line there is.
    """

    key: str
    ground: RateSource
    baud: int | None
    devices: tuple[DeviceLoad, ...]
    least: float = 0.0

    @property
    def share(self) -> float:
        """Of the bus's time; 1 is all of it, and more cannot be kept."""
        return sum(device.share for device in self.devices)

    @property
    def is_over(self) -> bool:
        """Whether the intervals cannot be kept, by this calculation."""
        return self.share > 1

    @property
    def is_certain(self) -> bool:
        """Whether no line that there may be behind the gateway could keep them."""
        return self.ground is not RateSource.ASSUMED or self.least > 1

    @property
    def shortest(self) -> float:
        """The shortest interval that all devices could have, in seconds."""
        return round(sum(device.seconds for device in self.devices) * _ROOM + 0.05, 1)

    def text(self) -> str:
        """The calculation as a sentence, for an overloaded bus."""
        counted = [device for device in self.devices if device.is_known]
        biggest = sorted(counted, key=lambda device: -device.share)[:_LISTED]
        rest = len(counted) - len(biggest)
        sums = " + ".join(
            f"{one.name} {one.seconds:.3g} s / {spell(one.interval)}" for one in biggest
        )
        more = f" + {rest} more" if rest else ""
        share = f"{self.least * 100:.0f} %"
        even = f", and {share} at {_FASTEST_BAUD}" if self.least > 1 else ""
        how = {
            RateSource.SAID: f" at {self.baud} baud",
            RateSource.ASSUMED: f" at {self.baud} baud, which is assumed{even}",
            RateSource.MEASURED: ", as measured",
        }.get(self.ground, "")
        return f"{self.key}: {sums}{more} makes {self.share * 100:.0f} % of the bus{how}"

    def hint(self) -> str:
        """What to do about it."""
        shorter = f"the shortest interval that all could have is {spell(self.shortest)}"
        if self.ground is not RateSource.ASSUMED:
            return shorter
        return f"{shorter}; say how fast the line behind the gateway is: baud= in the link's URL"


def load_of(built: Built, *, measured: bool = False) -> BusLoad:
    """What polling the devices of a link asks of it.

    `measured`: by what the drivers learned of it, where that is enough to be believed.
    """
    plan, link = built.plan, built.link
    drivers = [(name, bare(driver), settings) for name, driver, settings in built.drivers]
    learned = _learned(drivers) if measured else None
    if learned is not None:
        devices = tuple(_device(each, link, plan, None, learned) for each in drivers)
        return BusLoad(plan.key, RateSource.MEASURED, _baud(link.options), devices)
    line = link.options if "baud" in link.options else _assumed(plan, link, drivers)
    devices = tuple(_device(each, link, plan, line) for each in drivers)
    if line is None:
        return BusLoad(plan.key, RateSource.NETWORK, None, devices)
    if line is link.options:
        return BusLoad(plan.key, RateSource.SAID, _baud(line), devices)
    fastest = {**line, "baud": _FASTEST_BAUD}
    least = sum(_device(each, link, plan, fastest).share for each in drivers)
    return BusLoad(plan.key, RateSource.ASSUMED, _baud(line), devices, least)


def _baud(line: Mapping[str, str]) -> int | None:
    return int(line["baud"]) if "baud" in line else None


def _assumed(plan: LinkPlan, link: Link, drivers: _Drivers) -> Mapping[str, str] | None:
    """The factory settings of the meters' line behind a gateway; None where there is no line.

    Frames of serial lines come from one, and meters that have no Ethernet are on one; where
    several units are asked through one address, it is a gateway's.
    """
    said = []
    has_line = False
    for _, driver, settings in drivers:
        defaults = registry.link_defaults(settings.driver, settings.options)
        if "baud" in defaults:
            said.append({key: defaults[key] for key in LINE_KEYS if key in defaults})
            has_line |= not isinstance(driver, ModbusMeter) or driver.map.tcp is None
    units = {driver.unit for _, driver, _ in drivers if isinstance(driver, ModbusMeter)}
    if link.options["framer"] == "socket" and not has_line and len(units) < 2:
        return None
    return {**_USUAL, **_likeliest(said), **plan.address.options, "framer": link.options["framer"]}


def _likeliest(lines: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """The line settings that most meters of a bus have from the factory: all have to be
    set alike.
    """
    rates = [int(line["baud"]) for line in lines]
    best = max(
        lines, key=lambda line: (rates.count(int(line["baud"])), int(line["baud"])), default={}
    )
    return {"baud": _USUAL_BAUD, **best}


def _learned(drivers: _Drivers) -> Costs | None:
    """What all devices of a link learned of it together; None where that is too little."""
    learners = [driver.learner for _, driver, _ in drivers if isinstance(driver, ModbusMeter)]
    if not learners:
        return None
    joined = Learner.joined(learners)
    return joined.costs() if joined.is_sure else None


def _device(
    member: tuple[str, Driver, DeviceSettings],
    link: Link,
    plan: LinkPlan,
    line: Mapping[str, str] | None,
    learned: Costs | None = None,
) -> DeviceLoad:
    name, driver, settings = member
    gap = plan.times.gap or 0.0
    if isinstance(driver, ModbusMeter):
        costs = learned or (None if line is None else line_costs(link, line))
        report = driver.report(costs)
        taken = report.seconds + gap * report.reads
        return DeviceLoad(name, settings.interval, report.reads, report.bytes, taken)
    reads, size, taken = _traffic(driver, link, gap, line)
    is_known = isinstance(driver, RequestSizes)
    return DeviceLoad(name, settings.interval, reads, size, taken, is_known)


def _traffic(
    driver: Driver, link: Link, gap: float, line: Mapping[str, str] | None
) -> tuple[int, int, float]:
    """Reads, bytes and seconds of one poll, of a driver that tells its traffic."""
    traffic = driver.traffic() if isinstance(driver, RequestSizes) else ()
    sizes = [sent + received for sent, received in traffic]
    network = 0.0 if link.url.startswith("serial:") else NETWORK
    if line is None:
        return len(sizes), sum(sizes), max(network, gap) * len(sizes)
    bits = 1 + int(line["bytes"]) + (line["parity"] != "N") + int(line["stop"])
    pause = max(TURNAROUND, gap) + network
    return len(sizes), sum(sizes), sum(sizes) * bits / int(line["baud"]) + pause * len(sizes)
