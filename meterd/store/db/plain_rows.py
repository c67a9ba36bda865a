"""Samples as plain rows of the table `sample`, for people with a SQL client (`store.rows`)."""

from collections.abc import Iterable, Iterator, Sequence
from math import isnan
from typing import Any

from sqlalchemy import Connection, delete, select, true

from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.blocks.quality_codes import GOOD
from meterd.store.db.schema import sample
from meterd.store.db.statements import replace_rows

CHUNK = 20_000  # rows that go in one transaction: some MB of journal, far below a second


def keep(connection: Connection, chunks: Iterable[Chunk]) -> None:
    """Writes every sample of the chunks, replacing rows of the same time."""
    rows = [row for chunk in chunks for column in chunk.columns for row in _rows(chunk, column)]
    replace_rows(connection, sample, rows)


def forget(
    connection: Connection, before: int, most: int = CHUNK, *, of: Sequence[int] | None = None
) -> bool:
    """Deletes the oldest rows from before `before` (Unix ms); whether there are more.

    `of` are the series that it is about; None means all of them.
    """
    ours = true() if of is None else sample.c.series.in_(of)
    oldest = select(sample.c.time).where(ours).order_by(sample.c.time).offset(most).limit(1)
    edge = connection.scalar(oldest)
    cut = before if edge is None else min(before, edge + 1)
    connection.execute(delete(sample).where(sample.c.time < cut, ours))
    return edge is not None and edge < before


def _rows(chunk: Chunk, column: ChunkColumn) -> Iterator[dict[str, Any]]:
    for time, value, quality, reason in cells(chunk, column):
        yield {
            "time": time,
            "series": column.series,
            "value": None if isnan(value) else value,
            "quality": quality,
            "reason": reason or None,
        }


def cells(chunk: Chunk, column: ChunkColumn) -> Iterator[tuple[int, float, int, str]]:
    """Unix ms, value (NaN: null), quality code and reason of each sample of a series."""
    states: Sequence[tuple[int, int, str]] = column.states or ((len(column.values), GOOD, ""),)
    times, values, at = chunk.times_of(column), column.values, 0
    for count, quality, reason in states:
        for row in range(at, at + count):
            yield times[row], values[row], quality, reason
        at += count
