"""Hour compaction: polls of past hours become blocks; days whose roll-ups change become dirty.

Everything is read and encoded first, bit by bit, with commits between; then one transaction
writes it. Where that fails, nothing has happened: the polls are still in the WAL and in memory.
"""

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from meterd.model.quantity import Kind
from meterd.store.blocks import commit_record, slicing
from meterd.store.blocks.chunk import Chunk, merge
from meterd.store.blocks.slicing import DAY, HOUR
from meterd.store.compaction.adjacent_samples import AdjacentSamples
from meterd.store.compaction.rollups import LastSamples, hour_rows
from meterd.store.compaction.session import StoreSession
from meterd.store.compaction.stored_blocks import StoredBlocks
from meterd.store.compaction.write_batch import WriteBatch
from meterd.store.db.keys import block_hour, block_id, dirty_id, dirty_of
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head, Looked, SeriesBatch

# How long after an hour's end its polls are sealed: late ones want to come along.
GRACE = 120_000
# Bytes of bodies in one transaction: an hour of 4,000 series at 10 s has half of it.
MOST_BYTES = 2 << 20
# Samples that are encoded at once, before a commit may come between: some 15 ms of work.
_PIECE = 10_000
# A hole of this many ms before a block may have changed what was made of days before.
_HOLE = 900_000
# But not the 50 years between a clock that began in 1970 and the right one.
_LONGEST_HOLE = 400 * DAY
_FOREVER = 1 << 62
_LONGEST_REACH = _LONGEST_HOLE // DAY

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sealed:
    """A device's polls before `until` (Unix ms), of those that were there when it was looked at."""

    until: int
    polls: int
    seen: list[Looked]


@dataclass(slots=True)
class _UnderWay:
    """A device that is encoded part by part. `newest` is the last time of its blocks before."""

    name: str
    whole: Chunk
    parts: deque[tuple[int, int]]
    seen: list[Looked]
    newest: int | None
    polls: int = 0  # of parts that are encoded and not written

    @property
    def width(self) -> int:
        return len(self.whole.columns)


@dataclass(slots=True)
class _Round:
    """One pass over all devices: what is encoded and not written yet."""

    until: int  # Unix ms
    left: list[str]
    old: list[int]  # WAL rows that have nothing newer
    device: _UnderWay | None = None
    change: WriteBatch = field(default_factory=WriteBatch)
    done: dict[str, _Sealed] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.device is None and not self.left


class HourCompactor:
    """Lives in the store's thread. `rows` are the WAL's: number -> its newest time."""

    def __init__(
        self,
        head: Head,
        catalog: Catalog,
        rows: dict[int, int],
        dirty: set[int],
        *,
        plain: bool = True,
    ) -> None:
        """`plain`: whether what an hour came to is a row for people with a SQL client."""
        self._head = head
        self._catalog = catalog
        self._rows = rows
        self.plain = plain
        self.dirty = dirty
        self._tips: dict[int, LastSamples] = {}
        self._round: _Round | None = None
        self.late: set[int] = set()  # days, by dirty_id, of which sealed hours changed
        self.changes = 0  # rises when what was made of the store's blocks may be wrong by now

    def forget(self) -> None:
        """Forgets all state of a database that was replaced."""
        self.dirty.clear()
        self.late.clear()
        self.interrupt()

    def interrupt(self) -> None:
        """Drops the round: another writer changed what is stored, so it has to begin anew."""
        self._round = None
        self._tips.clear()
        self.changes += 1

    def keep_only(self, devices: Container[int]) -> None:
        """Drops the state of devices that are leased to other meterds."""
        for keys in (self.dirty, self.late):
            keys.intersection_update([key for key in keys if dirty_of(key)[0] in devices])
        self.interrupt()

    def begins(self, now: int) -> bool:
        """Whether `seal` would start a round with polls that are old enough."""
        edge = _edge(now)
        oldest = (self._head.oldest(name) for name in self._head.devices())
        return self._round is None and any(time is not None and time < edge for time in oldest)

    def seal(self, session: StoreSession, now: int, most: int = _PIECE) -> tuple[int, bool]:
        """Encodes about `most` samples that are old enough at `now` (Unix ms), device by device.

        What the round has encoded is written with the last of it. How many polls were written,
        and whether the round goes on: the next commit may want to come between. Raises StoreError.
        """
        try:
            return self._piece(session, now, most)
        except BaseException:
            self.interrupt()
            raise

    def _piece(self, session: StoreSession, now: int, most: int) -> tuple[int, bool]:
        if self._round is None:
            edge = _edge(now)
            old = [number for number, newest in self._rows.items() if newest < edge]
            self._round = _Round(edge, self._head.devices(), old)
        round_ = self._round
        while not round_.is_over and most > 0 and round_.change.size <= MOST_BYTES:
            most -= self._step(session, round_)
        if round_.is_over:
            self._carry(session, round_)
            self._round = None
        change = round_.change
        due = round_.is_over or change.size > MOST_BYTES
        ready = due and bool(change.journal_gone or round_.done)
        return self._write(session, round_) if ready else 0, not round_.is_over

    def _write(self, session: StoredBlocks, round_: _Round) -> int:
        self._apply(session, round_.change)
        for name, sealed in round_.done.items():
            # What came late meanwhile is in no block, and stays.
            left = self._head.sealed(name, sealed.until, sealed.seen)
            if round_.device is not None and round_.device.name == name:
                round_.device.seen, round_.device.polls = left, 0
        written = sum(sealed.polls for sealed in round_.done.values())
        round_.change, round_.done = WriteBatch(), {}
        return written

    def _step(self, session: StoredBlocks, round_: _Round) -> int:
        """Encodes a part of a device that has something ripe; about how many samples."""
        if round_.device is None:
            round_.device = self._begun(session, round_, round_.left.pop())
            return 0
        device = round_.device
        start, end = device.parts.popleft()
        self._part(session, round_, device, slicing.part(device.whole, start, end))
        device.polls += end - start
        times = device.whole.times
        over = end == len(times) or times[end] >= round_.until
        until = round_.until if over else times[end - 1] + 1
        round_.done[device.name] = _Sealed(until, device.polls, device.seen)
        if not device.parts:
            round_.device = None
        return (end - start) * device.width

    def _begun(self, session: StoredBlocks, round_: _Round, name: str) -> _UnderWay | None:
        oldest = self._head.oldest(name)
        copies = (
            self._committed_batches(name) if oldest is not None and oldest < round_.until else []
        )
        whole = self._merged(name, copies)
        if whole is None or whole.times[0] >= round_.until:
            return None
        newest = session.newest_time(whole.device, whole.times[0])
        # What belongs among blocks waits for no more of its kind: they say otherwise by now.
        late = 0 if newest is None else bisect_right(whole.times, min(newest, round_.until - 1))
        parts = self._join_ranges(
            session, whole, slicing.compactable_rows(whole.times[:late], _FOREVER)
        )
        later = slicing.compactable_rows(whole.times[late:], round_.until)
        parts += [(start + late, end + late) for start, end in later]
        if not parts:
            return None
        seen = [(copy.origin or copy, len(copy.times)) for copy in copies]
        return _UnderWay(name, whole, deque(parts), seen, newest)

    def _join_ranges(
        self, session: StoredBlocks, whole: Chunk, parts: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Joins parts of one block, so that the block is read and written once."""
        ranges: list[tuple[int, int]] = []
        days: dict[int, list[tuple[int, int, int]]] = {}
        before: set[int] = set()
        for start, end in parts:
            first, last = whole.times[start], whole.times[end - 1]
            if first // DAY not in days:
                days = {first // DAY: session.headers(whole.device, first // DAY)}
            met = {key for key, t1, _ in days[first // DAY] if _touch(key, t1, first, last)}
            if met & before:
                ranges[-1] = ranges[-1][0], end
                before |= met
            else:
                ranges.append((start, end))
                before = met
        return ranges

    def _part(self, session: StoredBlocks, round_: _Round, device: _UnderWay, chunk: Chunk) -> None:
        first = chunk.times[0]
        if self._is_deleted(session, round_, chunk.device, first // DAY):
            warning = "%s: %d polls came too late: the raw samples of their day are deleted already"
            _log.warning(warning, device.name, len(chunk.times))
            return
        if device.newest is not None and first <= device.newest:
            self._block(session, round_.change, chunk, None)
            days = {first // DAY} | self._adjacent_days(session, chunk)
            self._mark_dirty(round_.change, chunk.device, days)
        else:
            tips = self._tips_of(session, chunk)
            days = self._holes(chunk, tips)
            if tips.time is not None and _says_more(tips, first):
                # What was said of the hours before this knew nothing of it.
                days |= {tips.time // DAY, first // DAY}
            self._mark_dirty(round_.change, chunk.device, days)
            tips.is_open = chunk.times[-1] == device.whole.times[-1]
            chunk = self._block(session, round_.change, chunk, tips.time)
            if self.plain:
                made = hour_rows(chunk, device.whole, self._catalog, tips.samples)
                round_.change.hours.update((row["id"], row) for row in made)
            tips.note(chunk)
        self._catalog.note([chunk])

    def _holes(self, chunk: Chunk, tips: LastSamples) -> set[int]:
        """UTC days that lie between two samples of a counter, and have none of it."""
        days: set[int] = set()
        for column in chunk.columns:
            tip = tips.samples.get(column.series)
            if tip is None or self._catalog.by_id[column.series].kind is not Kind.COUNTER:
                continue
            times, _ = slicing.valid_samples(chunk, column)
            if times and times[0] - tip[0] > _HOLE:
                days.update(
                    range(max(tip[0], times[0] - _LONGEST_HOLE) // DAY, times[0] // DAY + 1)
                )
        return days

    def _tips_of(self, session: StoredBlocks, chunk: Chunk) -> LastSamples:
        """The device's last samples before a chunk that is newer than all of its blocks."""
        device, first = chunk.device, chunk.times[0]
        if device in self._tips:
            return self._tips[device]
        # Whoever sealed that may have known of nothing after it, and has closed its day since.
        tips = self._tips[device] = LastSamples(session.previous(device, first), is_open=True)
        edges = AdjacentSamples(session, self._catalog, device, self.dirty, {}, {})
        series = self._catalog.by_device.get(device, ())
        slow = {each.id for each in series if each.kind is Kind.COUNTER} - tips.samples.keys()
        # A restart, or a correction, forgot counters that are read less often than blocks end.
        today = edges.lasts(first // DAY, first) if slow and tips.time is not None else {}
        for number in slow:
            if sample := today.get(number) or edges.before(number, first // DAY):
                tips.samples[number] = sample
        return tips

    def touched(self, session: StoredBlocks, chunks: Iterable[Chunk]) -> None:
        """Samples were replaced that may be in no block: days of before were closed by them.

        Raises StoreError.
        """
        change = WriteBatch()
        for chunk in chunks:
            # Their own days are stained once they are in blocks.
            self._mark_dirty(change, chunk.device, self._adjacent_days(session, chunk))
        if change.stained:
            self._apply(session, change)

    def _mark_dirty(self, change: WriteBatch, device: int, days: Iterable[int]) -> None:
        keys = {dirty_id(device, day) for day in days}
        change.stained |= keys - self.dirty
        self.late |= keys

    def _adjacent_days(self, session: StoredBlocks, chunk: Chunk) -> set[int]:
        """Days whose hours and roll-ups change with these samples, besides their own.

        A counter rises from its last sample before them, and to its next one after them.
        """
        device, first, last = chunk.device, chunk.times[0] // DAY, chunk.times[-1] // DAY
        series = [self._catalog.by_id[column.series] for column in chunk.columns]
        counters = [each.id for each in series if each.kind is Kind.COUNTER]
        days: set[int] = set()
        for number in counters:
            before, after = session.before(number, first), session.after(number, last)
            if before is not None:
                days.update(range(max(before[0] // DAY, first - _LONGEST_REACH), first))
            if after is not None:
                days.update(range(last + 1, min(after[0] // DAY, last + _LONGEST_REACH) + 1))
        if counters:
            # Those that are not closed yet have no roll-ups to find them by.
            dirty = map(dirty_of, self.dirty)
            days.update(later for owner, later in dirty if owner == device and later > last)
        return days

    def _is_deleted(self, session: StoredBlocks, round_: _Round, device: int, day: int) -> bool:
        """Whether roll-ups count more samples of a day than its blocks hold."""
        if (
            day >= round_.until // DAY - 1
            or dirty_id(device, day) in self.dirty | round_.change.stained
        ):
            return False
        there = sum(n for _, _, n in session.headers(device, day))
        series = [each.id for each in self._catalog.by_device.get(device, ())]
        return session.most_rolled(series, day) > there

    def chunk(self, name: str) -> Chunk | None:
        """All polls of a device that are in the WAL and in no block."""
        return self._merged(name, self._committed_batches(name))

    def _committed_batches(self, name: str) -> list[SeriesBatch]:
        return self._head.batches(name, kept=True)

    def _merged(self, name: str, copies: Iterable[SeriesBatch]) -> Chunk | None:
        owner = self._catalog.device(name)
        chunks = [
            chunk
            for batch in copies
            for chunk in batch.chunks(owner, self._catalog.series_id)
            if chunk.times
        ]
        return merge(chunks) if chunks else None

    def _block(
        self, session: StoredBlocks, change: WriteBatch, chunk: Chunk, tip: int | None
    ) -> Chunk:
        """Encodes a block, merged with stored blocks of the same hours."""
        device, first = chunk.device, chunk.times[0]
        days = {first // DAY}
        if tip is not None and first - tip > _HOLE:
            # Counters rose in between: what was made of the days before says otherwise.
            days.update(range(max(tip, first - _LONGEST_HOLE) // DAY, first // DAY))
            days.add(tip // DAY)
        change.stained |= {dirty_id(device, day) for day in days} - self.dirty
        if met := self._overlapping_chunks(session, change, chunk):
            chunk = merge([*met, chunk])
        change.add(block_id(device, chunk.times[0]), chunk)
        return chunk

    def _overlapping_chunks(
        self, session: StoredBlocks, change: WriteBatch, chunk: Chunk
    ) -> list[Chunk]:
        """Chunks of the same hours that are stored, or that are in this write batch already."""

        first, last = chunk.times[0], chunk.times[-1]
        stored = [
            key
            for key, t1, _ in session.headers(chunk.device, first // DAY)
            if _touch(key, t1, first, last) and key not in change.gone
        ]
        fresh = [
            key
            for key, block in change.blocks.items()
            if block.device == chunk.device and _touch(key, block.last, first, last)
        ]
        change.gone += stored
        return [*session.read(stored), *map(change.drop, fresh)]

    def _carry(self, session: StoreSession, round_: _Round) -> None:
        """Deletes old WAL rows; polls of theirs that are in no block move to a new row."""
        if not round_.old or (len(round_.old) == 1 and not round_.done):
            return
        left = []
        for name in self._head.devices():
            # The usual device has nothing left, and putting its polls together takes long.
            oldest, done = self._head.oldest(name), round_.done.get(name)
            since = done.until if done is not None else 0
            idle = oldest is None or oldest >= round_.until or since >= round_.until
            chunk = None if idle else self.chunk(name)
            if chunk is not None:
                left.append(slicing.until(slicing.since(chunk, since), round_.until))
        left = [chunk for chunk in left if chunk.times]
        round_.change.journal_gone = round_.old
        round_.change.carry = commit_record.encode(left, session.digits) if left else None

    def rewrite(self, session: StoreSession) -> None:
        """Rewrites the WAL with those polls only that no block has. Raises StoreError.

        A row that spans hours keeps polls that were sealed since. After a restart they pass for
        the newest of their time, so what was said of that time meanwhile would be undone.
        """
        self.interrupt()
        chunks = [self.chunk(name) for name in self._head.devices()]
        left = [chunk for chunk in chunks if chunk is not None and chunk.times]
        carry = commit_record.encode(left, session.digits) if left else None
        self._apply(session, WriteBatch(journal_gone=list(self._rows), carry=carry))

    def _apply(self, session: StoredBlocks, change: WriteBatch) -> None:
        carried = session.apply(change)
        self.changes += 1
        self.dirty |= change.stained
        newest = max((self._rows.pop(number, 0) for number in change.journal_gone), default=0)
        if carried is not None:
            self._rows[carried] = newest


def _touch(key: int, t1: int, first: int, last: int) -> bool:
    """Whether a block and a chunk have an hour in common; `t1` is the block's last time."""
    return t1 >= first // HOUR * HOUR and block_hour(key) <= last


def _says_more(tips: LastSamples, time: int) -> bool:
    """Whether polls from `time` on change the rows of hours before."""
    last = tips.time
    return last is None or tips.is_open or time - last > _HOLE or time // HOUR == last // HOUR


def _edge(now: int) -> int:
    """The full hour before which polls are old, at a time (Unix ms)."""
    return (now - GRACE) // HOUR * HOUR
