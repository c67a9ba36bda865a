"""Meters that took the place of others: from when on a device's counters are another meter's.

They stand under `replaced DEVICE` in the table `memo`, oldest first; whoever counts guarded totals
anew begins a segment there. Functions are for the store's thread, and raise StoreError.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select

from meterd.store.db.connections import Transactions
from meterd.store.db.schema import memo
from meterd.store.db.statements import replace_rows

NOTICED = "meterd"
# What meterd noticed of a meter so near to when a person says it was replaced is the same. In ms.
_NEAR = 86_400_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Replacement:
    """From `at` on (Unix ms) another meter was read; `made` is when that was noted, by `who`."""

    at: int
    made: int
    who: str = ""


def of(store: Transactions, device: str) -> list[Replacement]:
    """Those of a device, oldest first."""
    with store.transaction() as connection:
        return read(connection, device)


def times(store: Transactions, device: str) -> list[int]:
    """From when on another meter was read, each time (Unix ms), oldest first."""
    return [replacement.at for replacement in of(store, device)]


def add(store: Transactions, device: str, replacement: Replacement) -> None:
    """Adds a replacement. One noticed by meterd gives way to one that a person entered near it."""

    def stays(former: Replacement) -> bool:
        is_near = abs(former.at - replacement.at) < _NEAR and NOTICED in (
            former.who,
            replacement.who,
        )
        return former.at != replacement.at and not is_near

    with store.transaction() as connection:
        before = read(connection, device)
        if replacement.who == NOTICED and not all(map(stays, before)):
            return
        write(connection, device, [*filter(stays, before), replacement])


def remove(store: Transactions, device: str, at: int) -> bool:
    """Removes the replacement at that time; returns whether there was one."""
    with store.transaction() as connection:
        before = read(connection, device)
        left = [replacement for replacement in before if replacement.at != at]
        write(connection, device, left)
    return len(left) < len(before)


def read(connection: Connection, device: str) -> list[Replacement]:
    """Those of a device, oldest first."""
    body = connection.scalar(select(memo.c.body).where(memo.c.name == _name(device)))
    try:
        return [Replacement(**each) for each in json.loads(body or "[]")]
    except (ValueError, TypeError) as error:
        log.error("%s: when it was replaced cannot be read: %s", device, error)
        return []


def write(connection: Connection, device: str, replacements: Iterable[Replacement]) -> None:
    """Replaces the list of a device."""
    rows = [asdict(each) for each in sorted(replacements, key=lambda each: each.at)]
    if rows:
        replace_rows(connection, memo, [{"name": _name(device), "body": json.dumps(rows)}])
    else:
        connection.execute(delete(memo).where(memo.c.name == _name(device)))


def _name(device: str) -> str:
    return f"replaced {device}"
