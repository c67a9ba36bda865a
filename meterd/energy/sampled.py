"""Quarter hours of a device that has no counter, from its power."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from meterd.energy.power import AROUND, added_up, integrate
from meterd.energy.quarter import COUNTER, INTEGRATED, Found, Quarter
from meterd.energy.tally import EnergyDirection
from meterd.model.quantity import PHASES

Sampled: TypeAlias = Sequence[tuple[int, float | None]]

Read: TypeAlias = Callable[[str, str, int, int], Awaitable[Sampled | None]]
"""Device, quantity, start and end (Unix ms) -> its samples of start <= time < end, and some before
and after them, where there are any; None where there is no such series."""

BESIDE = AROUND + 1
"""Samples before and after a window: they tell what steps are usual, and reach to its ends."""

POWER = "active_power"
_ENERGIES = {
    "active_energy.import": EnergyDirection.IMPORT,
    "active_energy.export": EnergyDirection.EXPORT,
}


async def quarters(
    read: Read, device: str, quantity: str, start: int, end: int, *, interval: int
) -> Found:
    """What the quantity rose by in each quarter hour of start <= t < end that is known.

    `interval` in ms is usual where the samples do not tell it.
    """
    energy, phase = _split(quantity)
    if (way := _ENERGIES.get(energy)) is None:
        return (), COUNTER
    power = await _power(read, device, phase, start, end)
    return _within(integrate(power, interval, way), start, end), INTEGRATED


def _split(quantity: str) -> tuple[str, str]:
    """The energy, and the phase with its dot where there is one."""
    energy, _, last = quantity.rpartition(".")
    return (energy, f".{last}") if last in PHASES else (quantity, "")


async def _power(read: Read, device: str, phase: str, start: int, end: int) -> Sampled:
    whole = await read(device, POWER + phase, start, end)
    if whole is not None or phase:
        return whole or ()
    phases = [await read(device, f"{POWER}.{one}", start, end) for one in PHASES]
    return added_up([one for one in phases if one is not None])


def _within(found: Sequence[Quarter], start: int, end: int) -> list[Quarter]:
    return [one for one in found if start <= one.start < end]
