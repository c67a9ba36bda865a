"""Makes blocks of the polls of past hours, and tells which days they change.

Everything is read and encoded first; then one short transaction writes it. Where that fails,
nothing has happened: the polls are still in the journal and in memory.
"""

from collections.abc import Container, Iterable, Mapping

from meterd.store import cuts
from meterd.store.catalog import Catalog
from meterd.store.change import Change
from meterd.store.cuts import DAY, HOUR
from meterd.store.format import journal
from meterd.store.format.columns import Span, merge
from meterd.store.hot import Hot
from meterd.store.hours import Tips, hour_rows
from meterd.store.keys import block_id, dirty_id, dirty_of
from meterd.store.ledger import Ledger

# How long after an hour's end its polls are sealed: late ones want to come along.
GRACE = 120_000
# Bytes of bodies in one transaction, so that it stays far below a second on an SD card.
_MOST = 4 << 20
# Samples after which a commit may come between: some 40 ms of work. Fewer cost flash.
_PIECE = 40_000
# A hole of this many ms before a block may have changed what was made of days before.
_HOLE = 900_000
# But not the 50 years between a clock that began in 1970 and the right one.
_LONGEST_HOLE = 400 * DAY


class Sealer:
    """Lives in the writer's thread. `rows` are the journal's: number -> its newest time."""

    def __init__(self, hot: Hot, catalog: Catalog, rows: dict[int, int], dirty: set[int]) -> None:
        self._hot = hot
        self._catalog = catalog
        self._rows = rows
        self.dirty = dirty
        self._tips: dict[int, Tips] = {}
        self._left: list[str] = []  # devices that the round has not come to
        self._until = 0  # the edge of the round, Unix ms

    def forget(self) -> None:
        """Another database is in the place of the one that was known."""
        self.dirty.clear()
        self._tips.clear()
        self._left = []

    def keep_only(self, devices: Container[int]) -> None:
        """Other meterds have the others."""
        self.dirty.intersection_update([key for key in self.dirty if dirty_of(key)[0] in devices])
        for device in [one for one in self._tips if one not in devices]:
            del self._tips[device]

    def begins(self, now: int) -> bool:
        """Whether `seal` would begin a round in which there is something old."""
        edge = _edge(now)
        oldest = (self._hot.oldest(name) for name in self._hot.devices())
        return not self._left and any(time is not None and time < edge for time in oldest)

    def seal(self, ledger: Ledger, now: int, most: int = _PIECE) -> tuple[int, bool]:
        """Seals of what is ripe at `now` (Unix ms) about `most` samples, device by device.

        How many polls, and whether the round goes on: the next commit may want to come between.
        Raises StoreError.
        """
        if not self._left:
            self._left = self._hot.devices()
            self._until = _edge(now)
        try:
            return self._round(ledger, most), bool(self._left)
        except BaseException:
            self._left = []
            raise

    def _round(self, ledger: Ledger, most: int) -> int:
        change, done, polls = Change(), dict[str, int](), 0
        while self._left and most > 0 and change.size <= _MOST:
            device = self._left.pop()
            count, until = self._device(ledger, change, device, self._until)
            if count:
                polls += count
                done[device] = until
                most -= count * self._width(device)
        if not self._left:
            self._carry(ledger, change, done, self._until)
        if change.blocks or change.journal_gone:
            self._apply(ledger, change, done)
        return polls

    def _width(self, name: str) -> int:
        return len(self._catalog.by_device.get(self._catalog.device(name), ()))

    def seal_late(self, ledger: Ledger, spans: Iterable[Span], change: Change) -> None:
        """Blocks of polls that came another way, of one hour, oldest hours first.

        Raises StoreError.
        """
        for span in spans:
            if span.device not in self._tips:
                self._tips[span.device] = Tips(ledger.previous(span.device, span.times[0]))
            tips = self._tips[span.device]
            whole = self._block(ledger, change, merge([span]), tips.time)
            found = hour_rows(whole, whole, self._catalog, tips.samples)
            change.hours.update((row["id"], row) for row in found)
            tips.note(whole)
        self._apply(ledger, change, {})

    def _device(self, ledger: Ledger, change: Change, name: str, edge: int) -> tuple[int, int]:
        """How many polls of the device this change seals, and until when (Unix ms)."""
        oldest = self._hot.oldest(name)
        whole = self.span(name) if oldest is not None and oldest < edge else None
        parts = cuts.ripe(whole.times, edge) if whole is not None else []
        if whole is None or not parts:
            return 0, 0
        if whole.device not in self._tips:
            self._tips[whole.device] = Tips(ledger.previous(whole.device, whole.times[0]))
        tips = self._tips[whole.device]
        for start, end in parts:
            span = self._block(ledger, change, cuts.part(whole, start, end), tips.time)
            change.hours.update(
                (row["id"], row) for row in hour_rows(span, whole, self._catalog, tips.samples)
            )
            tips.note(span)
            self._catalog.note([span])
        sealed = parts[-1][1]
        over = sealed == len(whole.times) or whole.times[sealed] >= edge
        return sealed, edge if over else whole.times[sealed - 1] + 1

    def span(self, name: str) -> Span | None:
        """All polls of a device that are in the journal and in no block."""
        owner = self._catalog.device(name)
        spans = [
            span
            for stretch in self._hot.stretches(name, kept=True)
            for span in stretch.spans(owner, self._catalog.one)
            if span.times
        ]
        return merge(spans) if spans else None

    def _block(self, ledger: Ledger, change: Change, span: Span, tip: int | None) -> Span:
        """One block; what the store has of its hours already is merged into it."""
        device, first = span.device, span.times[0]
        days = {first // DAY}
        if tip is not None and first - tip > _HOLE:
            # Counters rose in between: what was made of the days before says otherwise.
            days.update(range(max(tip, first - _LONGEST_HOLE) // DAY, first // DAY))
            days.add(tip // DAY)
        change.stained |= {dirty_id(device, day) for day in days} - self.dirty
        if met := self._met(ledger, change, span):
            span = merge([*met, span])
        change.add(block_id(device, span.times[0]), span)
        return span

    def _met(self, ledger: Ledger, change: Change, span: Span) -> list[Span]:
        """What is known of the hours of a span: in the store, or from earlier in this change."""

        def touches(key: int, last: int) -> bool:
            return last >= span.times[0] // HOUR * HOUR and key >> 14 <= span.times[-1]

        stored = [
            key
            for key, last, _ in ledger.headers(span.device, span.times[0] // DAY)
            if touches(key, last) and key not in change.gone
        ]
        fresh = [
            key
            for key, one in change.blocks.items()
            if one.device == span.device and touches(key, one.times[-1])
        ]
        change.gone += stored
        return [*ledger.read(stored), *map(change.drop, fresh)]

    def _carry(self, ledger: Ledger, change: Change, done: Mapping[str, int], edge: int) -> None:
        """Old journal rows go; their polls that are in no block yet move to a new one."""
        old = [number for number, newest in self._rows.items() if newest < edge]
        if not old or (len(old) == 1 and not done):
            return
        left = []
        for name in self._hot.devices():
            # The usual device has nothing left, and putting its polls together takes long.
            oldest = self._hot.oldest(name)
            idle = oldest is None or oldest >= edge or done.get(name, 0) >= edge
            span = None if idle else self.span(name)
            if span is not None:
                rest = cuts.since(span, done.get(name, 0))
                left.append(cuts.until(rest, edge))
        left = [span for span in left if span.times]
        change.journal_gone = old
        change.carry = journal.encode(left, ledger.digits) if left else None

    def rewrite(self, ledger: Ledger) -> None:
        """The journal anew, with nothing but what no block has. Raises StoreError.

        A row that spans hours keeps polls that were sealed since. After a restart they pass for
        the newest of their time, so what was said of that time meanwhile would be undone.
        """
        spans = [self.span(name) for name in self._hot.devices()]
        left = [span for span in spans if span is not None and span.times]
        carry = journal.encode(left, ledger.digits) if left else None
        self._apply(ledger, Change(journal_gone=list(self._rows), carry=carry), {})

    def _apply(self, ledger: Ledger, change: Change, done: Mapping[str, int]) -> None:
        carried = ledger.apply(change)
        self.dirty |= change.stained
        newest = max((self._rows.pop(number) for number in change.journal_gone), default=0)
        if carried is not None:
            self._rows[carried] = newest
        for device, until in done.items():
            self._hot.sealed(device, until)


def _edge(now: int) -> int:
    """The full hour before which polls are old, at a time (Unix ms)."""
    return (now - GRACE) // HOUR * HOUR
