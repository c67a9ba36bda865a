"""The tables `correction` and `corrected`: who corrected what, and what stood there before.

All but `listed` is for the store's thread, and raises StoreError.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from meterd.store.blocks import block as blocks
from meterd.store.blocks.chunk import Chunk
from meterd.store.compaction.session import StoreSession
from meterd.store.db.schema import corrected, correction, newest

LONGEST_WHY = 500
LONGEST_WHO = 190


@dataclass(frozen=True, slots=True)
class Correction:
    """One interval start <= time < end; times are Unix ms. `n` counts the samples corrected.

    `value` was entered in the place of them, in their unit; None where they were marked as invalid.
    `lost` were deleted (store.keep.raw) before they could be put back.

    `done` is None while it is under way, or where it was broken off; `undone` until it is, though
    `undone_by` says at the beginning who undoes it.
    """

    id: int
    device: str
    quantity: str
    start: int
    end: int
    n: int
    why: str
    who: str
    made: int
    done: int | None = None
    undone: int | None = None
    undone_by: str | None = None
    value: float | None = None
    lost: int | None = None

    @property
    def state(self) -> str:
        """`marked`, `set`, `undone`, or `unfinished`: under way, or broken off."""
        if self.undone is not None:
            return "undone"
        if self.done is None or self.undone_by:
            return "unfinished"
        return "marked" if self.value is None else "set"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be marked or, with a `value`, set; why, and who says so.

    The value is in `unit`; without one in that of the series.
    """

    device: str
    quantity: str
    start: int
    end: int
    why: str
    who: str
    value: float | None = None
    unit: str = ""


def begin(session: StoreSession, ask: Ask, now: int) -> int:
    with session.transaction() as connection:
        number = (connection.scalar(select(func.max(correction.c.id))) or 0) + 1
        row = {"id": number, "device": ask.device, "quantity": ask.quantity, "n": 0}
        row |= {"start_ms": ask.start, "end_ms": ask.end, "made": now}
        row |= {"why": ask.why[:LONGEST_WHY], "who": ask.who[:LONGEST_WHO], "value": ask.value}
        connection.execute(insert(correction), row)
    return number


def keep(session: StoreSession, number: int, key: int, old: Chunk) -> None:
    row = {"id": key, "correction_id": number, "n": old.samples, "body": blocks.encode(old)}
    with session.transaction() as connection:
        connection.execute(insert(corrected), row)


def note(session: StoreSession, number: int, values: dict[str, Any]) -> None:
    with session.transaction() as connection:
        connection.execute(update(correction).where(correction.c.id == number).values(values))


def renew(session: StoreSession, lasts: Mapping[int, Mapping[str, Any]]) -> None:
    """Updates the rows of newest values among the corrected samples."""
    with session.transaction() as connection:
        for number, row in lasts.items():
            same = (newest.c.series_id == number) & (newest.c.time == row["time"])
            connection.execute(update(newest).where(same).values(row))


def over(session: StoreSession, found: Correction) -> int | None:
    """A later correction that is not undone and has samples in common with this one."""
    for other in reversed(every(session)):
        same = (other.device, other.quantity) == (found.device, found.quantity)
        meets = other.start < found.end and found.start < other.end
        if other.id > found.id and other.undone is None and same and meets:
            mine = _samples(session, found.id)
            if mine & _samples(session, other.id):
                return other.id
    return None


def _samples(session: StoreSession, number: int) -> set[tuple[int, int]]:
    chunks = (body(session, key) for key in parts(session, number))
    return {
        (column.series, time)
        for chunk in chunks
        for column in chunk.columns
        for time in chunk.times_of(column)
    }


def parts(session: StoreSession, number: int) -> list[int]:
    statement = select(corrected.c.id).where(corrected.c.correction_id == number)
    with session.transaction() as connection:
        return list(connection.scalars(statement.order_by(corrected.c.id)))


def body(session: StoreSession, key: int) -> Chunk:
    with session.transaction() as connection:
        body = connection.scalar(select(corrected.c.body).where(corrected.c.id == key))
    return blocks.decode(body or b"")


def extent(session: StoreSession, keys: Sequence[int]) -> tuple[int, int] | None:
    """The times (Unix ms) of the first and the last sample of these parts, oldest first."""
    if not keys:
        return None
    first, last = body(session, keys[0]), body(session, keys[-1])
    return (
        min(first.times[column.rows[0]] for column in first.columns),
        max(last.times[column.rows[-1]] for column in last.columns),
    )


def every(session: StoreSession) -> list[Correction]:
    with session.transaction() as connection:
        return listed(connection)


def listed(connection: Connection) -> list[Correction]:
    """The newest first."""
    rows = connection.execute(select(correction).order_by(correction.c.id.desc()))
    return list(_corrections(rows.mappings()))


def _corrections(rows: Any) -> Iterator[Correction]:
    for row in rows:
        fields = dict(row)
        fields["start"], fields["end"] = fields.pop("start_ms"), fields.pop("end_ms")
        yield Correction(**fields)
