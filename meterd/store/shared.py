"""The ledger of one of several meterds: it writes for the devices that are leased to it alone.

A number of the journal is a row for each device here: `number << 14 | device`.
"""

import logging
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, delete, func, insert, select

from meterd.errors import StoreError
from meterd.store.catalog import Catalog
from meterd.store.connections import Database
from meterd.store.corrupt import DamageError
from meterd.store.format import journal as journals
from meterd.store.format.columns import Span
from meterd.store.hot import Hot
from meterd.store.keys import dirty_of
from meterd.store.ledger import Ledger
from meterd.store.polls import replay
from meterd.store.schema import journal
from meterd.store.share import Leased, Share
from meterd.store.statements import Row

_BITS = 14

_log = logging.getLogger(__name__)


class SharedLedger(Ledger):
    """A ledger that touches nothing of other meterds' devices (cluster.py)."""

    def __init__(self, database: Database, catalog: Catalog, share: Share) -> None:
        """It is about what is held now; once that differs it is of no use. Raises StoreError."""
        self._share = share
        self.held = dict(share.held)
        self._ours = {one.id: one.token for one in self.held.values()}
        super().__init__(database, catalog)
        try:
            with self.transaction() as connection:
                self._split(connection)
        except BaseException:
            self.close()
            raise

    def _greet(self, connection: Connection) -> None:
        """Others are welcome."""

    @contextmanager
    def writing(self, devices: Iterable[int]) -> Iterator[Connection]:
        with self.transaction() as connection:
            self._share.fence(connection, devices, self._ours)
            yield connection

    def commit(
        self,
        spans: Sequence[Span],
        memos: Mapping[str, str],
        *,
        plain: bool = False,
        filed: bool = False,
    ) -> int | None:
        spans = [span for span in spans if span.device in self._ours]
        return super().commit(spans, memos, plain=plain, filed=filed)

    def _rows(self, number: int, spans: Sequence[Span]) -> list[Row]:
        return [
            {
                "id": number << _BITS | span.device,
                "device_id": span.device,
                "body": journals.encode([span], self.digits),
            }
            for span in spans
        ]

    def _carried(self, number: int, body: bytes) -> list[Row]:
        return self._rows(number, journals.decode(body))

    def _keys(self, numbers: Sequence[int]) -> list[int]:
        return [number << _BITS | one for number in numbers for one in self._ours]

    def numbers(self) -> list[int]:
        asked = select(journal.c.id).where(journal.c.device_id.in_(self._ours))
        with self.transaction() as connection:
            return sorted({key >> _BITS for key in connection.scalars(asked)})

    def journal(self) -> Iterator[tuple[int, list[Span]]]:
        """Every number of the devices that are held, oldest first. Raises StoreError."""
        asked = select(journal.c.id, journal.c.body).where(journal.c.device_id.in_(self._ours))
        found: dict[int, list[Span]] = {}
        with self.transaction() as connection:
            for row in connection.execute(asked.order_by(journal.c.id)):
                try:
                    found.setdefault(row.id >> _BITS, []).extend(journals.decode(row.body))
                except StoreError as error:
                    raise DamageError("journal", row.id, str(error)) from error
        yield from found.items()

    def dirty(self) -> set[int]:
        return {key for key in super().dirty() if dirty_of(key)[0] in self._ours}

    def _split(self, connection: Connection) -> None:
        """Rows of a meterd that was alone become rows of one device each."""
        asked = select(journal.c.id, journal.c.body).where(journal.c.device_id.is_(None))
        alone = list(connection.execute(asked.order_by(journal.c.id).with_for_update()))
        top = connection.scalar(
            select(func.max(journal.c.id)).where(journal.c.device_id.is_not(None))
        )
        self._next = ((top or 0) >> _BITS) + 1
        for row in alone:
            spans = journals.decode(row.body)
            connection.execute(insert(journal), self._rows(self._next, spans))
            connection.execute(delete(journal).where(journal.c.id == row.id))
            self._next += 1


def taken_over(
    ledger: SharedLedger, adopted: Mapping[str, Leased], catalog: Catalog
) -> tuple[Hot, dict[int, int]]:
    """What the journal has of devices that are new here, and the newest time of each number.

    Raises StoreError.
    """
    # Read again as a whole: what is here already is the same, and the last one counts.
    found = Hot()
    rows = replay(ledger.journal(), found, catalog)
    for name in found.devices():
        if ledger.held.get(name) == adopted.get(name):
            found.drop(name)
    return found, rows


def forget_others(hot: Hot, held: Container[str]) -> None:
    """Polls of devices that other meterds have by now are theirs to write."""
    for name in hot.devices():
        if name not in held and (lost := hot.drop(name)):
            _log.warning("%d samples of %s are dropped: it is not ours", lost, name)
