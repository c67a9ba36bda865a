"""Day compaction: a device's blocks of a UTC day become one, and its series get roll-ups."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

from meterd.model.quantity import Kind
from meterd.store.blocks import codec, slicing
from meterd.store.blocks.chunk import Chunk, ChunkColumn, merge
from meterd.store.blocks.counter_power import Samples, power_of
from meterd.store.blocks.rollup import QUARTERS, QuarterRollup
from meterd.store.blocks.slicing import DAY, HOUR
from meterd.store.compaction.adjacent_samples import AdjacentSamples, Ends, first_of
from meterd.store.compaction.hours import GRACE, MOST_BYTES, HourCompactor
from meterd.store.compaction.rollups import hour_values, quarters, rollup_row
from meterd.store.compaction.stored_blocks import StoredBlocks
from meterd.store.compaction.write_batch import WriteBatch
from meterd.store.db.keys import block_id, dirty_of, hour_id, rollup_id
from meterd.store.db.statements import Row
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head

# The day's last block must be there, and the first poll of the next day, to which counters
# rise from the last one; where none comes, the day is closed without it.
_DELAY = HOUR + 2 * GRACE
_PATIENCE = DAY
# Blocks with more polls are quick to store and slow to read a single hour from.
MOST_POLLS = 10_000
# Samples that are read, encoded or counted at once, before a commit may come between: 20 ms.
_PIECE = 25_000


class DayCompactor:
    """In the store's thread, after the hour compactor."""

    def __init__(
        self, head: Head, catalog: Catalog, hour_compactor: HourCompactor, *, merging: bool = True
    ) -> None:
        """`merging`: whether the blocks of a day become one, which writes each sample again."""
        self._head = head
        self._catalog = catalog
        self._hour_compactor = hour_compactor
        self.merging = merging
        self._made = WriteBatch()  # and not written yet
        self._redone: set[int] = set()  # days, by dirty_id, of which `_made` has the hours
        self._under_way: Iterator[int] | None = None
        self._firsts: Ends = {}
        self._lasts: Ends = {}
        self._seen = hour_compactor.changes

    def work(self, session: StoredBlocks, now: int) -> bool:
        """Closes the days that are due at `now` (Unix ms), oldest first, in steps.

        Some days of several devices are written at once. Whether there is more to do; a commit
        may want to come between. Raises StoreError.
        """
        if self._seen != self._hour_compactor.changes:
            # What was made of the blocks that were there then.
            self._made, self._under_way, self._seen = (
                WriteBatch(),
                None,
                self._hour_compactor.changes,
            )
            self._redone, self._firsts, self._lasts = set(), {}, {}
        if self._under_way is not None:
            self._go_on(self._under_way)
            return True
        waiting = self._made.cleaned | self._redone
        key = next((key for key in self._due(now) if key not in waiting), None)
        devices = {dirty_of(due)[0] for due in waiting}
        if key is None or dirty_of(key)[0] in devices or self._made.size > MOST_BYTES:
            # A device's next day goes on where the roll-ups of this one end.
            if waiting:
                self._write(session)
            return key is not None
        self._go_on(self._day(session, key, self._made, self._may_close(key, now)))
        return True

    def close(self, session: StoredBlocks, key: int) -> None:
        """One device's day, by dirty_id. Raises StoreError."""
        for _ in self._day(session, key, self._made, is_over=True):
            pass
        self._write(session)

    def _go_on(self, steps: Iterator[int]) -> None:
        left = _PIECE
        self._under_way = steps
        for samples in steps:
            left -= samples
            if left <= 0:
                return
        self._under_way = None

    def _write(self, session: StoredBlocks) -> None:
        made, self._made = self._made, WriteBatch()
        redone, self._redone = self._redone, set()
        session.apply(made)
        self._hour_compactor.dirty -= made.cleaned
        self._hour_compactor.late -= redone | made.cleaned

    def _due(self, now: int) -> Iterator[int]:
        """The days that may be closed, by dirty_id, and those whose hours changed; oldest first."""
        dirty = sorted(self._hour_compactor.dirty)
        return (
            key for key in dirty if key in self._hour_compactor.late or self._may_close(key, now)
        )

    def _may_close(self, key: int, now: int) -> bool:
        device, day = dirty_of(key)
        end = (day + 1) * DAY
        name = self._catalog.names.get(device)
        if now < end + _DELAY or name is None:
            return False
        oldest = self._head.oldest(name)
        if oldest is not None and oldest < end:
            return False
        return oldest is not None or now >= end + _PATIENCE

    def _day(
        self, session: StoredBlocks, key: int, change: WriteBatch, is_over: bool
    ) -> Iterator[int]:
        """Generator of steps; yields about how many samples each step handled.

        Of a day that is not over the hours are made anew, and nothing else is known yet.
        """
        device, day = dirty_of(key)
        headers = session.headers(device, day)
        count = sum(n for _, _, n in headers)
        series = [entry.id for entry in self._catalog.by_device.get(device, ())]
        if session.most_rolled(series, day) > count:
            # Raw samples were deleted since: what is left would be less than is known.
            change.cleaned.add(key)
            return
        chunks: list[Chunk] = []
        for number, _, n in headers:
            chunks += session.read([number])
            yield n * len(series)
        chunk = merge(chunks) if chunks else None
        merging = is_over and self.merging and len(headers) > 1 and count <= MOST_POLLS
        if chunk is not None and merging:
            yield from _merged(change, chunk, headers)
        edges = self._edges(session, device)
        later = cache(lambda: self._hour_compactor.chunk(self._catalog.names[device]))
        hours: list[Row] = []
        for column in self._columns(device, chunk):
            rolled = self._quarters(edges, day, column, chunk, later, is_over)
            if is_over:
                change.rollups_gone.append(rollup_id(column.series, day))
                row = rollup_row(column.series, day, rolled, *_valid_samples(chunk, column))
                change.rollups += [row] if row is not None else []
            if self._hour_compactor.plain:
                hours += hour_values(column.series, rolled)
            yield len(column.values)
        keys = [hour_id(each, day * 24 + n) for each in series for n in range(24)]
        _note_hours(session, change, keys, hours)
        if is_over:
            change.cleaned.add(key)
        else:
            self._redone.add(key)

    def _edges(self, session: StoredBlocks, device: int) -> AdjacentSamples:
        dirty = self._hour_compactor.dirty - self._made.cleaned
        return AdjacentSamples(session, self._catalog, device, dirty, self._firsts, self._lasts)

    def _columns(self, device: int, chunk: Chunk | None) -> Iterator[ChunkColumn]:
        """Every series of the device; those without polls that day are empty."""
        columns = {column.series: column for column in chunk.columns} if chunk is not None else {}
        for entry in self._catalog.by_device.get(device, ()):
            yield columns.get(entry.id) or ChunkColumn(entry.id, range(0), slicing.NOTHING)

    def _quarters(
        self,
        edges: AdjacentSamples,
        day: int,
        column: ChunkColumn,
        chunk: Chunk | None,
        later: Callable[[], Chunk | None],
        is_over: bool,
    ) -> dict[int, QuarterRollup]:
        """Of one series, those between the samples around the day."""
        counter = self._catalog.by_id[column.series].kind is Kind.COUNTER
        if not column.values and not counter:
            return {}
        whole = chunk or Chunk(0, slicing.NO_TIMES, ())
        before = edges.before(column.series, day) if counter else None
        after = power = None
        if counter:
            name = self._catalog.by_id[column.series].name
            power = power_of(name[1], partial(self._power, whole, name[0]))
        if counter and not is_over and whole.times:
            after = first_of(later(), column.series, whole.times[-1] + 1)
        if counter and after is None:
            after = edges.after(column.series, day, later)
        # A hole may be long, and each of its days would be made of all of it.
        mine = range(day * QUARTERS, (day + 1) * QUARTERS)
        return quarters(whole, column, self._catalog, before, after, mine, power)

    def _power(self, chunk: Chunk, device: str, quantity: str) -> Samples | None:
        """The samples of the power that belongs to a counter, of that day."""
        entry = self._catalog.series.get((device, quantity, "W"))
        if entry is not None:
            for column in chunk.columns:
                if column.series == entry.id:
                    return slicing.valid_samples(chunk, column)
        return None


def _merged(
    change: WriteBatch, chunk: Chunk, headers: Sequence[tuple[int, int, int]]
) -> Iterator[int]:
    """Merges the day's blocks into one."""
    bodies: list[bytes] = []
    for column in chunk.columns:
        bodies.append(codec.encode(column.values))
        yield len(column.values)
    change.gone += [number for number, _, _ in headers]
    change.add(block_id(chunk.device, chunk.times[0]), chunk, bodies)


def _valid_samples(chunk: Chunk | None, column: ChunkColumn) -> tuple["array[int]", "array[float]"]:
    return slicing.valid_samples(chunk or Chunk(0, slicing.NO_TIMES, ()), column)


def _note_hours(
    session: StoredBlocks, change: WriteBatch, keys: Sequence[int], rows: list[Row]
) -> None:
    """Adds the rows of these hours that differ from those stored; most do not.

    Stored ones that have none are deleted: where no more are kept, an old one might be wrong.
    """
    stored = session.hours(keys)
    change.hours.update((row["id"], row) for row in rows if stored.get(row["id"]) != row)
    change.hours_gone += stored.keys() - {row["id"] for row in rows}
