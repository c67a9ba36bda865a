"""The head: polls that no block holds yet, in memory as columns.

The event loop appends, the store's thread commits and seals, readers copy. The lock that the
loop takes is held while one batch is appended to, copied or exchanged, which are bounded; what
grows with the polls in memory is done without it.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meterd.model.sample import Layout, Poll
from meterd.store.head.series_batch import Naming, PollRows, SeriesBatch

__all__ = ("Head", "Naming", "PollRows", "SeriesBatch", "as_batches")

Looked = tuple[SeriesBatch, int]
"""A batch, and how many of its rows, the first ones, somebody has looked at."""


@dataclass(slots=True)
class _Device:
    """Batches in the order of arrival. Only the open one is added to."""

    model: SeriesBatch | None = None  # what the next one follows
    open: SeriesBatch | None = None
    closed: list[SeriesBatch] = field(default_factory=list)

    def close(self) -> None:
        if self.open is not None:
            self.open.end()
            self.closed.append(self.open)
            self.open = None

    def rename(self, device: str) -> None:
        """Closes the open batch, and renames the device."""
        self.close()
        for batch in (*self.closed, *([] if self.model is None else [self.model])):
            batch.device = device

    def begin(self, device: str, layout: Layout) -> SeriesBatch:
        self.close()
        if self.model is None:
            columns = tuple(zip(layout.quantities, layout.units, strict=True))
            self.model = self.open = SeriesBatch.of(device, columns)
        else:
            self.model = self.open = self.model.follow(layout)
        return self.open


@dataclass(frozen=True, slots=True)
class _Parked:
    """Copies of the batches that one record of the spool holds."""

    key: int
    copies: Sequence[SeriesBatch]
    samples: int


class Head:
    """Every poll since its device's last block.

    `take` is the loop's. All else that changes something is done by one thread at a time: the
    writer's, or the spool thread's, which parks what the store does not take.
    """

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        """`renamed`: names that devices had -> what they are called now (catalog.py)."""
        self._guard = threading.Lock()
        self._renamed = {} if renamed is None else renamed
        self._devices: dict[str, _Device] = {}
        self._waiting = 0  # samples that no commit has confirmed
        self._moves = 0
        self._changing = threading.RLock()  # never taken by the loop
        self._parked: list[_Parked] = []  # never changed, but replaced

    def take(self, poll: Poll) -> None:
        """Appends a poll; never waits for the disk, never raises."""
        if poll.device in self._renamed:
            poll = replace(poll, device=self._renamed[poll.device])
        with self._guard:
            mine = self._devices.get(poll.device)
            if mine is None:
                mine = self._devices[poll.device] = _Device()
            last = mine.open
            number = last.number(poll.layout) if last is not None and not last.is_full else None
            if last is None or number is None:
                last = mine.begin(poll.device, poll.layout)
                number = last.number(poll.layout)
            last.add(poll, number or 0)
            self._waiting += len(poll.values)

    def take_rows(self, device: str, sheets: Sequence[PollRows]) -> bool:
        """Appends polls of a WAL row at once, those of several layouts by their times.

        False where they do not fit in one batch: then nothing is taken.
        """
        device = self._renamed.get(device, device)
        with self._guard:
            mine = self._devices.setdefault(device, _Device())
            last = mine.open
            if last is None or last.is_full or not last.has_all(sheets):
                for sheet in sheets:
                    last = mine.begin(device, sheet.layout)
                    if last.has_all(sheets):
                        break
                else:
                    return False
            assert last is not None  # noqa: S101 (there is a sheet)
            last.add_rows(sheets)
            self._waiting += sum([len(sheet.values) for sheet in sheets])
            return True

    def sibling(self, devices: Iterable[str]) -> "Head":
        """An empty head, whose batches of these devices share their columns with those of here."""
        other = Head(self._renamed)
        for device in {self._renamed.get(name, name) for name in devices}:
            with self._guard:
                mine = self._devices.get(device)
                if mine is not None and mine.model is not None:
                    other._devices[device] = _Device(mine.model.template())
        return other

    def adopt(self, journal: "Head") -> None:
        """Puts polls replayed from the WAL before those taken since."""
        with self._changing:
            for device, theirs in journal._devices.items():
                theirs.rename(self._renamed.get(device, device))
                for batch in theirs.closed:
                    batch.kept = len(batch.times)
                with self._guard:
                    now = self._renamed.get(device, device)
                    mine = self._devices.setdefault(now, _Device())
                    mine.model = mine.model or theirs.model
                    mine.closed[:0] = theirs.closed

    def append(self, device: str, late: Sequence[SeriesBatch]) -> None:
        """Appends polls that are in the WAL already after all that was taken until now."""
        with self._changing:
            now = self._renamed.get(device, device)
            for batch in late:
                batch.kept = len(batch.times)
                batch.device = now
            with self._guard:
                mine = self._devices.setdefault(now, _Device())
                mine.close()
                mine.closed.extend(late)

    def follow(self) -> None:
        """Moves polls under a device's former name to its present name."""
        if not self._renamed:
            return
        with self._changing:
            for old in self._devices.keys() & self._renamed.keys():
                with self._guard:
                    moved = self._devices.pop(old)
                    moved.rename(self._renamed[old])
                    mine = self._devices.setdefault(self._renamed[old], _Device())
                    mine.model = mine.model or moved.model
                    mine.closed[:0] = moved.closed
            for batch in self._aside():
                batch.device = self._renamed.get(batch.device, batch.device)

    @property
    def waiting(self) -> int:
        """Samples that no commit has confirmed."""
        return self._waiting

    @property
    def moves(self) -> int:
        """Counts the changes of waiting rows other than by `take`; `confirm` and `forget` compare
        it.
        """
        return self._moves

    def uncommitted(self, most: int) -> list[SeriesBatch]:
        """Copies of the rows that are not in the WAL, about `most` samples, oldest first."""
        copies: list[SeriesBatch] = []
        for batch in self._all():
            rows = max(1, most // max(1, len(batch.columns)))
            with self._guard:
                end = min(len(batch.times), batch.kept + rows)
                if end == batch.kept:
                    continue
                copies.append(batch.copy(batch.kept, end))
            most -= len(copies[-1].times) * len(batch.columns)
            if most <= 0:
                break
        return copies

    def confirm(self, written: Sequence[SeriesBatch], moves: int | None = None) -> int:
        """Marks these copies as committed; returns how many samples they hold.

        `moves` is from before they were made: where it is another one by now, another thread has
        put some elsewhere, and nothing changes.
        """
        with self._changing:
            if moves not in (None, self._moves):
                return 0
            self._moves += 1
            for copy in written:
                (copy.origin or copy).kept += len(copy.times)
            return self._less(written)

    def forget(self, moved: Sequence[SeriesBatch], moves: int | None = None) -> int:
        """Drops the rows of these copies, spooled or lost; returns how many samples.

        `moves` as for `confirm`.
        """
        with self._changing:
            if moves not in (None, self._moves):
                return 0
            self._moves += 1
            for copy in moved:
                origin = copy.origin or copy
                self._remove(origin, [(origin.kept, origin.kept + len(copy.times))])
            return self._less(moved)

    def mark_spooled(self, moved: Sequence[SeriesBatch], moves: int, key: int, most: int) -> int:
        """`forget` for copies that are in the spool: readers see them until `unmark_spooled`.

        Of all that is spooled or waits `most` samples stay in memory, the newest.
        """
        with self._changing:
            samples = self.forget(moved, moves)
            if samples:
                self._parked = [*self._parked, _Parked(key, moved, samples)]
                surplus = sum(parked.samples for parked in self._parked) + self._waiting - most
                while self._parked and surplus > 0:
                    surplus -= self._parked[0].samples
                    self._parked = self._parked[1:]
            return samples

    def unmark_spooled(self, key: int) -> None:
        """Drops the rows that were kept for readers while the record `key` was in the spool."""
        with self._changing:
            self._parked = [parked for parked in self._parked if parked.key != key]

    def _aside(self) -> list[SeriesBatch]:
        """Rows that are in the spool and still in memory, oldest first."""
        return [batch for parked in self._parked for batch in parked.copies]

    def _less(self, copies: Sequence[SeriesBatch]) -> int:
        samples = _samples(copies)
        with self._guard:
            self._waiting -= samples
        return samples

    def _remove(self, batch: SeriesBatch, gone: Sequence[tuple[int, int]]) -> None:
        """Removes these rows of a batch."""
        with self._guard:
            mine = self._devices.get(batch.device)
            if mine is not None and mine.open is batch:
                mine.close()
        rest = batch.without(gone)
        with self._guard:
            batch.become(rest)

    def unconfirm(self) -> None:
        """Marks every row as uncommitted: the WAL that held them is gone."""
        with self._changing:
            self._moves += 1
            for batch in self._all():
                with self._guard:
                    if batch.kept:
                        self._waiting += batch.copy(0, batch.kept).samples
                        batch.kept = 0

    def renumber(self) -> None:
        """Forgets the series numbers that batches cache: another database has others."""
        with self._changing:
            for batch in self._all():
                with self._guard:
                    batch.order, batch.laid = [], {}

    def drop(self, device: str) -> int:
        """Drops a device that another meterd has; returns how many samples were uncommitted."""
        with self._changing:
            with self._guard:
                self._moves += 1
                gone = self._devices.pop(device, _Device())
            gone.close()
            return self._less([batch.copy(batch.kept, len(batch.times)) for batch in gone.closed])

    def sealed(self, device: str, before: int, seen: Iterable[Looked]) -> list[Looked]:
        """Drops rows older than `before` among those that compaction saw: blocks have them.

        Returns how many rows of each are left of those.
        """
        with self._changing:
            left: list[Looked] = []
            for batch, rows in seen:
                if gone := batch.older(before, rows):
                    self._remove(batch, gone)
                left.append((batch, rows - sum(end - start for start, end in gone)))
            closed = self._closed(device)
            for place in reversed(range(len(closed))):
                if not closed[place].times:
                    with self._guard:
                        del self._devices[device].closed[place]
            return left

    def _closed(self, device: str) -> list[SeriesBatch]:
        with self._guard:
            mine = self._devices.get(device)
            return [] if mine is None else mine.closed.copy()

    def batches(
        self, device: str, *, kept: bool = False, within: tuple[int, int] | None = None
    ) -> list[SeriesBatch]:
        """Copies of all rows of a device, or of those in the WAL, in order of arrival.

        `within`: those that have none of start <= time < end (Unix ms) may be left out.
        """
        copies = [] if kept else [copy for copy in self._aside() if copy.device == device]
        for batch in self._of(device):
            bounds = batch.bounds
            if within and bounds and not (bounds[0] < within[1] and within[0] <= bounds[1]):
                continue
            with self._guard:
                rows = batch.kept if kept else len(batch.times)
                copies.append(self._copy(batch, rows))
        return [copy for copy in copies if copy.times]

    def _copy(self, batch: SeriesBatch, rows: int) -> SeriesBatch:
        """The first so many rows. The lock is held."""
        mine = self._devices.get(batch.device)
        is_open = mine is None or mine.open is batch
        if not is_open and rows == len(batch.times):
            return batch.view()
        return batch.copy(0, rows)

    def tails(self) -> list[SeriesBatch]:
        """Copies of the newest rows in the WAL, as many as hold one of each layout."""
        committed = (batch for name in self.devices() for batch in self.batches(name, kept=True))
        return [batch.tail() for batch in committed]

    def names(self) -> set[tuple[str, str, str]]:
        """Device, quantity and unit of each series here."""
        every = (*self._aside(), *self._all())
        return {
            (batch.device, *column) for batch in every if batch.times for column in batch.columns
        }

    def extents(self) -> dict[tuple[str, str, str], tuple[int, int]]:
        """The first and last time of each series here."""
        extents: dict[tuple[str, str, str], tuple[int, int]] = {}
        for device in {*self.devices(), *(copy.device for copy in self._aside())}:
            for batch in self.batches(device):
                for kind, first, last in batch.extents():
                    for place in kind.places:
                        name = device, *batch.columns[place]
                        extent = extents.get(name, (first, last))
                        extents[name] = min(extent[0], first), max(extent[1], last)
        return extents

    def devices(self) -> list[str]:
        with self._guard:
            return list(self._devices)

    def oldest(self, device: str) -> int | None:
        """The time (Unix ms) of the device's oldest poll in memory, spooled ones left out."""
        firsts: list[int] = []
        for batch in self._of(device):
            bounds, times = batch.bounds, batch.times
            if times:
                firsts.append(min(times) if bounds is None else bounds[0])
        return min(firsts, default=None)

    def _of(self, device: str) -> list[SeriesBatch]:
        with self._guard:
            mine = self._devices.get(device)
            if mine is None:
                return []
            return mine.closed.copy() if mine.open is None else [*mine.closed, mine.open]

    def newest(self) -> dict[str, int]:
        """The time (Unix ms) of each device's newest poll here."""
        newest: dict[str, int] = {}
        for batch in (*self._aside(), *self._all()):
            bounds, times = batch.bounds, batch.times
            if times:
                last = max(times) if bounds is None else bounds[1]
                newest[batch.device] = max(last, newest.get(batch.device, last))
        return newest

    def _all(self) -> Iterator[SeriesBatch]:
        for device in self.devices():
            yield from self._of(device)


def _samples(copies: Sequence[SeriesBatch]) -> int:
    return sum(copy.samples for copy in copies)


def as_batches(polls: Iterable[Poll]) -> list[SeriesBatch]:
    """Polls as columns, for Writer.put; of each device in this order."""
    head = Head()
    for poll in polls:
        head.take(poll)
    return [batch for device in head.devices() for batch in head.batches(device)]
