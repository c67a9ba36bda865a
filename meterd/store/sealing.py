"""Makes blocks of the polls of past hours, and tells which days they change.

Everything is read and encoded first, bit by bit, with commits between; then one transaction
writes it. Where that fails, nothing has happened: the polls are still in the journal and in memory.
"""

import logging
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from meterd.store import cuts
from meterd.store.catalog import Catalog
from meterd.store.change import Change
from meterd.store.cuts import DAY, HOUR
from meterd.store.format import journal
from meterd.store.format.columns import Span, merge
from meterd.store.hot import Hot, Stretch
from meterd.store.hours import Tips, hour_rows
from meterd.store.keys import block_id, dirty_id, dirty_of
from meterd.store.ledger import Ledger

# How long after an hour's end its polls are sealed: late ones want to come along.
GRACE = 120_000
# Bytes of bodies in one transaction: an hour of 4,000 series at 10 s has half of it.
MOST_BYTES = 2 << 20
# Samples that are encoded at once, before a commit may come between: some 15 ms of work.
_PIECE = 10_000
# A hole of this many ms before a block may have changed what was made of the day before.
_HOLE = 900_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sealed:
    """A device's polls before `until` (Unix ms), of those that were there when it was looked at."""

    until: int
    polls: int
    seen: list[tuple[Stretch, int]]  # and how many rows of it


@dataclass(slots=True)
class _Round:
    """All devices once: what is encoded of them and not written yet."""

    until: int  # Unix ms
    left: list[str]
    old: list[int]  # journal rows that have nothing newer
    change: Change = field(default_factory=Change)
    done: dict[str, _Sealed] = field(default_factory=dict)


class Sealer:
    """Lives in the writer's thread. `rows` are the journal's: number -> its newest time."""

    def __init__(self, hot: Hot, catalog: Catalog, rows: dict[int, int], dirty: set[int]) -> None:
        self._hot = hot
        self._catalog = catalog
        self._rows = rows
        self.dirty = dirty
        self._tips: dict[int, Tips] = {}
        self._round: _Round | None = None
        self.changes = 0  # rises when what was made of the store's blocks may be wrong by now

    def forget(self) -> None:
        """Another database is in the place of the one that was known."""
        self.dirty.clear()
        self.interrupt()

    def interrupt(self) -> None:
        """Somebody else writes: a round begins anew, with what the store has then."""
        self._round = None
        self._tips.clear()
        self.changes += 1

    def keep_only(self, devices: Container[int]) -> None:
        """Other meterds have the others."""
        self.dirty.intersection_update([key for key in self.dirty if dirty_of(key)[0] in devices])
        self.interrupt()

    def begins(self, now: int) -> bool:
        """Whether `seal` would begin a round in which there is something old."""
        edge = _edge(now)
        oldest = (self._hot.oldest(name) for name in self._hot.devices())
        return self._round is None and any(time is not None and time < edge for time in oldest)

    def seal(self, ledger: Ledger, now: int, most: int = _PIECE) -> tuple[int, bool]:
        """Encodes of what is ripe at `now` (Unix ms) about `most` samples, device by device.

        What the round has encoded is written with the last of it. How many polls were written,
        and whether the round goes on: the next commit may want to come between. Raises StoreError.
        """
        try:
            return self._piece(ledger, now, most)
        except BaseException:
            self.interrupt()
            raise

    def _piece(self, ledger: Ledger, now: int, most: int) -> tuple[int, bool]:
        if self._round is None:
            edge = _edge(now)
            old = [number for number, newest in self._rows.items() if newest < edge]
            self._round = _Round(edge, self._hot.devices(), old)
        one = self._round
        while one.left and most > 0 and one.change.size <= MOST_BYTES:
            most -= self._device(ledger, one, one.left.pop())
        if not one.left:
            self._carry(ledger, one)
            self._round = None
        change = one.change
        due = not one.left or change.size > MOST_BYTES
        ready = due and bool(change.journal_gone or one.done)
        return self._write(ledger, one) if ready else 0, bool(one.left)

    def _write(self, ledger: Ledger, one: _Round) -> int:
        self._apply(ledger, one.change)
        for name, sealed in one.done.items():
            # What came late meanwhile is in no block, and stays.
            self._hot.sealed(name, sealed.until, sealed.seen)
        written = sum(sealed.polls for sealed in one.done.values())
        one.change, one.done = Change(), {}
        return written

    def seal_late(self, ledger: Ledger, spans: Iterable[Span], change: Change) -> None:
        """Blocks of polls that came another way, of one hour, oldest hours first.

        Raises StoreError.
        """
        self.interrupt()
        for span in spans:
            if span.device not in self._tips:
                self._tips[span.device] = Tips(ledger.previous(span.device, span.times[0]))
            tips = self._tips[span.device]
            whole = self._block(ledger, change, merge([span]), tips.time)
            found = hour_rows(whole, whole, self._catalog, tips.samples)
            change.hours.update((row["id"], row) for row in found)
            tips.note(whole)
        self._apply(ledger, change)

    def _device(self, ledger: Ledger, one: _Round, name: str) -> int:
        """Encodes what is ripe of a device; how many samples."""
        oldest = self._hot.oldest(name)
        copies = self._kept(name) if oldest is not None and oldest < one.until else []
        whole = self._merged(name, copies)
        parts = cuts.ripe(whole.times, one.until) if whole is not None else []
        if whole is None or not parts:
            return 0
        if whole.device not in self._tips:
            self._tips[whole.device] = Tips(ledger.previous(whole.device, whole.times[0]))
        tips = self._tips[whole.device]
        for start, end in parts:
            if self._is_deleted(ledger, one, whole.device, whole.times[start] // DAY):
                told = (
                    "%s: %d polls came too late: the raw samples of their day are deleted already"
                )
                _log.warning(told, name, end - start)
                continue
            span = self._block(ledger, one.change, cuts.part(whole, start, end), tips.time)
            one.change.hours.update(
                (row["id"], row) for row in hour_rows(span, whole, self._catalog, tips.samples)
            )
            tips.note(span)
            self._catalog.note([span])
        count = parts[-1][1]
        over = count == len(whole.times) or whole.times[count] >= one.until
        until = one.until if over else whole.times[count - 1] + 1
        seen = [(copy.origin or copy, len(copy.times)) for copy in copies]
        one.done[name] = _Sealed(until, count, seen)
        return count * len(self._catalog.by_device.get(whole.device, ()))

    def _is_deleted(self, ledger: Ledger, one: _Round, device: int, day: int) -> bool:
        """Whether roll-ups know more of a day than its blocks hold by now."""
        if day >= one.until // DAY - 1 or dirty_id(device, day) in self.dirty | one.change.stained:
            return False
        there = sum(n for _, _, n in ledger.headers(device, day))
        series = [one.id for one in self._catalog.by_device.get(device, ())]
        return ledger.most_rolled(series, day) > there

    def span(self, name: str) -> Span | None:
        """All polls of a device that are in the journal and in no block."""
        return self._merged(name, self._kept(name))

    def _kept(self, name: str) -> list[Stretch]:
        return self._hot.stretches(name, kept=True)

    def _merged(self, name: str, copies: Iterable[Stretch]) -> Span | None:
        owner = self._catalog.device(name)
        spans = [
            span
            for stretch in copies
            for span in stretch.spans(owner, self._catalog.one)
            if span.times
        ]
        return merge(spans) if spans else None

    def _block(self, ledger: Ledger, change: Change, span: Span, tip: int | None) -> Span:
        """One block; what the store has of its hours already is merged into it."""
        device, first = span.device, span.times[0]
        days = {first // DAY}
        if tip is not None and first - tip > _HOLE:
            # Counters rose in between: what was made of the day before says otherwise. The days
            # between follow when the block's day is closed.
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
            if one.device == span.device and touches(key, one.last)
        ]
        change.gone += stored
        return [*ledger.read(stored), *map(change.drop, fresh)]

    def _carry(self, ledger: Ledger, one: _Round) -> None:
        """Old journal rows go; their polls that are in no block yet move to a new one."""
        if not one.old or (len(one.old) == 1 and not one.done):
            return
        left = []
        for name in self._hot.devices():
            # The usual device has nothing left, and putting its polls together takes long.
            oldest, done = self._hot.oldest(name), one.done.get(name)
            since = done.until if done is not None else 0
            idle = oldest is None or oldest >= one.until or since >= one.until
            span = None if idle else self.span(name)
            if span is not None:
                left.append(cuts.until(cuts.since(span, since), one.until))
        left = [span for span in left if span.times]
        one.change.journal_gone = one.old
        one.change.carry = journal.encode(left, ledger.digits) if left else None

    def rewrite(self, ledger: Ledger) -> None:
        """The journal anew, with nothing but what no block has. Raises StoreError.

        A row that spans hours keeps polls that were sealed since. After a restart they pass for
        the newest of their time, so what was said of that time meanwhile would be undone.
        """
        self.interrupt()
        spans = [self.span(name) for name in self._hot.devices()]
        left = [span for span in spans if span is not None and span.times]
        carry = journal.encode(left, ledger.digits) if left else None
        self._apply(ledger, Change(journal_gone=list(self._rows), carry=carry))

    def _apply(self, ledger: Ledger, change: Change) -> None:
        carried = ledger.apply(change)
        self.changes += 1
        self.dirty |= change.stained
        newest = max((self._rows.pop(number, 0) for number in change.journal_gone), default=0)
        if carried is not None:
            self._rows[carried] = newest


def _edge(now: int) -> int:
    """The full hour before which polls are old, at a time (Unix ms)."""
    return (now - GRACE) // HOUR * HOUR
