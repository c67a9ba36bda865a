"""A store that holds a year of the house, made with the store's own sealing code.

A year through the writer takes ten minutes; the blocks, roll-ups and hours are the same ones.
"""

import asyncio
from array import array
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench import house, phases
from meterd.model.quantity import Kind
from meterd.store import database, hours
from meterd.store.catalog import Catalog
from meterd.store.change import Change
from meterd.store.format.columns import Column, Span
from meterd.store.keys import block_id
from meterd.store.ledger import Ledger
from meterd.store.writer import Writer

DAYS = 365
_A_TIME = 5  # days in one piece of work

Bases = list[float]


def make(path: Path, data: Path, days: int = DAYS) -> None:
    """Writes the store at `path`. Memory: some 300 MB a process."""
    url = f"sqlite:///{path}"
    asyncio.run(_first(url, data, days))
    target = database.find(url)
    catalog = Catalog()
    ledger = Ledger(target, catalog)
    ids = [catalog.series[house.DEVICE, *one].id for one in _columns()]
    with ProcessPoolExecutor(2, initializer=_load, initargs=(data, days)) as pool:
        bases = _bases(list(pool.map(_rises, range(days), chunksize=_A_TIME)))
        piece = partial(_change, ids, catalog)
        for change in pool.map(piece, range(days), bases[:-1], bases[1:], chunksize=_A_TIME):
            ledger.apply(change)
    begin = house.times(0)[0]
    ledger.write_newest([], dict.fromkeys(ids, begin))
    ledger.close()


def _columns() -> Iterator[tuple[str, str]]:
    yield from zip(house.LAYOUT.quantities, house.LAYOUT.units, strict=True)


async def _first(url: str, data: Path, days: int) -> None:
    """The poll after the last day: it makes the series, and counters rise to it."""
    writer = Writer(url, commit=1e9)
    await writer.open()
    day = next(house.lanes(data, 0, 1))
    writer.take(next(house.polls(days, day)))
    await writer.close()


def _bases(rises: list[Bases]) -> list[Bases]:
    found = [[4_100_000.0] * phases.COUNTERS]
    for day in rises:
        found.append([base + rise for base, rise in zip(found[-1], day, strict=True)])
    return found


# In the processes.

_houses: list[house.House] = []


def _load(data: Path, days: int) -> None:
    _houses[:] = [house.House(data, 0, days)]


def _rises(number: int) -> Bases:
    return house.rises(_houses[0].day(number))


def _change(
    ids: list[int], catalog: Catalog, number: int, bases: Bases, following: Bases
) -> Change:
    """What closing one day writes."""
    lanes = house.raised(_houses[0].day(number), bases)
    times = array("q", house.times(number))
    rows = range(len(times))
    columns = sorted(Column(one, rows, lane) for one, lane in zip(ids, lanes, strict=True))
    span, change = Span(1, times, tuple(columns)), Change()
    change.add(block_id(1, times[0]), span)
    first = ids[-phases.COUNTERS]
    for column in span.columns:
        after = None
        if catalog.by_id[column.series].kind is Kind.COUNTER:
            after = times[-1] + house.STEP_MS, following[column.series - first]
        _roll(change, span, column, catalog, after)
    return change


def _roll(
    change: Change, span: Span, column: Column, catalog: Catalog, after: hours.At | None
) -> None:
    day = span.times[0] // house.DAY_MS
    found = hours.quarters(span, column, catalog, None, after)
    row = hours.rollup_row(column.series, day, found, span.times, column.values)
    if row is not None:
        change.rollups.append(row)
    kept = {number: one for number, one in found.items() if number // 96 == day}
    change.hours.update((one["id"], one) for one in hours.plain(column.series, kept))
