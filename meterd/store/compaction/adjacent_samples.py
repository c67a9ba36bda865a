"""The samples next to a UTC day, before and after it: counters are interpolated to them.

Of days that are closed the roll-ups know them; of the others, the blocks.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from meterd.model.quantity import Kind
from meterd.store.blocks import slicing
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.blocks.slicing import DAY
from meterd.store.compaction.rollups import At, first_sample_since
from meterd.store.compaction.stored_blocks import StoredBlocks
from meterd.store.db.keys import dirty_of
from meterd.store.head.catalog import Catalog

Ends = dict[tuple[int, int], dict[int, At]]
"""Device and day -> the first, or last, valid sample of each counter on that day."""


class AdjacentSamples:
    """Of one device. `dirty` are the days, by dirty_id, whose roll-ups are not right.

    `firsts` and `lasts` keep what blocks said, and are good as long as the blocks are the same.
    """

    def __init__(
        self,
        session: StoredBlocks,
        catalog: Catalog,
        device: int,
        dirty: Iterable[int],
        firsts: Ends,
        lasts: Ends,
    ) -> None:
        self._session = session
        self._device = device
        self._counters = frozenset(
            entry.id for entry in catalog.by_device.get(device, ()) if entry.kind is Kind.COUNTER
        )
        mine = (day for owner, day in map(dirty_of, dirty) if owner == device)
        self._dirty = sorted(mine)
        self._firsts = firsts
        self._lasts = lasts

    def before(self, series: int, day: int) -> At | None:
        """The last sample of a series before a day. Raises StoreError."""
        limit = day
        while True:
            rolled = self._session.before(series, limit)
            since = -1 if rolled is None else rolled[0] // DAY
            low, high = bisect_left(self._dirty, since), bisect_left(self._dirty, limit)
            for between in reversed(self._dirty[low:high]):
                if sample := self.lasts(between).get(series):
                    return sample
            if rolled is None or since not in self._dirty[low:high]:
                return rolled
            limit = since

    def after(self, series: int, day: int, later: Callable[[], Chunk | None]) -> At | None:
        """The first sample after a day; `later` is what no block holds yet. Raises StoreError."""
        limit = day
        while True:
            low = bisect_right(self._dirty, limit)
            # The day after is mostly dirty, and has it.
            if self._dirty[low : low + 1] == [limit + 1]:
                if sample := self.firsts(limit + 1).get(series):
                    return sample
                limit += 1
                continue
            rolled = self._session.after(series, limit)
            until = None if rolled is None else rolled[0] // DAY
            high = len(self._dirty) if until is None else bisect_right(self._dirty, until)
            for between in self._dirty[low:high]:
                if sample := self.firsts(between).get(series):
                    return sample
            if rolled is None or until is None:
                return first_of(later(), series, (day + 1) * DAY)
            if until not in self._dirty[low:high]:
                return rolled
            limit = until

    def firsts(self, day: int) -> dict[int, At]:
        """Of a day's blocks."""
        key = self._device, day
        if key not in self._firsts:
            self._firsts[key] = self._ends(day, last=False)
        return self._firsts[key]

    def lasts(self, day: int, before: int | None = None) -> dict[int, At]:
        """Of a day's blocks, or of those of them that began `before` a time (Unix ms)."""
        if before is not None:
            return self._ends(day, last=True, before=before)
        key = self._device, day
        if key not in self._lasts:
            self._lasts[key] = self._ends(day, last=True)
        return self._lasts[key]

    def _ends(self, day: int, *, last: bool, before: int | None = None) -> dict[int, At]:
        ends: dict[int, At] = {}
        numbers = [number for number, _, _ in self._session.headers(self._device, day)]
        for number in reversed(numbers) if last else numbers:
            if self._counters <= ends.keys():
                break
            (chunk,) = self._session.read([number])
            if before is not None:
                chunk = slicing.until(chunk, before)
            for column in chunk.columns:
                if column.series in self._counters and column.series not in ends:
                    ends.update(_end(chunk, column, -1 if last else 0))
        return ends


def _end(chunk: Chunk, column: ChunkColumn, at: int) -> dict[int, At]:
    times, values = slicing.valid_samples(chunk, column)
    return {column.series: (times[at], values[at])} if times else {}


def first_of(chunk: Chunk | None, series: int, time: int) -> At | None:
    """The first sample of a series at or after `time` (Unix ms)."""
    for column in chunk.columns if chunk is not None else ():
        if column.series == series and chunk is not None:
            return first_sample_since(chunk, column, time)
    return None
