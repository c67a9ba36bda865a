"""What the database has of blocks, hours and roll-ups, as compaction asks for it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from meterd.errors import StoreCode, StoreError
from meterd.store.blocks import block as blocks
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY
from meterd.store.compaction.write_batch import WriteBatch
from meterd.store.db.keys import block_hour, block_id, block_ids, rollup_id
from meterd.store.db.quarantine import DamageError
from meterd.store.db.schema import block, dirty, hour, rollup
from meterd.store.db.statements import CHUNK, Row

_LONG_AGO = 40 * DAY
# Made once, as they are asked for each device and hour: SQLAlchemy takes longer than SQLite does.
_HEADERS = (
    select(block.c.id, block.c.t1, block.c.n)
    .where(block.c.id.in_(bindparam("keys", expanding=True)))
    .order_by(block.c.id)
)
_PREVIOUS = (
    select(block.c.id, block.c.body)
    .where(
        block.c.id.between(bindparam("low"), bindparam("high")),
        block.c.device_id == bindparam("device"),
        block.c.t0 < bindparam("time"),
    )
    .order_by(block.c.id.desc())
    .limit(1)
)


class StoredBlocks(ABC):
    """What compaction reads, over any connection; it hands its changes to `apply`."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Connection]:
        """One transaction, committed at its end. Raises StoreError."""

    @abstractmethod
    def apply(self, change: WriteBatch) -> int | None:
        """All of a batch or nothing; the number of the WAL row of its carry. Raises StoreError."""

    def headers(self, device: int, day: int) -> list[tuple[int, int, int]]:
        """(id, t1, n) of a day's blocks, oldest first. Raises StoreError."""
        with self.transaction() as connection:
            rows = connection.execute(_HEADERS, {"keys": block_ids(device, day)})
            heads = [(row.id, row.t1, row.n) for row in rows]
        for key, last, count in heads:
            if not (isinstance(last, int) and isinstance(count, int)) or last < block_hour(key):
                text = f"block {key}: its row is damaged: last {last!r}, polls {count!r}"
                raise StoreError(text, code=StoreCode.CORRUPT)
        return heads

    def read(self, keys: Iterable[int]) -> list[Chunk]:
        """The chunks of these blocks, oldest first. Raises StoreError."""
        keys = list(keys)
        if not keys:
            return []
        statement = (
            select(block.c.id, block.c.body).where(block.c.id.in_(keys)).order_by(block.c.id)
        )
        with self.transaction() as connection:
            rows = list(connection.execute(statement))
        return [_decoded(row) for row in rows]

    def previous(self, device: int, time: int) -> Chunk | None:
        """The device's newest block that began before `time`, not too long ago."""
        low, high = block_id(0, max(0, time - _LONG_AGO)), block_id(device, time)
        values = {"low": low, "high": high, "device": device, "time": time}
        with self.transaction() as connection:
            row = connection.execute(_PREVIOUS, values).first()
        return None if row is None else _decoded(row)

    def newest_time(self, device: int, since: int) -> int | None:
        """The last time in the device's blocks, where that is `since` (Unix ms) or later."""
        of_blocks = max((t1 for _, t1, _ in self.headers(device, since // DAY)), default=None)
        statement = (
            select(block.c.t1)
            .where(block.c.id >= block_id(0, since), block.c.device_id == device)
            .order_by(block.c.id.desc())
            .limit(1)
        )
        with self.transaction() as connection:
            last: int | None = connection.scalar(statement)
        times = [time for time in (of_blocks, last) if time is not None and time >= since]
        return max(times, default=None)

    def hours(self, keys: Sequence[int]) -> dict[int, Row]:
        """The hours' rows there are. Raises StoreError."""
        rows: dict[int, Row] = {}
        with self.transaction() as connection:
            for start in range(0, len(keys), CHUNK):
                statement = select(hour).where(hour.c.id.in_(list(keys[start : start + CHUNK])))
                for row in connection.execute(statement).mappings():
                    rows[row["id"]] = dict(row)
        return rows

    def most_rolled(self, series: Sequence[int], day: int) -> int:
        """The most samples that a roll-up of these series counts of a day. Raises StoreError."""
        keys, most = [rollup_id(number, day) for number in series], 0
        with self.transaction() as connection:
            for start in range(0, len(keys), CHUNK):
                mine = rollup.c.id.in_(keys[start : start + CHUNK])
                most = max(most, connection.scalar(select(func.max(rollup.c.n)).where(mine)) or 0)
        return most

    def before(self, series: int, day: int) -> tuple[int, float] | None:
        """The last sample of a series before a UTC day, by its roll-ups. Raises StoreError."""
        earlier = rollup.c.id.between(rollup_id(series, 0), rollup_id(series, day) - 1)
        statement = (
            select(rollup.c.last_time, rollup.c.last)
            .where(earlier, rollup.c.n > 0)
            .order_by(rollup.c.id.desc())
            .limit(1)
        )
        with self.transaction() as connection:
            row = connection.execute(statement).first()
        return None if row is None or row.last is None else (row.last_time, row.last)

    def after(self, series: int, day: int) -> tuple[int, float] | None:
        """The first sample of a series after a UTC day, by its roll-ups. Raises StoreError."""
        later = rollup.c.id.between(rollup_id(series, day) + 1, rollup_id(series + 1, 0) - 1)
        statement = (
            select(rollup.c.first_time, rollup.c.first)
            .where(later, rollup.c.n > 0)
            .order_by(rollup.c.id)
            .limit(1)
        )
        with self.transaction() as connection:
            row = connection.execute(statement).first()
        return None if row is None or row.first is None else (row.first_time, row.first)

    def dirty(self) -> set[int]:
        """The days whose roll-ups are not right, by dirty_id. Raises StoreError."""
        with self.transaction() as connection:
            return set(connection.scalars(select(dirty.c.id)))


def _decoded(row: Any) -> Chunk:
    try:
        return blocks.decode(row.body)
    except StoreError as error:
        raise DamageError("block", row.id, str(error)) from error
