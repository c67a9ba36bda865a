"""The tables `correction` and `corrected`: who marked what, and what stood there before.

All but `listed` is for the writer's thread, and raises StoreError.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from meterd.store.format import block as blocks
from meterd.store.format.columns import Span
from meterd.store.ledger import Ledger
from meterd.store.schema import corrected, correction, hour, newest
from meterd.store.statements import CHUNK

LONGEST_WHY = 500
LONGEST_WHO = 190


@dataclass(frozen=True, slots=True)
class Correction:
    """One interval start <= time < end; times are Unix ms. `n` counts the samples marked.

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

    @property
    def state(self) -> str:
        """`marked`, `undone`, or `unfinished`: under way, or broken off."""
        if self.undone is not None:
            return "undone"
        return "unfinished" if self.done is None or self.undone_by else "marked"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be marked, why, and who says so."""

    device: str
    quantity: str
    start: int
    end: int
    why: str
    who: str


def begin(ledger: Ledger, ask: Ask, now: int) -> int:
    with ledger.transaction() as connection:
        number = (connection.scalar(select(func.max(correction.c.id))) or 0) + 1
        row = {"id": number, "device": ask.device, "quantity": ask.quantity, "n": 0}
        row |= {"start_ms": ask.start, "end_ms": ask.end, "made": now}
        row |= {"why": ask.why[:LONGEST_WHY], "who": ask.who[:LONGEST_WHO]}
        connection.execute(insert(correction), row)
    return number


def keep(ledger: Ledger, number: int, key: int, old: Span) -> None:
    row = {"id": key, "correction_id": number, "n": old.samples, "body": blocks.encode(old)}
    with ledger.transaction() as connection:
        connection.execute(insert(corrected), row)


def note(ledger: Ledger, number: int, values: dict[str, Any]) -> None:
    with ledger.transaction() as connection:
        connection.execute(update(correction).where(correction.c.id == number).values(values))


def renew(ledger: Ledger, lasts: dict[int, dict[str, Any]]) -> None:
    """The newest value, too, where it is one of these."""
    with ledger.transaction() as connection:
        for one, row in lasts.items():
            same = (newest.c.series_id == one) & (newest.c.time == row["time"])
            connection.execute(update(newest).where(same).values(row))


def forget_hours(ledger: Ledger, keys: Sequence[int]) -> None:
    """Those of the plain rows that say there are samples."""
    with ledger.transaction() as connection:
        for start in range(0, len(keys), CHUNK):
            some = hour.c.id.in_(keys[start : start + CHUNK])
            connection.execute(delete(hour).where(some, hour.c.n > 0))


def parts(ledger: Ledger, number: int) -> list[int]:
    asked = select(corrected.c.id).where(corrected.c.correction_id == number)
    with ledger.transaction() as connection:
        return list(connection.scalars(asked.order_by(corrected.c.id)))


def body(ledger: Ledger, key: int) -> Span:
    with ledger.transaction() as connection:
        body = connection.scalar(select(corrected.c.body).where(corrected.c.id == key))
    return blocks.decode(body or b"")


def every(ledger: Ledger) -> list[Correction]:
    with ledger.transaction() as connection:
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
