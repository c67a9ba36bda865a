"""What the writer's thread does to the store: commits, sealing, closing days, retention."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from meterd.model.clock import Clock
from meterd.model.sample import Quality
from meterd.store import migrate
from meterd.store.catalog import Catalog
from meterd.store.closing import Closer
from meterd.store.columns import Span, merge
from meterd.store.cuts import HOUR
from meterd.store.database import Database
from meterd.store.hot import Hot, Stretch
from meterd.store.ledger import Ledger, Row
from meterd.store.polls import replay
from meterd.store.schema import QUALITIES, REASON_LENGTH
from meterd.store.sealing import Sealer

BATCH = 200_000  # samples a transaction, so that a long backlog is confirmed bit by bit
SEAL_EVERY = 60.0  # seconds between two looks at what may be sealed
NEWEST_EVERY = 900.0  # seconds; rows that people read, at half a byte a sample on flash
TRIM_EVERY = 3600.0
_TRIM_BLOCKS = 200
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
    ) -> None:
        """`keep`: how many seconds raw samples stay; None is for ever."""
        self._database = database
        self._hot = hot
        self._catalog = catalog
        self._clock = clock
        self._keep = keep
        self._ledger: Ledger | None = None
        self._rows: dict[int, int] = {}
        self._loaded = False
        self._sealer = Sealer(hot, catalog, self._rows, set())
        self._closer = Closer(hot, catalog, self._sealer)
        self._newest: dict[int, Row] = {}
        self._written: dict[int, int] = {}  # the time of each series' row in `newest`
        self._began = clock.now_ms() / 1000 - clock.monotonic()
        now = clock.monotonic()
        self._chores = [
            _Chore(self._seal, SEAL_EVERY, now + SEAL_EVERY),
            _Chore(self._close_day, SEAL_EVERY, now + SEAL_EVERY),
            _Chore(self._write_newest, NEWEST_EVERY, now + SEAL_EVERY),
            _Chore(self._trim, TRIM_EVERY, now),
        ]

    def open(self) -> Ledger:
        """The store, open; opened again after each failure, as it may be another one by now.

        Raises StoreError.
        """
        if self._ledger is None:
            migrate.upgrade(self._database)
            ledger = Ledger(self._database, self._catalog)
            try:
                self._load(ledger)
            except BaseException:
                ledger.close()
                raise
            self._ledger = ledger
        return self._ledger

    def fail(self) -> None:
        """Something went wrong: nothing of the open connection is trusted any more."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    close = fail

    def _load(self, ledger: Ledger) -> None:
        self._sealer.dirty |= ledger.dirty()
        if self._loaded:
            # A commit whose confirmation was lost may have left a row that is not known here.
            now = self._clock.now_ms()
            self._rows.update((n, now) for n in ledger.numbers() if n not in self._rows)
            return
        found = Hot()
        self._rows.update(replay(ledger.journal(), found, self._catalog))
        self._hot.adopt(found)
        self._loaded = True

    # -- commits ------------------------------------------------------------------------------

    def commit(self, memos: Mapping[str, str]) -> list[Stretch]:
        """Writes the oldest that waits, and the memos; what was written. Raises StoreError."""
        ledger = self.open()
        batch = self._hot.uncommitted(BATCH)
        spans = self._spans(batch)
        number = ledger.commit(spans, memos)
        if number is not None:
            self._rows[number] = max(span.times[-1] for span in spans)
        self._hot.confirm(batch)
        return batch

    def _spans(self, batch: Sequence[Stretch]) -> list[Span]:
        by_device: dict[str, list[Span]] = {}
        for stretch in batch:
            owner = self._catalog.device(stretch.device)
            spans = by_device.setdefault(stretch.device, [])
            spans += (span for span in stretch.spans(owner, self._catalog.one) if span.times)
        return [spans[0] if len(spans) == 1 else merge(spans) for spans in by_device.values()]

    # -- chores -------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """The monotonic time of the next chore, in seconds."""
        return min(chore.due for chore in self._chores)

    def work(self) -> None:
        """One piece of each chore that is due. Raises StoreError."""
        for chore in self._chores:
            if self._clock.monotonic() >= chore.due:
                more = chore.do(self.open())
                chore.due = self._clock.monotonic() + (_PAUSE if more else chore.every)

    def finish(self) -> None:
        """What is written now and then, now. Raises StoreError."""
        self._write_newest(self.open())

    def settle(self) -> None:
        """All that is due some time, now. Raises StoreError."""
        for do in (self._seal, self._close_day, self._write_newest, self._trim):
            while do(self.open()):
                pass

    def _seal(self, ledger: Ledger) -> bool:
        self._sealer.seal(ledger, self._clock.now_ms())
        return False

    def _close_day(self, ledger: Ledger) -> bool:
        due = self._closer.due(self._clock.now_ms())
        if due:
            self._closer.close(ledger, due[0])
        return len(due) > 1

    def _write_newest(self, ledger: Ledger) -> bool:
        for device in self._hot.devices():
            for stretch in self._hot.stretches(device, kept=True):
                for row in newest_rows(stretch, self._catalog):
                    self._note_newest(row)
        rows, self._newest = self._newest, {}
        ledger.write_newest(list(rows.values()), self._catalog.sunk)
        self._written.update((one, row["time"]) for one, row in rows.items())
        self._catalog.sunk.clear()
        return False

    def _note_newest(self, row: Row) -> None:
        one, time = row["series_id"], row["time"]
        if self._newest.get(one, row)["time"] <= time and self._written.get(one, -1) < time:
            self._newest[one] = row

    def _trim(self, ledger: Ledger) -> bool:
        if self._keep is None or self._leapt():
            return False
        before = self._clock.now_ms() - round(self._keep * 1000)
        return ledger.trim(before // HOUR * HOUR, _TRIM_BLOCKS) == _TRIM_BLOCKS

    def _leapt(self) -> bool:
        """Whether the wall clock was set forward: what then looks old may not be."""
        now = self._clock.now_ms() / 1000 - self._clock.monotonic()
        leap = now - self._began
        if leap > _LEAP:
            # It is believed once it has stood for as long as raw samples are looked at.
            self._began = now
            _log.warning("the clock leapt by %.0f s: nothing is deleted this time", leap)
            return True
        return False


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
