"""Ends a device's day: one block where there were many, and the roll-ups of its series."""

from collections.abc import Iterator, Sequence
from functools import partial

from meterd.model.quantity import Kind
from meterd.store import cuts
from meterd.store.catalog import Catalog
from meterd.store.change import Change
from meterd.store.cuts import DAY, HOUR
from meterd.store.format import codec, rollup
from meterd.store.format.columns import Column, Span, merge
from meterd.store.format.rollup import QUARTERS
from meterd.store.hot import Hot
from meterd.store.hours import At, first_since, plain, quarters, rollup_row
from meterd.store.keys import block_id, dirty_id, dirty_of, hour_id, rollup_id
from meterd.store.ledger import Edges, Ledger
from meterd.store.powers import Samples, power_of
from meterd.store.sealing import GRACE, MOST_BYTES, Sealer
from meterd.store.statements import Row

# The day's last block must be there, and the first poll of the next day, to which counters
# rise from the last one; where none comes, the day is closed without it.
_DELAY = HOUR + 2 * GRACE
_PATIENCE = DAY
# Blocks with more polls are quick to store and slow to read a single hour from.
MOST_POLLS = 10_000
# Samples that are read, encoded or counted at once, before a commit may come between: 20 ms.
_PIECE = 25_000
# Days without a sample that get plain rows and roll-ups of what a counter rose by in them: ten
# years. Readers work it out for themselves.
_LONGEST_HOLE = 3660

Followed = tuple[int, At | None]
"""A UTC day of a counter that was rolled up, and the sample that followed on it then."""


class Closer:
    """Lives in the writer's thread, behind the sealer."""

    def __init__(self, hot: Hot, catalog: Catalog, sealer: Sealer, *, merging: bool = True) -> None:
        """`merging`: whether the blocks of a day become one, which writes each sample again."""
        self._hot = hot
        self._catalog = catalog
        self._sealer = sealer
        self._merging = merging
        self._made = Change()  # and not written yet
        self._under_way: Iterator[int] | None = None
        self._seen = sealer.changes
        self._followed: dict[int, Followed] = {}

    def work(self, ledger: Ledger, now: int) -> bool:
        """Goes on closing the days that may be closed at `now` (Unix ms), oldest first.

        Some days of several devices are written at once. Whether there is more to do; a commit
        may want to come between. Raises StoreError.
        """
        if self._seen != self._sealer.changes:
            # What was made of the blocks that were there then.
            self._made, self._under_way, self._seen = Change(), None, self._sealer.changes
        if self._under_way is not None:
            self._go_on(self._under_way)
            return True
        waiting = self._made.cleaned
        key = next((key for key in self._due(now) if key not in waiting), None)
        devices = {dirty_of(one)[0] for one in waiting}
        if key is None or dirty_of(key)[0] in devices or self._made.size > MOST_BYTES:
            # A device's next day goes on where the roll-ups of this one end.
            spread = bool(self._made.stained)
            if waiting:
                self._write(ledger)
            return key is not None or spread
        self._go_on(self._close(ledger, key, self._made))
        return True

    def close(self, ledger: Ledger, key: int) -> None:
        """One device's day, by dirty_id. Raises StoreError."""
        for _ in self._close(ledger, key, self._made):
            pass
        self._write(ledger)

    def _go_on(self, steps: Iterator[int]) -> None:
        left = _PIECE
        self._under_way = steps
        for samples in steps:
            left -= samples
            if left <= 0:
                return
        self._under_way = None

    def _write(self, ledger: Ledger) -> None:
        made, self._made = self._made, Change()
        ledger.apply(made)
        self._sealer.dirty -= made.cleaned
        self._sealer.dirty |= made.stained

    def _due(self, now: int) -> Iterator[int]:
        """The days that may be closed, oldest first, by dirty_id."""
        return (key for key in sorted(self._sealer.dirty) if self._may_close(key, now))

    def _may_close(self, key: int, now: int) -> bool:
        device, day = dirty_of(key)
        end = (day + 1) * DAY
        name = self._catalog.names.get(device)
        if now < end + _DELAY or name is None:
            return False
        oldest = self._hot.oldest(name)
        if oldest is not None and oldest < end:
            return False
        return oldest is not None or now >= end + _PATIENCE

    def _close(self, ledger: Ledger, key: int, change: Change) -> Iterator[int]:
        """Step by step; yields how many samples each was about."""
        device, day = dirty_of(key)
        headers = ledger.headers(device, day)
        count = sum(n for _, _, n in headers)
        series = [one.id for one in self._catalog.by_device.get(device, ())]
        if ledger.most_rolled(series, day) > count:
            # Raw samples were deleted since: what is left would be less than is known.
            change.cleaned.add(key)
            return
        spans: list[Span] = []
        for number, _, n in headers:
            spans += ledger.read([number])
            yield n * len(series)
        span = merge(spans) if spans else None
        if span is not None and self._merging and len(headers) > 1 and count <= MOST_POLLS:
            bodies: list[bytes] = []
            for column in span.columns:
                bodies.append(codec.encode(column.values))
                yield len(column.values)
            change.gone += [number for number, _, _ in headers]
            change.add(block_id(device, span.times[0]), span, bodies)
        follow = self._follow(ledger, device, (day + 1) * DAY)
        counters = {one for one in series if self._catalog.by_id[one].kind is Kind.COUNTER}
        edges = ledger.edges(sorted(counters), day)
        hours: list[Row] = []
        for column in self._columns(device, span):
            change.rollups_gone.append(rollup_id(column.series, day))
            told = self._followed.get(column.series)
            hours += self._roll(ledger, change, day, column, span, follow)
            yield len(column.values)
            if column.series in counters:
                old = edges.get(column.series)
                yield from self._spread(ledger, change, key, column.series, old, told)
        keys = [hour_id(one, day * 24 + n) for one in series for n in range(24)]
        _note_hours(ledger, change, keys, hours)
        change.cleaned.add(key)

    def _columns(self, device: int, span: Span | None) -> Iterator[Column]:
        """Every series of the device; those without polls that day are empty."""
        told = {column.series: column for column in span.columns} if span is not None else {}
        for known in self._catalog.by_device.get(device, ()):
            yield told.get(known.id) or Column(known.id, range(0), cuts.NOTHING)

    def _follow(self, ledger: Ledger, device: int, time: int) -> Span | None:
        """What came after `time`."""
        found = ledger.following(device, time)
        return found if found is not None else self._sealer.span(self._catalog.names[device])

    def _roll(
        self,
        ledger: Ledger,
        change: Change,
        day: int,
        column: Column,
        span: Span | None,
        follow: Span | None,
    ) -> Iterator[Row]:
        """Adds the roll-up to the change; yields the hours' plain rows."""
        one = self._catalog.by_id[column.series]
        counter = one.kind is Kind.COUNTER
        if not column.values and not counter:
            return
        whole = span or Span(0, cuts.NO_TIMES, ())
        before = after = power = None
        if counter:
            before = ledger.before(column.series, day)
            after = _after(follow, column.series, (day + 1) * DAY)
            power = power_of(one.name[1], partial(self._power, whole, one.name[0]))
            if after is None:
                after = ledger.after(column.series, day)
            self._followed[column.series] = day, after
        mine = range(day * QUARTERS, (day + 1) * QUARTERS)
        found = quarters(whole, column, self._catalog, before, after, mine, power)
        row = rollup_row(column.series, day, found, *cuts.told(whole, column))
        if row is None:
            return
        change.rollups.append(row)
        yield from plain(column.series, found)

    def _power(self, span: Span, device: str, quantity: str) -> Samples | None:
        """What the day has of the power beside a counter."""
        known = self._catalog.series.get((device, quantity, "W"))
        if known is not None:
            for column in span.columns:
                if column.series == known.id:
                    return cuts.told(span, column)
        return None

    def _spread(
        self,
        ledger: Ledger,
        change: Change,
        key: int,
        series: int,
        old: Edges | None,
        told: Followed | None,
    ) -> Iterator[int]:
        """Tells the days beside this one, where a counter's first or last sample is another now.

        Readers work it out for themselves; roll-ups and plain rows tell it to who asks by SQL: up
        to the next sample, also where that came a year later. `old` is what the roll-up said of
        this day, `told` the day that was rolled up before. Yields as `_close` does.
        """
        device, day = dirty_of(key)
        now = _edges(change, series, day)
        if now == old:
            return
        before, after = ledger.neighbours(series, day)
        here = change.rollups[-1] if now is not None else None
        first = (here["first_time"], here["first"]) if here is not None else None
        last = (here["last_time"], here["last"]) if here is not None else None
        if before is not None:
            # Mostly the day before was rolled up after this one had begun.
            if told != (before.day, first):
                change.stained.add(dirty_id(device, before.day))
            until = first or (after.first if after is not None else None)
            yield from self._hole(change, series, range(before.day + 1, day), before.last, until)
        if after is not None:
            change.stained.add(dirty_id(device, after.day))
            since = last or (before.last if before is not None else None)
            yield from self._hole(change, series, range(day + 1, after.day), since, after.first)

    def _hole(
        self, change: Change, series: int, days: range, before: At | None, after: At | None
    ) -> Iterator[int]:
        """The days on which nobody read a counter: what it rose by on the way."""
        for day in days[-_LONGEST_HOLE:]:
            mine = range(day * QUARTERS, (day + 1) * QUARTERS)
            found = rollup.fold((), (), counter=True, before=before, after=after, within=mine)
            row = rollup_row(series, day, found, (), ())
            change.rollups_gone.append(rollup_id(series, day))
            if row is not None:
                change.rollups.append(row)
            change.hours.update((one["id"], one) for one in plain(series, found))
            yield QUARTERS


def _edges(change: Change, series: int, day: int) -> Edges | None:
    """The first and the last sample of the roll-up that was just made, if it has any."""
    made = change.rollups[-1] if change.rollups else None
    if made is None or (made["series_id"], made["day"]) != (series, day) or not made["n"]:
        return None
    return made["first_time"], made["first"], made["last_time"], made["last"]


def _after(follow: Span | None, series: int, time: int) -> At | None:
    for column in follow.columns if follow is not None else ():
        if column.series == series and follow is not None:
            return first_since(follow, column, time)
    return None


def _note_hours(ledger: Ledger, change: Change, keys: Sequence[int], rows: list[Row]) -> None:
    """What the store has otherwise, of these hours: most rows were right when they were made."""
    known = ledger.hours(keys)
    change.hours.update((row["id"], row) for row in rows if known.get(row["id"]) != row)
    change.hours_gone += known.keys() - {row["id"] for row in rows}
