"""A survey of one link: which units answer on it, with which settings, and what they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from meterd.drivers.identify import Guess, Registers, Request, identify, telling
from meterd.drivers.megatec import MegatecOptions, MegatecUps
from meterd.drivers.registers import RegisterMap
from meterd.errors import DeviceError, LinkError
from meterd.model.clock import Clock
from meterd.wire import open_link
from meterd.wire.address import Address
from meterd.wire.link import Times
from meterd.wire.modbus import ModbusClient
from meterd.wire.unit_scan import LINK_DOWN_CODES, UnitScan

# Any unit answers one of these, if only with a no.
_ANYBODY: tuple[Request, ...] = ((4, 0, 2), (3, 0, 2))
# A request and a reply of two registers on a serial line, in bytes.
_BYTES = 8 + 9
# How long a meter may think, and what a network with a serial gateway behind it takes; seconds.
TURNAROUND = 0.2
NETWORK = 0.3
# Of a unit whose latency is known: the timeout is this many latencies, within these seconds.
_PATIENCE = 5
_SHORTEST, _LONGEST = 0.1, 1.0
# If so many units all answer, there is one device that does not look at the unit.
_ALL = 8
# Attempts to read a UPS: the first one meets what the search for meters left on the line.
_UPS_ATTEMPTS = 2


class ScanProgress(Protocol):
    """Who shows how far it is."""

    def begin(self, what: str, steps: int) -> None:
        """A new stage of so many steps; 0 where nobody knows."""

    def step(self) -> None:
        """One step further."""


@dataclass(slots=True)
class FoundUnit:
    """One unit that answers: the link's settings, its latency, and what it may be.

    `unit` is None for a UPS, `latency` (s) where the answer came too late to be measured.
    """

    address: Address
    unit: int | None
    latency: float | None
    guesses: list[Guess] = field(default_factory=list)
    note: str = ""


class LinkScan:
    """Looks for units with each of `ways` to speak on a link; `found` grows while it does."""

    def __init__(
        self,
        ways: Sequence[Address],
        units: Sequence[int],
        clock: Clock,
        progress: ScanProgress,
        *,
        timeout: float | None = None,
        only: Sequence[RegisterMap] = (),
    ) -> None:
        self.found: list[FoundUnit] = []
        self._ways = ways
        self._units = units
        self._clock = clock
        self._progress = progress
        self._timeout = timeout
        wanted = [request for one in only for request in telling(one)]
        self._requests = tuple(dict.fromkeys(wanted)) or _ANYBODY

    async def find(self) -> None:
        """Raises LinkError where the link cannot be opened."""
        for way in self._ways:
            there = await self._sweep(way)
            # A network device speaks one kind of frames; a bus may hold several speeds.
            if there and way.scheme != "serial":
                break
        if not self.found and self._ways[0].scheme == "serial":
            await self._find_ups(self._ways[0])

    async def identify(self, maps: Sequence[RegisterMap]) -> None:
        """Guess the register map of each unit that was found."""
        for found in self.found:
            if found.unit is not None:
                self._progress.begin(f"unit {found.unit}: which map?", 0)
                found.guesses = await self._identify(found, maps)

    async def _sweep(self, way: Address) -> bool:
        """Whether units, or a gateway for units that are not there, speak this way."""
        timeout = self._timeout or _timeout(way)
        link = open_link(way, defaults={}, times=Times(timeout=timeout))
        sweep = UnitScan(link)
        self._progress.begin(_words(way), len(self._units))
        before = len(self.found)
        try:
            for unit in self._units:
                latency = await self._answers(sweep, unit, timeout)
                if latency is not None:
                    self.found.append(FoundUnit(way, unit, latency))
                self._progress.step()
        finally:
            await link.close()
            self._tidy(way, before, sweep.late)
        return sweep.gateway or len(self.found) > before

    async def _answers(self, sweep: UnitScan, unit: int, timeout: float) -> float | None:
        for request in self._requests:
            started = self._clock.monotonic()
            if await sweep.answers(unit, request, timeout):
                return self._clock.monotonic() - started
        return None

    def _tidy(self, way: Address, before: int, late: set[int]) -> None:
        """Add who was heard too late; of a device that answers to any unit, keep the first."""
        mine = self.found[before:]
        known = {found.unit for found in mine}
        if way.scheme != "serial" and len(mine) == len(self._units) >= _ALL:
            mine[0].note = "answers to every unit: one device"
            self.found[before:] = mine[:1]
            return
        note = "answers late: raise --timeout"
        asked = set(self._units)
        self.found += [
            FoundUnit(way, unit, None, note=note) for unit in sorted(late & asked - known)
        ]

    async def _identify(self, found: FoundUnit, maps: Sequence[RegisterMap]) -> list[Guess]:
        link = open_link(found.address, defaults={}, times=Times(timeout=_patience(found)))
        assert found.unit is not None  # noqa: S101 (UPSes are known already)
        client = ModbusClient(link, found.unit)

        async def read(function: int, address: int, count: int) -> bytes | None:
            self._progress.step()
            try:
                return await client.read(function, address, count)
            except DeviceError:
                return None
            except LinkError as error:
                if error.code in LINK_DOWN_CODES:
                    raise
                raise TimeoutError from error

        try:
            return await identify(Registers(read), maps)
        finally:
            await link.close()

    async def _find_ups(self, way: Address) -> None:
        """Only asks for the status (Q1, QS): nothing that makes a UPS act."""
        options = {k: v for k, v in way.options.items() if k not in ("baud", "parity", "framer")}
        address = replace(way, options=options)
        link = open_link(address, defaults=MegatecUps.LINK_DEFAULTS)
        ups = MegatecUps(link, MegatecOptions(ratings=False, vendor=False))
        self._progress.begin("a UPS at 2400 baud?", _UPS_ATTEMPTS)
        try:
            for _ in range(_UPS_ATTEMPTS):
                started = self._clock.monotonic()
                if seen := await _status(ups):
                    latency = self._clock.monotonic() - started
                    guess = Guess("megatec", "likely", 10.0, seen)
                    self.found.append(FoundUnit(address, None, latency, [guess]))
                    return
                self._progress.step()
        finally:
            await link.close()


async def _status(ups: MegatecUps) -> tuple[str, ...]:
    """What a UPS says of its voltages; empty if there is none."""
    try:
        readings = await ups.read()
    except (LinkError, DeviceError) as error:
        if error.code in LINK_DOWN_CODES:
            raise
        return ()
    volts = (one for one in readings if one.unit == "V" and isinstance(one.value, float))
    return tuple(f"{one.quantity} {one.value:g} V" for one in volts)


def _timeout(way: Address) -> float:
    """What the bytes take at this speed, and a meter's turn-around."""
    if way.scheme != "serial":
        return NETWORK
    options = way.settled({})
    bits = 10 + (options["parity"] != "N") + (options["stop"] == "2")
    return _BYTES * bits / int(options["baud"]) + TURNAROUND


def _patience(found: FoundUnit) -> float:
    if found.latency is None:
        return _LONGEST
    return min(max(_PATIENCE * found.latency, _SHORTEST), _LONGEST)


def _words(way: Address) -> str:
    options = way.settled({})
    if way.scheme == "serial":
        return f"{options['baud']} {options['bytes']}{options['parity']}{options['stop']}"
    return f"{way.key} framer {options['framer']}"


def ways(
    address: Address, bauds: Sequence[str] = (), parities: Sequence[str] = ()
) -> Iterator[Address]:
    """The settings to try: frames on a network, speeds and parities on a serial line."""
    if address.scheme != "serial":
        framers = [address.options["framer"]] if "framer" in address.options else ["socket", "rtu"]
        for framer in framers:
            yield replace(address, options={**address.options, "framer": framer})
        return
    for baud in bauds or [""]:
        for parity in parities or [""]:
            chosen = {"baud": baud, "parity": parity}
            said = {name: value for name, value in chosen.items() if value}
            yield replace(address, options={**address.options, **said})
