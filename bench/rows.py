"""Plain rows beside meterd: one table of series, time and value in SQLite, asked in SQL."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import orjson

from bench.answers import Means, Window

_MADE = """
CREATE TABLE sample (
  series INTEGER NOT NULL, ts INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (series, ts)
) WITHOUT ROWID
"""
_ASKED = """
SELECT series, ts / :step * :step, avg(value) FROM sample
WHERE series = :series AND ts >= :start AND ts < :end GROUP BY 2
"""


def fill(path: Path, samples: Iterable[tuple[int, int, float]]) -> None:
    """Rows of series, Unix ms and value, in the order in which they come; nothing guards them."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(_MADE)
    with connection:
        connection.executemany("INSERT INTO sample VALUES (?, ?, ?)", samples)
    connection.close()


class Side:
    """Asks such a table; a series' number is its place in `names`."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._connection = sqlite3.connect(path)
        self._names = list(names)

    def close(self) -> None:
        self._connection.close()

    def cpu(self) -> float:
        return time.thread_time()

    def ask(self, names: Sequence[str], window: Window) -> bytes:
        """As JSON, since the others' answers are that, too."""
        found: list[tuple[int, int, float]] = []
        for name in names:
            asked = {"series": self._names.index(name), **window._asdict()}
            found += self._connection.execute(_ASKED, asked)
        return orjson.dumps(found)

    def means(self, answer: object) -> Means:
        assert isinstance(answer, bytes)
        return {
            self._names[series]: [(at, mean) for _, at, mean in rows]
            for series, rows in groupby(orjson.loads(answer), itemgetter(0))
        }
