"""What a store's file holds, read with nothing of meterd's; and what the API said, to compare."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

Sample: TypeAlias = tuple[str, str, int]
"""Device, quantity, Unix ms."""

_ALL = """
    SELECT device.name, series.quantity, sample.time, sample.value
    FROM sample JOIN series ON series.id = sample.series JOIN device ON device.id = device_id
"""


def stored(path: Path) -> dict[Sample, float | None]:
    """Every sample of the file; fails where SQLite finds it damaged."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(_ALL).fetchall()
    return {(device, quantity, time): value for device, quantity, time, value in rows}


def shown(latest: Iterable[Mapping[str, Any]]) -> dict[Sample, float]:
    """The good samples of an answer to /api/v1/latest."""
    return {
        (one["device"], one["quantity"], milliseconds(one["time"])): one["value"]
        for one in latest
        if one["quality"] == "good"
    }


def milliseconds(rfc3339: str) -> int:
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)


def points(answer: Mapping[str, Any]) -> dict[Sample, float | None]:
    """The samples of an answer to /api/v1/range with step=raw."""
    assert answer["step_ms"] == 0
    return {
        (series["device"], series["quantity"], time): value
        for series in answer["series"]
        for time, value in series["points"]
    }
