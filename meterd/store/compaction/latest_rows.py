"""Latest rows: the newest value of each series as a plain row, for people with a SQL client."""

from meterd.model.clock import Clock
from meterd.store.blocks.slicing import HOUR
from meterd.store.compaction.hours import GRACE
from meterd.store.compaction.session import StoreSession
from meterd.store.db.statements import Row
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.view import newest_rows


class LatestRows:
    """In the store's thread. Keeps rows that are newer than those written."""

    def __init__(self, head: Head, catalog: Catalog, clock: Clock) -> None:
        self._head = head
        self._catalog = catalog
        self._clock = clock
        self._hour = 0  # in which `write_hourly` wrote
        self._rows: dict[int, Row] = {}
        self._written: dict[int, int] = {}  # the time of each series' row

    def load(self) -> None:
        """Takes the last times from the catalogue: imported history is not newer than these."""
        lasts = ((entry.id, entry.last) for entry in self._catalog.by_id.values())
        self._written.update((number, last) for number, last in lasts if last is not None)

    def forget(self) -> None:
        """Forgets all rows: the database is another one."""
        self._rows.clear()
        self._written.clear()
        self._hour = 0

    def look(self) -> None:
        """Notes the newest row of each series in the head."""
        for batch in self._head.tails():
            for row in newest_rows(batch, self._catalog):
                self.note(row)

    def note(self, row: Row) -> None:
        number, time = row["series_id"], row["time"]
        if self._rows.get(number, row)["time"] <= time and self._written.get(number, -1) < time:
            self._rows[number] = row

    def write(self, session: StoreSession) -> bool:
        """Writes every new row; returns False (nothing is left). Raises StoreError."""
        self.look()
        rows, self._rows = self._rows, {}
        session.write_newest(list(rows.values()), self._catalog.sunk)
        self._written.update((number, row["time"]) for number, row in rows.items())
        self._catalog.sunk.clear()
        return False

    def write_hourly(self, session: StoreSession) -> bool:
        """`write`, once an hour, when its polls are compacted: both reach the disk together."""
        hour = (self._clock.now_ms() - GRACE) // HOUR
        if hour == self._hour:
            return False
        self._hour = hour
        return self.write(session)
