"""Energy queries: the quarter hours of a device from the store, by its counters or its power."""

import asyncio
from collections.abc import Callable, Iterator

from meterd.energy.quarter import COUNTER, QUARTER, Quarter, QuarterSeries
from meterd.energy.sampled import MARGIN_SAMPLES, PowerSamples, quarters
from meterd.energy.zone_clock import DAY
from meterd.model.quantity import GUARDED, describe
from meterd.store.blocks.rollup import QuarterRollup as Rolled
from meterd.store.blocks.rollup import Quarters
from meterd.store.reader import Reader

# The samples before and after a stretch of power are looked for this near to it, in ms: those
# of each hour tell that they are, too.
_NEAR = 4 * 3_600_000
# How often a device was polled that is configured no more, in seconds, where its samples do not
# tell it.
DEFAULT_INTERVAL = 10.0


class EnergyQueries:
    """What devices consumed, as a store knows it."""

    def __init__(self, reader: Callable[[], Reader], interval: Callable[[str], float]) -> None:
        """`interval`: from a device to its polling interval in seconds."""
        self._reader = reader
        self._interval = interval

    async def quarters(self, device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        """The known quarter hours of start <= t < end (Unix ms), and the method.

        Raises StoreError.
        """
        counted = await asyncio.to_thread(self._counted, device, quantity, start, end)
        if counted is not None:
            return counted, COUNTER
        interval = round(self._interval(device) * 1000)
        collected: list[Quarter] = []
        method = COUNTER
        # By the day: a year of power is more than anybody's memory should hold at once.
        for first in range(start, end, DAY):
            last = min(end, first + DAY)
            some, method = await quarters(
                self._power, device, quantity, first, last, interval=interval
            )
            collected += some
        return collected, method

    def _counted(self, device: str, quantity: str, start: int, end: int) -> list[Quarter] | None:
        """From the guarded counter, and from the register for the time before there was one.

        That is what was imported from another system. None where the device has neither.
        """
        described = describe(GUARDED + quantity)
        if described is None:
            return None
        reader = self._reader()
        guarded, register = (
            (device, name, described.unit) for name in (GUARDED + quantity, quantity)
        )
        if not (reader.has(guarded) or reader.has(register)):
            return None
        totals = reader.quarters(guarded, start, end)
        begun = min(totals, default=end // QUARTER)
        if begun in totals and totals[begun].covered < QUARTER:
            # The register may tell of all of it.
            begun += 1
        earlier = {}
        if reader.has(register):
            earlier = reader.quarters(register, start, min(end, begun * QUARTER))
        return [
            Quarter(number * QUARTER, quarter.increase, quarter.estimated, quarter.covered)
            for number, quarter in _best(earlier, totals)
            if quarter.increase is not None and quarter.covered > 0
        ]

    async def _power(self, device: str, quantity: str, start: int, end: int) -> PowerSamples | None:
        described = describe(quantity)
        name = device, quantity, described.unit if described else "1"
        reader = self._reader()
        if described is None or not reader.has(name):
            return None
        columns = reader.columns
        (track,) = await asyncio.to_thread(columns, [name], start - _NEAR, end + _NEAR)
        low, high = track.times.searchsorted((start, end))
        around = slice(max(0, low - MARGIN_SAMPLES), high + MARGIN_SAMPLES)
        values = [None if value != value else value for value in track.values[around].tolist()]
        return list(zip(track.times[around].tolist(), values, strict=True))


def _best(earlier: Quarters, totals: Quarters) -> Iterator[tuple[int, Rolled]]:
    """Each quarter hour from the source that covers more of it; `totals` where both cover
    as much.
    """
    for number, quarter in sorted({**earlier, **totals}.items()):
        other = earlier.get(number, quarter)
        yield number, other if other.covered > quarter.covered else quarter
