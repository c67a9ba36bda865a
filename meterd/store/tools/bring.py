"""Rows of an import on their way into the store: late polls, sealed at once."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice

from meterd.model.sample import Doubt, Layout, Poll, Quality
from meterd.store.tools.imports import Row
from meterd.store.writer import Writer

_BATCH = 20_000  # rows that are in memory at a time
_SEAL = 400_000  # samples between two times of sealing


async def bring(writer: Writer, rows: Iterable[Row], note: Callable[[int], None]) -> int:
    """Takes rows as late polls and seals them; how many samples. The last of a time wins.

    `note` is called with how many more there are. Raises StoreError.
    """
    each, count, waiting = iter(rows), 0, 0
    while some := list(islice(each, _BATCH)):
        for poll in polls(some):
            writer.take(poll)
        await writer.flush()
        count, waiting = count + len(some), waiting + len(some)
        note(len(some))
        if waiting >= _SEAL:
            await writer.settle()
            waiting = 0
    await writer.settle()
    return count


def polls(rows: Iterable[Row]) -> Iterator[Poll]:
    """Samples of one device and time become one poll."""
    cells: dict[tuple[str, int], dict[tuple[str, str], Row]] = {}
    for row in rows:
        cells.setdefault((row.device, row.time), {})[row.quantity, row.unit] = row
    for (device, time), columns in sorted(cells.items()):
        layout = _layout(tuple(sorted(columns)))
        found = [columns[column] for column in sorted(columns)]
        doubts = {
            place: Doubt(row.quality, row.reason)
            for place, row in enumerate(found)
            if row.quality is not Quality.GOOD or row.reason
        }
        yield Poll(device, time, layout, tuple(row.value for row in found), doubts)


@lru_cache(1024)
def _layout(columns: tuple[tuple[str, str], ...]) -> Layout:
    return Layout.of(columns)
