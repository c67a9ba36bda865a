"""Quarter hours of energy of a device without a counter, integrated from its power series."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from meterd.energy.power import NEIGHBOUR_STEPS, integrate, sum_phases
from meterd.energy.quarter import COUNTER, INTEGRATED, Quarter, QuarterSeries
from meterd.energy.tally import EnergyDirection
from meterd.model.quantity import PHASES

PowerSamples: TypeAlias = Sequence[tuple[int, float | None]]

Read: TypeAlias = Callable[[str, str, int, int], Awaitable[PowerSamples | None]]
"""(device, quantity, start, end in Unix ms) -> the samples with start <= time < end, with up to
MARGIN_SAMPLES before and after them; None where there is no such series."""

MARGIN_SAMPLES = NEIGHBOUR_STEPS + 1
"""Samples read beyond both ends of a range: for the usual step, and to cover its first and last
quarter hour."""

POWER = "active_power"
_ENERGIES = {
    "active_energy.import": EnergyDirection.IMPORT,
    "active_energy.export": EnergyDirection.EXPORT,
}


async def quarters(
    read: Read, device: str, quantity: str, start: int, end: int, *, interval: int
) -> QuarterSeries:
    """The increases of an energy in the quarter hours of start <= time < end (Unix ms).

    `interval` in ms is the usual step where there are too few samples. Without a power quantity
    for it the result is empty.
    """
    energy, phase = _split(quantity)
    if (direction := _ENERGIES.get(energy)) is None:
        return (), COUNTER
    power = await _power(read, device, phase, start, end)
    return _within(integrate(power, interval, direction), start, end), INTEGRATED


def _split(quantity: str) -> tuple[str, str]:
    """The energy's name, and its phase with the dot, or ""."""
    energy, _, last = quantity.rpartition(".")
    return (energy, f".{last}") if last in PHASES else (quantity, "")


async def _power(read: Read, device: str, phase: str, start: int, end: int) -> PowerSamples:
    total = await read(device, POWER + phase, start, end)
    if total is not None or phase:
        return total or ()
    phases = [await read(device, f"{POWER}.{name}", start, end) for name in PHASES]
    return sum_phases([samples for samples in phases if samples is not None])


def _within(quarters: Sequence[Quarter], start: int, end: int) -> list[Quarter]:
    return [quarter for quarter in quarters if start <= quarter.start < end]
