"""What the writer's thread does to the store: commits, sealing, closing days, retention."""

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from operator import attrgetter

from meterd.errors import StoreError
from meterd.model.clock import Clock
from meterd.model.sample import Poll, Quality
from meterd.store import filed, migrate
from meterd.store.catalog import Catalog
from meterd.store.closing import Closer
from meterd.store.columns import Sheet, Span, merge
from meterd.store.corrupt import DamageError
from meterd.store.cuts import HOUR
from meterd.store.database import Database
from meterd.store.hot import Hot, Stretch
from meterd.store.ledger import Ledger, Row
from meterd.store.olden import Olden
from meterd.store.polls import replay
from meterd.store.schema import QUALITIES, REASON_LENGTH
from meterd.store.sealing import Sealer
from meterd.store.share import Leased, Share
from meterd.store.shared import SharedLedger

BATCH = 200_000  # samples a transaction, so that a long backlog is confirmed bit by bit
SEAL_EVERY = 60.0  # seconds between two looks at what may be sealed
NEWEST_EVERY = 900.0  # seconds; rows that people read, at half a byte a sample on flash
TRIM_EVERY = 3600.0
_TRIM_BLOCKS = 200
_ALL = 1 << 62  # samples
_PAUSE = 0.05  # seconds between two pieces of a chore: readers and the disk want room too
# A wall clock that ran so many seconds more than time did was set: old samples may be young.
_LEAP = 3600.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Chore:
    """One thing that is done now and then; returns whether there is more of it to do."""

    do: Callable[[Ledger], bool]
    every: float
    due: float


class Keeper:
    """The store as the writer's thread has it. Only `Hot` and `Catalog` are seen outside."""

    def __init__(
        self,
        database: Database,
        hot: Hot,
        catalog: Catalog,
        *,
        clock: Clock,
        keep: float | None = None,
        rows: float | None = None,
        to_file: bool = False,
        share: Share | None = None,
    ) -> None:
        """`keep`: how many seconds raw samples stay; None is for ever.

        `rows`: for how many seconds each is a plain row, too; None is not at all.
        `to_file`: the journal is a file beside the database (filed.py), not a table.
        `share`: what of the store this meterd may write, where there are others (cluster.py).
        Raises StoreError where there is no place for such a file.
        """
        self._database = database
        self._hot = hot
        self._catalog = catalog
        self._clock = clock
        self._keep = keep
        self._plain = rows
        self._share = share
        self._adopted: dict[str, Leased] = {}
        catalog.shared = share is not None
        self._ledger: Ledger | None = None
        self._rows: dict[int, int] = {}
        self._loaded = False
        self._filed = _filed(database, catalog) if to_file else None
        self._sealer = Sealer(hot, catalog, self._rows, set())
        self._closer = Closer(hot, catalog, self._sealer)
        self._olden = Olden(catalog, self._sealer, delete=rows is None)
        self._newest: dict[int, Row] = {}
        self._written: dict[int, int] = {}  # the time of each series' row in `newest`
        self._began = clock.now_ms() / 1000 - clock.monotonic()
        self._leap = float("-inf")  # the monotonic time at which it was noticed
        now = clock.monotonic()
        self._chores = [
            _Chore(self._seal, SEAL_EVERY, now + SEAL_EVERY),
            _Chore(self._close_day, SEAL_EVERY, now + SEAL_EVERY),
            _Chore(self._write_newest, NEWEST_EVERY, now + SEAL_EVERY),
            _Chore(self._trim, TRIM_EVERY, now),
            _Chore(self._move_old, TRIM_EVERY, now),
        ]

    def open(self) -> Ledger:
        """The store, open; opened again after each failure, as it may be another one by now.

        Raises StoreError.
        """
        if self._share is not None and self._share.held != self._adopted:
            self.fail()
        if self._ledger is None:
            ledger = self._fresh()
            try:
                self._load(ledger)
            except BaseException:
                ledger.close()
                raise
            self._ledger = ledger
        return self._ledger

    def _fresh(self) -> Ledger:
        if self._share is None:
            migrate.upgrade(self._database)
            return Ledger(self._database, self._catalog)
        self._share.upgrade()
        return SharedLedger(self._database, self._catalog, self._share)

    def fail(self) -> None:
        """Something went wrong: nothing of the open connection is trusted any more."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._filed is not None:
            self._filed.close()

    close = fail

    def start_over(self) -> None:
        """The database was put aside: the next one is empty, and gets all that is still here."""
        self.fail()
        self._rows.clear()
        self._sealer.forget()
        self._newest.clear()
        if self._loaded and self._filed is None:
            self._hot.unconfirm()

    def _load(self, ledger: Ledger) -> None:
        self._sealer.dirty |= ledger.dirty()
        if isinstance(ledger, SharedLedger):
            self._adapt(ledger)
            return
        if self._loaded:
            self._meet_again(ledger)
            return
        # Late polls, of who imports history, are not the newest ones.
        lasts = ((one.id, one.last) for one in self._catalog.by_id.values())
        self._written.update((one, last) for one, last in lasts if last is not None)
        found = Hot()
        self._rows.update(self._replay(ledger, found))
        self._take_file(ledger)
        self._hot.adopt(found)
        self._olden.look(ledger)
        self._loaded = True

    def _adapt(self, ledger: SharedLedger) -> None:
        """Gives up devices that others have, and takes over those that are new here."""
        held = ledger.held
        self._forget_others(held)
        ids = {one.id for one in held.values()}
        self._catalog.abandon(ids)
        self._sealer.keep_only(ids)
        if held.items() - self._adopted.items():
            # Read again as a whole: what is here already is the same, and the last one counts.
            found = Hot()
            self._rows.update(replay(ledger.journal(), found, self._catalog))
            for name in found.devices():
                if held.get(name) == self._adopted.get(name):
                    found.drop(name)
            self._hot.adopt(found)
        there, now = set(ledger.numbers()), self._clock.now_ms()
        for number in self._rows.keys() - there:
            del self._rows[number]
        self._rows.update((number, now) for number in there if number not in self._rows)
        self._adopted = held
        self._loaded = True

    def _forget_others(self, held: Container[str]) -> None:
        for name in self._hot.devices():
            if name not in held and (lost := self._hot.drop(name)):
                _log.warning("%d samples of %s are dropped: it is not ours", lost, name)

    def _meet_again(self, ledger: Ledger) -> None:
        there = set(ledger.numbers())
        if self._rows.keys() - there:
            _log.warning("the store lacks what it had: all that is in memory goes there again")
            self._rows.clear()
            self._sealer.forget()
            self._sealer.dirty |= ledger.dirty()
            self._hot.unconfirm()
        # A commit whose confirmation was lost may have left a row that is not known here.
        now = self._clock.now_ms()
        self._rows.update((n, now) for n in there if n not in self._rows)

    def _replay(self, ledger: Ledger, found: Hot) -> dict[int, int]:
        while True:
            try:
                return replay(ledger.journal(), found, self._catalog)
            except DamageError as damaged:
                # What came before it is taken twice, which is harmless.
                ledger.put_aside(damaged, self._database.folder)

    def _take_file(self, ledger: Ledger) -> None:
        """What a journal file holds; where the journal is a table now, it goes there."""
        path = self._database.path
        if path is None:
            return
        left = Hot()
        for poll in filed.read(filed.place(path)) if self._filed is None else self._filed.polls():
            left.take(poll)
        spans = self._spans(left.uncommitted(_ALL))
        if spans and (self._filed is None or self._catalog.fresh):
            self._note_row(ledger.commit(spans, {}, filed=self._filed is not None), spans)
        if self._filed is None:
            filed.place(path).unlink(missing_ok=True)
        self._catalog.note(spans)
        self._hot.adopt(left)

    # -- commits ------------------------------------------------------------------------------

    def commit(self, memos: Mapping[str, str]) -> list[Stretch]:
        """Writes the oldest that waits, and the memos; what was written. Raises StoreError."""
        ledger = self.open()
        if self._share is not None:
            self._forget_others(self._share.held)
        batch = self._hot.uncommitted(BATCH)
        spans = self._spans(batch)
        self._write(ledger, spans, memos)
        self._hot.confirm(batch)
        return batch

    def take_back(self, polls: Iterable[Poll]) -> list[Stretch]:
        """Writes polls that were elsewhere meanwhile; what was written. Raises StoreError."""
        ledger = self.open()
        found = Hot()
        for poll in polls:
            found.take(poll)
        batch = found.uncommitted(_ALL)
        spans = self._spans(batch)
        if spans:
            self._write(ledger, spans, {})
        # Before what was taken since, which may correct it.
        self._hot.adopt(found)
        self._catalog.note(spans)
        return batch

    def _write(self, ledger: Ledger, spans: Sequence[Span], memos: Mapping[str, str]) -> None:
        write = ledger.commit if self._filed is None else partial(self._filed.commit, ledger)
        self._note_row(write(spans, memos, plain=self._plain is not None), spans)

    def _note_row(self, number: int | None, spans: Sequence[Span]) -> None:
        if number is not None:
            self._rows[number] = max(span.times[-1] for span in spans)

    def _spans(self, batch: Sequence[Stretch]) -> list[Span]:
        by_device: dict[str, list[Span]] = {}
        for stretch in batch:
            owner = self._catalog.device(stretch.device)
            spans = by_device.setdefault(stretch.device, [])
            spans += (span for span in stretch.rows(owner, self._catalog.one) if span.times)
        return [span for spans in by_device.values() for span in _for_journal(spans)]

    # -- chores -------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """The monotonic time of the next chore, in seconds."""
        return min(chore.due for chore in self._chores)

    def work(self) -> None:
        """One piece of the chore that is due first: a commit may want to come next.

        Raises StoreError.
        """
        chore = min(self._chores, key=attrgetter("due"))
        if self._clock.monotonic() >= chore.due:
            more = self._piece(chore.do)
            chore.due = self._clock.monotonic() + (_PAUSE if more else chore.every)

    def finish(self) -> None:
        """What is written now and then, now. Raises StoreError."""
        self._write_newest(self.open())

    def settle(self) -> None:
        """All that is due some time, now. Raises StoreError."""
        for do in (self._move_old, self._seal, self._close_day, self._write_newest, self._trim):
            while self._piece(do):
                pass
        if self._filed is None and self._share is None and self._rows:
            self._sealer.rewrite(self.open())
        for chore in self._chores:
            chore.due = self._clock.monotonic() + chore.every

    def _piece(self, do: Callable[[Ledger], bool]) -> bool:
        try:
            return do(self.open())
        except DamageError as damaged:
            self.open().put_aside(damaged, self._database.folder)
            return True

    def _seal(self, ledger: Ledger) -> bool:
        now = self._clock.now_ms()
        if self._sealer.begins(now):
            # What is sealed is looked at before it leaves the memory.
            self._look_newest()
        sealed, more = self._sealer.seal(ledger, now)
        if self._filed is not None:
            self._filed.stale |= sealed > 0
            if self._filed.stale and not more:
                # After the blocks: a crash in between leaves their polls twice, which is harmless.
                kept = map(self._sealer.span, self._hot.devices())
                self._filed.restart([span for span in kept if span is not None])
        return more

    def _move_old(self, ledger: Ledger) -> bool:
        if self._share is not None:
            return False  # stores on servers are younger than what is moved here
        rows, more = self._olden.move(ledger)
        for row in rows:
            self._note_newest(row)
        return more

    def _close_day(self, ledger: Ledger) -> bool:
        due = self._closer.due(self._clock.now_ms())
        if due:
            self._closer.close(ledger, due[0])
        return len(due) > 1

    def _write_newest(self, ledger: Ledger) -> bool:
        self._look_newest()
        rows, self._newest = self._newest, {}
        ledger.write_newest(list(rows.values()), self._catalog.sunk)
        self._written.update((one, row["time"]) for one, row in rows.items())
        self._catalog.sunk.clear()
        return False

    def _look_newest(self) -> None:
        for stretch in self._hot.tails():
            for row in newest_rows(stretch, self._catalog):
                self._note_newest(row)

    def _note_newest(self, row: Row) -> None:
        one, time = row["series_id"], row["time"]
        if self._newest.get(one, row)["time"] <= time and self._written.get(one, -1) < time:
            self._newest[one] = row

    def _trim(self, ledger: Ledger) -> bool:
        if (self._keep is None and self._plain is None) or self._leapt():
            return False
        now, more = self._clock.now_ms(), False
        if self._keep is not None:
            before = now - round(self._keep * 1000)
            more = ledger.trim(before // HOUR * HOUR, _TRIM_BLOCKS) == _TRIM_BLOCKS
        if self._plain is not None:
            more = ledger.trim_plain(now - round(self._plain * 1000)) or more
        return more

    def _leapt(self) -> bool:
        """Whether the wall clock was set forward: what then looks old may not be."""
        now = self._clock.now_ms() / 1000 - self._clock.monotonic()
        leap = now - self._began
        if leap > _LEAP:
            self._began = now
            self._leap = self._clock.monotonic()
            _log.warning("the clock leapt by %.0f s: nothing is deleted this time", leap)
        # It is believed once it has stood for some time.
        return self._clock.monotonic() - self._leap < TRIM_EVERY


def _filed(database: Database, catalog: Catalog) -> filed.Filed:
    if database.path is None:
        text = "store.journal: file is for SQLite; leave it out where a server keeps the store"
        raise StoreError(text, code="unavailable")
    return filed.Filed(filed.place(database.path), catalog)


def _for_journal(spans: list[Span]) -> list[Span]:
    """Rows as they are, which is quicker than to merge them; anything else as one span."""
    rows = len(spans) == 1 or all(isinstance(span, Sheet) for span in spans)
    return spans if rows else [merge(spans)]


def newest_rows(stretch: Stretch, catalog: Catalog) -> Iterator[Row]:
    """The newest value of each series among polls that are in the journal."""
    for column, time, value, doubt in stretch.newest():
        quality = Quality.GOOD if doubt is None else doubt.quality
        if doubt is None and isnan(value):
            quality = Quality.INVALID
        yield {
            "series_id": catalog.one(stretch.device, *column),
            "time": time,
            "value": None if isnan(value) else value,
            "quality": QUALITIES[quality],
            "reason": doubt.reason[:REASON_LENGTH] or None if doubt is not None else None,
        }
