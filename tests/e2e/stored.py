"""What a store's file holds; and what the API said, to compare."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from meterd.store.reader import Reader

Sample: TypeAlias = tuple[str, str, int]
"""Device, quantity, Unix ms."""


def stored(path: Path) -> dict[Sample, float | None]:
    """Every sample of the file, as another process finds them; fails where it is damaged."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    reader = Reader.outside(f"sqlite:///{path}")
    try:
        names = [(one.device, one.quantity, one.unit) for one in reader.names()]
        tracks = reader.columns(names, 0, 1 << 50)
    finally:
        reader.close()
    return {
        (device, quantity, int(time)): None if value != value else float(value)
        for (device, quantity, _), track in zip(names, tracks, strict=True)
        for time, value in zip(track.times, track.values, strict=True)
    }


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
