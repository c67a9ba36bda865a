"""Keeps each series' first and last time without touching its row in every commit.

What holds at every moment, with horizon = the greatest `series.last`:

    every sample with time <= horizon lies within its series' [first, last];
    every other sample is younger than all that is noted, and found by its time.

So the rows are rewritten once a minute instead of with each commit (a tenth of all writes
for a quick meter, half of them for a slow one), and readers look through a minute of rows.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import BindParameter, Connection, bindparam, case, func, or_, select, update

from meterd.store.schema import sample, series

Extent = tuple[int, int, int]
"""A series' id, and the first and last time of some of its samples."""

_ROW: BindParameter[int] = bindparam("row")
_FIRST: BindParameter[int] = bindparam("at_first")
_LAST: BindParameter[int] = bindparam("at_last")
_WIDEN = (
    update(series)
    .where(series.c.id == _ROW)
    .values(
        first=case(
            (or_(series.c.first.is_(None), series.c.first > _FIRST), _FIRST), else_=series.c.first
        ),
        last=case(
            (or_(series.c.last.is_(None), series.c.last < _LAST), _LAST), else_=series.c.last
        ),
    )
)


def horizon(connection: Connection) -> int:
    """The time (Unix ms) up to which the series' rows tell; -1 where they tell nothing."""
    latest = connection.scalar(select(func.max(series.c.last)))
    return -1 if latest is None else int(latest)


def beyond(connection: Connection, time: int) -> Iterator[Extent]:
    """The extents of all samples younger than `time`."""
    found = select(sample.c.series, func.min(sample.c.time), func.max(sample.c.time))
    for row in connection.execute(found.where(sample.c.time > time).group_by(sample.c.series)):
        yield row[0], row[1], row[2]


class Edges:
    """The writer's side; made and used inside its transactions."""

    def __init__(self, connection: Connection) -> None:
        """Catches up with what the last run had not noted."""
        self._horizon = horizon(connection)
        self._fresh: dict[tuple[int, ...], tuple[int, int]] = {}
        self._late: list[Extent] = []
        self._write(connection, list(beyond(connection, self._horizon)))

    def note(self, ids: tuple[int, ...], time: int) -> None:
        """One sample of each of these series."""
        if time <= self._horizon:
            self._late += ((one, time, time) for one in ids)
            return
        first, last = self._fresh.get(ids, (time, time))
        self._fresh[ids] = min(first, time), max(last, time)

    def settle(self, connection: Connection) -> None:
        """Late samples cannot wait: no reader would look for them beyond the horizon."""
        if self._late:
            self._write(connection, self._late)
            self._late = []

    def write(self, connection: Connection) -> None:
        """Notes everything."""
        fresh = [(one, first, last) for ids, (first, last) in self._fresh.items() for one in ids]
        self._write(connection, fresh)
        self._fresh.clear()

    def _write(self, connection: Connection, extents: Iterable[Extent]) -> None:
        rows = [{"row": one, "at_first": first, "at_last": last} for one, first, last in extents]
        if rows:
            connection.execute(_WIDEN, rows)
            self._horizon = max(self._horizon, *(row["at_last"] for row in rows))
