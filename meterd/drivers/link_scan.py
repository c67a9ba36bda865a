"""Scan of one link: which units answer, with which line settings, and which models they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from meterd.drivers.identify import Guess, Registers, Request, identify, probe_requests
from meterd.drivers.megatec import MegatecOptions, MegatecUps
from meterd.drivers.registers import RegisterMap
from meterd.errors import DeviceError, LinkError
from meterd.model.clock import Clock
from meterd.wire import open_link
from meterd.wire.address import Address
from meterd.wire.link import Times
from meterd.wire.modbus import ModbusClient
from meterd.wire.unit_scan import LINK_DOWN_CODES, UnitScan

# Every unit answers one of these, if only with an exception.
_PROBES: tuple[Request, ...] = ((4, 0, 2), (3, 0, 2))
# Bytes of a request and a reply with two registers on a serial line.
_EXCHANGE_BYTES = 8 + 9
# Seconds: a meter's turnaround at most, and an exchange over a network with a serial gateway.
TURNAROUND_S = 0.2
NETWORK_S = 0.3
# Timeout of a unit whose latency is known: this factor of it, within these limits in seconds.
_TIMEOUT_LATENCIES = 5
_TIMEOUT_MIN_S, _TIMEOUT_MAX_S = 0.1, 1.0
# If at least so many units were asked and all answer, one device ignores the unit id.
_ALL_UNITS_MIN = 8
# Attempts to read a UPS: the first one may meet bytes that the search for meters left on the line.
_UPS_ATTEMPTS = 2


class ScanProgress(Protocol):
    """Progress display of a scan."""

    def begin(self, what: str, steps: int) -> None:
        """A new stage with this number of steps; 0 if unknown."""

    def step(self) -> None:
        """A step is done."""


@dataclass(slots=True)
class FoundUnit:
    """A unit that answers: the link's settings, its latency, and guesses of its model.

    `unit` is None for a UPS, `latency` (s) where the answer came too late to be measured.
    """

    address: Address
    unit: int | None
    latency: float | None
    guesses: list[Guess] = field(default_factory=list)
    note: str = ""


class LinkScan:
    """Looks for units with each of `ways`, the settings of a link; `found` grows meanwhile."""

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
        requests = [request for register_map in only for request in probe_requests(register_map)]
        self._requests = tuple(dict.fromkeys(requests)) or _PROBES

    async def find(self) -> None:
        """Raises LinkError where the link cannot be opened."""
        for settings in self._ways:
            answered = await self._sweep(settings)
            # A network device has one framing; a bus may have units of several baud rates.
            if answered and settings.scheme != "serial":
                break
        if not self.found and self._ways[0].scheme == "serial":
            await self._find_ups(self._ways[0])

    async def identify(self, maps: Sequence[RegisterMap]) -> None:
        """Guess the register map of each found unit."""
        for unit_ in self.found:
            if unit_.unit is not None:
                self._progress.begin(f"unit {unit_.unit}: which map?", 0)
                unit_.guesses = await self._identify(unit_, maps)

    async def _sweep(self, settings: Address) -> bool:
        """Whether units, or a gateway in place of missing ones, answer with these settings."""
        timeout = self._timeout or _timeout(settings)
        link = open_link(settings, defaults={}, times=Times(timeout=timeout))
        scan = UnitScan(link)
        self._progress.begin(_settings_text(settings), len(self._units))
        before = len(self.found)
        try:
            for unit in self._units:
                latency = await self._answers(scan, unit, timeout)
                if latency is not None:
                    self.found.append(FoundUnit(settings, unit, latency))
                self._progress.step()
        finally:
            await link.close()
            self._add_late(settings, before, scan.late)
        return scan.gateway or len(self.found) > before

    async def _answers(self, scan: UnitScan, unit: int, timeout: float) -> float | None:
        for request in self._requests:
            started = self._clock.monotonic()
            if await scan.answers(unit, request, timeout):
                return self._clock.monotonic() - started
        return None

    def _add_late(self, settings: Address, before: int, late: set[int]) -> None:
        """Add units with late replies; of a device that answers for every unit, keep the first."""
        new = self.found[before:]
        new_units = {each.unit for each in new}
        if settings.scheme != "serial" and len(new) == len(self._units) >= _ALL_UNITS_MIN:
            new[0].note = "answers to every unit: one device"
            self.found[before:] = new[:1]
            return
        note = "answers late: raise --timeout"
        asked_units = set(self._units)
        self.found += [
            FoundUnit(settings, unit, None, note=note)
            for unit in sorted(late & asked_units - new_units)
        ]

    async def _identify(self, of_unit: FoundUnit, maps: Sequence[RegisterMap]) -> list[Guess]:
        link = open_link(of_unit.address, defaults={}, times=Times(timeout=_unit_timeout(of_unit)))
        assert of_unit.unit is not None  # noqa: S101 (UPSes are known already)
        client = ModbusClient(link, of_unit.unit)

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

    async def _find_ups(self, settings: Address) -> None:
        """Query the status of a UPS (Q1, QS); sends nothing that makes it act."""
        options = {
            k: v for k, v in settings.options.items() if k not in ("baud", "parity", "framer")
        }
        address = replace(settings, options=options)
        link = open_link(address, defaults=MegatecUps.LINK_DEFAULTS)
        ups = MegatecUps(link, MegatecOptions(ratings=False, vendor=False))
        self._progress.begin("a UPS at 2400 baud?", _UPS_ATTEMPTS)
        try:
            for _ in range(_UPS_ATTEMPTS):
                started = self._clock.monotonic()
                if voltages := await _status(ups):
                    latency = self._clock.monotonic() - started
                    guess = Guess("megatec", "likely", 10.0, voltages)
                    self.found.append(FoundUnit(address, None, latency, [guess]))
                    return
                self._progress.step()
        finally:
            await link.close()


async def _status(ups: MegatecUps) -> tuple[str, ...]:
    """The voltages that a UPS reports, as texts; empty if there is no UPS."""
    try:
        readings = await ups.read()
    except (LinkError, DeviceError) as error:
        if error.code in LINK_DOWN_CODES:
            raise
        return ()
    volts = (
        reading for reading in readings if reading.unit == "V" and isinstance(reading.value, float)
    )
    return tuple(f"{reading.quantity} {reading.value:g} V" for reading in volts)


def _timeout(settings: Address) -> float:
    """Transmission time of an exchange with these settings plus a meter's turnaround, in s."""
    if settings.scheme != "serial":
        return NETWORK_S
    options = settings.settled({})
    bits = 10 + (options["parity"] != "N") + (options["stop"] == "2")
    return _EXCHANGE_BYTES * bits / int(options["baud"]) + TURNAROUND_S


def _unit_timeout(unit: FoundUnit) -> float:
    if unit.latency is None:
        return _TIMEOUT_MAX_S
    return min(max(_TIMEOUT_LATENCIES * unit.latency, _TIMEOUT_MIN_S), _TIMEOUT_MAX_S)


def _settings_text(settings: Address) -> str:
    options = settings.settled({})
    if settings.scheme == "serial":
        return f"{options['baud']} {options['bytes']}{options['parity']}{options['stop']}"
    return f"{settings.key} framer {options['framer']}"


def ways(
    address: Address, bauds: Sequence[str] = (), parities: Sequence[str] = ()
) -> Iterator[Address]:
    """The settings to try: framings on a network, baud rates and parities on a serial line."""
    if address.scheme != "serial":
        framers = [address.options["framer"]] if "framer" in address.options else ["socket", "rtu"]
        for framer in framers:
            yield replace(address, options={**address.options, "framer": framer})
        return
    for baud in bauds or [""]:
        for parity in parities or [""]:
            chosen = {"baud": baud, "parity": parity}
            options = {name: value for name, value in chosen.items() if value}
            yield replace(address, options={**address.options, **options})
