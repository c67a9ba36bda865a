"""PromQL over days whose raw samples are deleted, beside the same days with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meterd.api.promapi.store_source import StoreSource
from meterd.promql.engine import query_range
from meterd.store.reader import Reader
from tests.store.rigs import url_of
from tests.store.trimming import DAY, HOUR, START, history, trimmed

ENERGY = "meterd_active_energy_import_watthours_total"
POWER = "meterd_active_power_watts"


@contextmanager
def source(path: Path) -> Iterator[StoreSource]:
    reader = Reader.outside(url_of(path))
    try:
        yield StoreSource(reader, {})
    finally:
        reader.close()


def values(path: Path, query: str, start: int, end: int, step: int) -> list[float]:
    with source(path) as asked:
        data = query_range(asked, query, start, end, step).data
    assert not isinstance(data, str)
    (one,) = data
    assert one.times.tolist() == list(range(start, end + 1, step))
    return [float(value) for value in one.values]


async def test_long_windows_and_long_steps_say_what_the_raw_samples_did(tmp_path: Path) -> None:
    whole, left = tmp_path / "whole.db", tmp_path / "left.db"
    await trimmed(whole, history(4), keep=99)
    await trimmed(left, history(4), keep=2)
    # increase() extrapolates by the mean to the window's edges: here power leaps at midnight.
    for query, start, step, count, near in (
        (f"increase({ENERGY}[1d])", START + DAY, DAY, 2, 0.005),
        (f"increase({ENERGY}[3h])", START + 6 * HOUR, HOUR, 60, 0.09),
        (f"avg_over_time({POWER}[1d])", START + DAY, DAY, 2, 0.005),
        (POWER, START + 6 * HOUR + 840_000, HOUR, 60, 1e-9),
    ):
        end = start + count * step
        expected = values(whole, query, start, end, step)
        assert values(left, query, start, end, step) == pytest.approx(expected, rel=near)
