"""The SQL that readers ask, in any database's words."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select

from meterd.errors import StoreError
from meterd.store.asked import Asked, Name
from meterd.store.buckets import State
from meterd.store.schema import INVALID, device, sample, series

MAX_ROWS = 20_000_000
"""Rows that one question may look through: seconds of one core, with the widest answer."""

MAX_POINTS = 500_000
"""Rows that one answer may bring into memory: about 100 MB."""

Window = tuple[int, int]
"""start <= time < end, Unix ms."""


def names(connection: Connection, asked: Asked) -> dict[int, Name]:
    """The ids and names of the series that are meant."""
    columns = select(series.c.id, device.c.name, series.c.quantity, series.c.unit)
    found: dict[int, Name] = {}
    for one, owner, quantity, unit in connection.execute(columns.join_from(series, device)):
        if asked.wants_device(owner) and asked.wants_quantity(quantity):
            found[one] = owner, quantity, unit
    return found


def need_bounded(connection: Connection, window: Window) -> None:
    """Raises StoreError(code="too_much") where too many rows lie in the window."""
    few = select(literal(1)).where(*_within(window)).limit(MAX_ROWS + 1).subquery()
    rows = connection.scalar(select(func.count()).select_from(few)) or 0
    if rows > MAX_ROWS:
        text = f"more than {MAX_ROWS:,} samples lie in that range; ask for a shorter one"
        raise StoreError(text, code="too_much")


def raw(
    connection: Connection, ids: Sequence[int], window: Window
) -> Iterator[tuple[int, int, float]]:
    """(series, time, value) of every sample that counts."""
    columns = select(sample.c.series, sample.c.time, sample.c.value)
    return _bounded(connection, columns.where(*_counting(ids, window)))


def pieces(
    connection: Connection, ids: Sequence[int], window: Window, step: int, agg: str
) -> Iterator[tuple[int, int, State]]:
    """(series, start of the bucket, what its samples come to)."""
    if window[0] >= window[1]:
        return
    start = (sample.c.time - sample.c.time % step).label("start")
    counting = _counting(ids, window)
    if agg == "last":
        question: Select[Any] = _last(start, counting)
    else:
        question = select(sample.c.series, start, *_states(agg)).where(*counting)
        question = question.group_by(sample.c.series, start)
    for one, begin, value, second in _bounded(connection, question):
        yield one, begin, (value, second)


def _states(agg: str) -> tuple[ColumnElement[float], ColumnElement[int]]:
    value = sample.c.value
    if agg == "min":
        return func.min(value), literal(0)
    if agg == "max":
        return func.max(value), literal(0)
    return func.sum(value), func.count()


def _last(start: ColumnElement[int], counting: Sequence[ColumnElement[bool]]) -> Select[Any]:
    newest = select(sample.c.series, start, func.max(sample.c.time).label("time"))
    newest = newest.where(*counting).group_by(sample.c.series, start)
    at = newest.subquery()
    columns = select(sample.c.series, at.c.start, sample.c.value, sample.c.time)
    return columns.join(at, (sample.c.time == at.c.time) & (sample.c.series == at.c.series))


def _within(window: Window) -> tuple[ColumnElement[bool], ...]:
    return sample.c.time >= window[0], sample.c.time < window[1]


def _counting(ids: Sequence[int], window: Window) -> tuple[ColumnElement[bool], ...]:
    known = sample.c.value.is_not(None), sample.c.quality != INVALID
    return *_within(window), sample.c.series.in_(ids), *known


def _bounded(connection: Connection, question: Select[Any]) -> Iterator[Any]:
    for count, row in enumerate(connection.execute(question.limit(MAX_POINTS + 1))):
        if count == MAX_POINTS:
            text = (
                f"the answer has more than {MAX_POINTS:,} points; "
                "ask for fewer series, a shorter range or a longer step"
            )
            raise StoreError(text, code="too_much")
        yield row
