"""A query has the same answer whether its windows are folded by roll-ups or by samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from meterd.api.promapi.store_source import StoreSource
from meterd.promql import engine
from meterd.promql.result import Result, ResultSeries
from meterd.promql.source import Folded, Labelled, Times, Values
from meterd.store.reader import Reader
from tests.store.rigs import url_of
from tests.store.test_window_aggregates import DAY, DAYS, HOUR, START, history, write

WATTS = "meterd_active_power_watts"
QUERIES = [
    f"avg_over_time({WATTS}[1d])",
    f"avg_over_time({WATTS}[1d] offset 5h)",
    f"sum_over_time({WATTS}[2h])",
    f"max_over_time({WATTS}[1h]) - min_over_time({WATTS}[1h])",
    f"count_over_time({WATTS}[6h] offset 30m)",
    f"present_over_time({WATTS}[3h])",
    f"avg_over_time({WATTS}[1d] @ end())",
    f"max_over_time(avg_over_time({WATTS}[1h])[1d:1h])",
    'avg by (device) (avg_over_time({__name__=~"meterd_(active|volt).+s", device="main"}[1d]))',
    f"avg_over_time({WATTS}[25h30m])",
    f"avg_over_time({WATTS}[37m])",
    "absent_over_time(meterd_nothing[1d])",
    "avg_over_time(meterd_nothing[1d])",
]


class Samples:
    """A source that folds nothing."""

    def __init__(self, source: StoreSource) -> None:
        self._source = source

    def names(self) -> Sequence[Labelled]:
        return self._source.names()

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        return self._source.fetch(ids, start, end)


class Counted(StoreSource):
    """Counts the series that were folded."""

    folded = 0

    def fold(
        self, ids: Sequence[int], function: str, starts: Times, ends: Times
    ) -> list[Folded | None]:
        found = super().fold(ids, function, starts, ends)
        self.folded += sum(one is not None for one in found)
        return found


def series_of(result: Result) -> Sequence[ResultSeries]:
    assert not isinstance(result.data, str)
    return result.data


@pytest.mark.parametrize("step", [60_000, 59_987])
async def test_answers_are_the_same(tmp_path: Path, step: int) -> None:
    path = tmp_path / "meterd.db"
    await write(path, history(step))
    reader = Reader.outside(url_of(path))
    folded = 0
    try:
        for text in QUERIES:
            for width, start in ((DAY, START - DAY), (HOUR, START), (HOUR + 60_000, START)):
                window = text, start, START + DAYS * DAY + 9 * HOUR, width
                source = Counted(reader, {})
                found = series_of(engine.query_range(source, *window))
                wanted = series_of(engine.query_range(Samples(source), *window))
                folded += source.folded
                for one, other in zip(found, wanted, strict=True):
                    assert one.labels == other.labels
                    assert one.times.tolist() == other.times.tolist()
                    np.testing.assert_allclose(one.values, other.values, rtol=1e-9, atol=1e-9)
    finally:
        reader.close()
    assert folded > 20
