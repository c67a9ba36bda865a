"""A bus under faults: units whose registers tell who they are, and a count of what went wrong."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meterd.daemon.link_plan import Letting
from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.clock import SystemClock
from meterd.model.driver import Driver
from meterd.model.sample import Poll, Reading
from meterd.poll.bus import Bus
from meterd.poll.cycle import PollTarget
from meterd.poll.normalise import Normaliser
from meterd.sim.faults import parse_faults
from meterd.sim.frames import Adu
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import Bank, RefusalRule, RefusedRequest
from meterd.sim.transports import Framer, ServerLine
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times

WIRES = ("socket", "rtu", "pty")
INTERVAL = 0.3
TIMEOUT = 0.06
# What a turn may be late by the turns of others in the same slot, in seconds.
SLACK = 0.05
VICTIM = 1

# Two blocks far apart, so that a poll is two requests and a reply to one may meet the other.
_BLOCKS = {"a": 0, "b": 100}
_ROW = "  x.{block}.{what}: {{function: 3, address: {address}, type: u16}}\n"
_PLACES = {"number": 0, "unit": 1, "place": 2, "again": 7}


def write_map(folder: Path) -> str:
    """The register map of a TellingBank; its path."""
    rows = "".join(
        _ROW.format(block=block, what=what, address=start + place)
        for block, start in _BLOCKS.items()
        for what, place in _PLACES.items()
    )
    file = folder / "telling.yaml"
    file.write_text(f"limits: {{max_registers: 30, bridge: 8}}\nrows:\n{rows}")
    return str(file)


class Numbers:
    """Numbers the answers of all units."""

    last = 0

    def next(self) -> int:
        self.last += 1
        return self.last


class TellingBank:
    """Each register tells the number of its answer, its unit or its own address."""

    def __init__(self, unit: int, numbers: Numbers) -> None:
        self.unit = unit
        self.reads = 0
        self.refused: Collection[int] = ()
        self._numbers = numbers

    def read(self, function: int, address: int, count: int) -> list[int]:
        self.reads += 1
        if any(address <= register < address + count for register in self.refused):
            raise RefusalRule(RefusedRequest.ADDRESS)
        number = self._numbers.next()
        told = (number, self.unit, None, number)
        found = range(address, address + count)
        return [place if told[place % 4] is None else told[place % 4] or 0 for place in found]


class PickyServer(ModbusServer):
    """Spoils only what it says for `victims`."""

    victims: Collection[int] = (VICTIM,)

    def received(self, line: ServerLine, request: Adu) -> None:
        if request.unit in self.victims:
            super().received(line, request)
            return
        self.requests += 1
        if (reply := self.answer(request)) is not None:
            line.send(line.wrap(reply))


@dataclass
class Watched:
    """A driver under observation: when each poll began, and every value that was wrong."""

    driver: Driver
    unit: int
    numbers: Numbers
    starts: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def read(self) -> Sequence[Reading]:
        self.starts.append(asyncio.get_running_loop().time())
        before = self.numbers.last
        readings = await self.driver.read()
        for reading in readings:
            if reading.value is not None and not self._fits(reading, before):
                self.wrong.append(f"unit {self.unit}: {reading} after answer {before}")
        return readings

    def _fits(self, reading: Reading, before: int) -> bool:
        _, block, what = reading.quantity.split(".")
        if what in ("number", "again"):
            return isinstance(reading.value, int | float) and reading.value > before
        return reading.value == (self.unit if what == "unit" else _BLOCKS[block] + _PLACES[what])


@dataclass
class Line:
    """One link with its units on one bus, what it gave, and the server behind it."""

    name: str
    server: ModbusServer
    link: Link
    bus: Bus
    watched: dict[int, Watched]
    polls: list[Poll] = field(default_factory=list)

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)

    def of(self, unit: int) -> list[Poll]:
        return [poll for poll in self.polls if poll.device == f"{self.name}-{unit}"]

    @property
    def wrong(self) -> list[str]:
        return [text for watched in self.watched.values() for text in watched.wrong]

    def spoil(self, text: str) -> None:
        """Misbehave like this from now on; nothing ends it."""
        self.server.faults = parse_faults(text)

    async def polled(self, unit: int, times: int) -> list[Poll]:
        """The next polls of a unit."""
        known = len(self.of(unit))
        async with asyncio.timeout(60):
            while len(self.of(unit)) < known + times:
                await asyncio.sleep(0.005)
        return self.of(unit)[known:]

    async def until(self, unit: int, *, up: bool) -> float:
        """Seconds until a poll of the unit from now on ends like that."""
        began, known = asyncio.get_running_loop().time(), len(self.of(unit))
        async with asyncio.timeout(60):
            while not any(poll.up is up for poll in self.of(unit)[known:]):
                await asyncio.sleep(0.005)
        return asyncio.get_running_loop().time() - began

    def harm(
        self, units: Collection[int], *, interval: float = INTERVAL, late: float = SLACK
    ) -> list[str]:
        """What these felt of the others: polls that failed, and turns that came late."""
        found = []
        for unit in units:
            faults = [poll.fault for poll in self.of(unit) if poll.fault is not None]
            starts = self.watched[unit].starts
            longest = max(b - a for a, b in itertools.pairwise(starts))
            if faults:
                found.append(f"unit {unit} failed too: {faults[0].text}")
            if longest > interval + late:
                found.append(f"unit {unit} was left alone for {longest:.2f} s")
        return found


@contextlib.asynccontextmanager
async def line(
    folder: Path,
    wire: str,
    *,
    name: str = "meter",
    units: Sequence[int] = (VICTIM, 2, 3, 4),
    kind: type[ModbusServer] = PickyServer,
    letting: bool = False,
    interval: float = INTERVAL,
    times: Times | None = None,
    url: str = "",
) -> AsyncIterator[Line]:
    """A bus that polls, over a link to a server (or to `url`, where the test has its own)."""
    numbers = Numbers()
    banks: dict[int, Bank] = {unit: TellingBank(unit, numbers) for unit in units}
    framer: Framer = "socket" if wire == "socket" else "rtu"
    server = kind(banks, framer=framer)
    if wire == "pty":
        server.start_pty(folder / f"port-{name}")
    else:
        await server.start_tcp()
    address = parse(url or server.url)
    link = open_link(address, defaults={"baud": "115200"}, times=times or Times(timeout=TIMEOUT))
    options = ModbusOptions(map=write_map(folder))

    def driver(unit: int) -> Driver:
        meter = ModbusMeter(link, options.model_copy(update={"unit": unit}), interval=interval)
        return Letting(meter, link) if letting else meter

    watched = {unit: Watched(driver(unit), unit, numbers) for unit in units}
    polls: list[Poll] = []
    devices = [
        PollTarget(f"{name}-{unit}", watch, interval, Normaliser(f"{name}-{unit}"))
        for unit, watch in watched.items()
    ]
    sinks: list[Line] = []
    bus = Bus(link.url, devices, sinks, SystemClock())
    found = Line(name, server, link, bus, watched, polls)
    sinks.append(found)
    async with polling(bus):
        yield found
    await link.close()
    await server.stop()


@contextlib.asynccontextmanager
async def polling(bus: Bus) -> AsyncIterator[None]:
    """The bus at work; what it raised fails the test."""
    task = asyncio.create_task(bus.run())
    try:
        yield
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError), ended
