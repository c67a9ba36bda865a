"""Plain columns beside packed quarter hours: these have a checksum, those have none."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any, TypeAlias

from sqlalchemy import Connection, select

from meterd.errors import StoreError
from meterd.store.blocks import rollup_codec
from meterd.store.blocks.rollup import QUARTER_MS, Quarters
from meterd.store.blocks.slicing import DAY, HOUR
from meterd.store.compaction import rollups
from meterd.store.db.keys import hour_id, rollup_id
from meterd.store.db.schema import hour

COLUMNS = ("n", "min", "max", "sum")
EDGES = ("first_time", "first", "last_time", "last")

Day: TypeAlias = tuple[int, int, Quarters]
"""Series, day, and its quarter hours."""


def of_rollup(row: Mapping[str, Any]) -> tuple[Quarters | None, list[str]]:
    """The packed quarter hours, and how the row's plain columns differ from them."""
    try:
        day, quarters = rollup_codec.unpack(row["quarters"])
    except StoreError as error:
        return None, [str(error)]
    wrong = []
    if row["id"] != rollup_id(row["series_id"], row["day"]):
        wrong.append("its id is not that of its series and day")
    total = rollups.total(quarters.values())
    odd = [name for name in (*COLUMNS, "increase") if not equal(row[name], total[name])]
    if day != row["day"]:
        odd.append("its day")
    if odd := [*odd, *_edges(row, quarters)]:
        wrong.append(f"{', '.join(odd)} differ from its quarter hours")
    return (None if wrong else quarters), wrong


def _edges(row: Mapping[str, Any], quarters: Quarters) -> Iterator[str]:
    """The first and the last sample lie in the first and the last quarter hour that has any."""
    full = sorted(number for number, quarter in quarters.items() if quarter.n)
    for name, number in zip(("first", "last"), (full[0], full[-1]) if full else (), strict=False):
        time, value, quarter_ = row[f"{name}_time"], row[name], quarters[number]
        if time is None or time // QUARTER_MS != number:
            yield f"{name}_time"
        if value is None or not quarter_.min <= value <= quarter_.max:
            yield name
    if not full:
        yield from (name for name in EDGES if row[name] is not None)


def of_hours(connection: Connection, days: Sequence[Day]) -> Iterator[tuple[int, int, str]]:
    """Series, day, and how the plain rows of its hours differ from the quarter hours.

    Days without such rows differ in nothing: whether they are kept is an option.
    """
    keys = {
        (series, day): [hour_id(series, day * DAY // HOUR + number) for number in range(24)]
        for series, day, _ in days
    }
    statement = select(hour).where(hour.c.id.in_([key for hours in keys.values() for key in hours]))
    stored = {row["id"]: dict(row) for row in connection.execute(statement).mappings()}
    for series, day, quarters in days:
        if stored.keys().isdisjoint(keys[series, day]):
            continue  # none are kept, or were then
        due = {row["id"]: row for row in rollups.hour_values(series, quarters)}
        wrong = [
            f"{number:02}:00 {_difference(stored.get(key), due.get(key))}"
            for number, key in enumerate(keys[series, day])
            if _difference(stored.get(key), due.get(key))
        ]
        if wrong:
            yield series, day, "; ".join(wrong)


def _difference(stored: Mapping[str, Any] | None, due: Mapping[str, Any] | None) -> str:
    if stored is None or due is None:
        return "" if stored is due else ("is missing" if stored is None else "has no samples")
    odd = [name for name in (*COLUMNS, "increase") if not equal(stored[name], due[name])]
    return f"{', '.join(odd)} differ" if odd else ""


def equal(value: float | None, other: float | None) -> bool:
    if value is None or other is None:
        return value is other
    return value == other or (isnan(value) and isnan(other))
