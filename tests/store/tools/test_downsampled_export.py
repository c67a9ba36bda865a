"""Buckets out of roll-ups: the same whether their raw samples are deleted or not."""

import shutil
from pathlib import Path

import pytest

from meterd.store.reader import Reader
from meterd.store.tools.downsampled_export import DownsampledBucket, buckets
from meterd.store.tools.export import Wanted, lines
from tests.store.rigs import url_of
from tests.store.trimming import DAY, HOUR, START, history, trimmed

ALL = Wanted(None, None, 0, 1 << 50)
DAYS = 5


def told(path: Path, resolution: str, wanted: Wanted = ALL) -> list[DownsampledBucket]:
    reader = Reader.outside(url_of(path))
    try:
        return list(buckets(reader, wanted, resolution))
    finally:
        reader.close()


@pytest.fixture
async def stores(tmp_path: Path) -> tuple[Path, Path]:
    """The same polls: one store has them all, the other has deleted all but two days of them."""
    polls, whole, cut = history(DAYS), tmp_path / "whole.db", tmp_path / "cut.db"
    await trimmed(whole, polls, 100)
    shutil.copy(whole, cut)
    await trimmed(cut, polls[-1:], 2)
    return whole, cut


async def test_deleted_samples_are_still_in_the_buckets(stores: tuple[Path, Path]) -> None:
    whole, cut = stores
    reader = Reader.outside(url_of(cut))
    assert min(line.time for line in lines(reader, ALL)) >= START + 2 * DAY
    reader.close()
    for resolution, size in (("15m", HOUR // 4), ("1h", HOUR), ("1d", DAY)):
        found = told(cut, resolution)
        assert found == told(whole, resolution)
        assert {one.time % size for one in found} == {0}
        for quantity in ("active_power", "active_energy.import"):
            mine = [one for one in found if one.quantity == quantity]
            assert mine[0].time == START
            assert sum(one.n for one in mine) == DAYS * 8640 + 360
            assert [one.time for one in mine] == sorted({one.time for one in mine})


async def test_increases_add_up_to_what_the_counter_rose(stores: tuple[Path, Path]) -> None:
    wanted = Wanted(None, frozenset({"active_energy.import"}), 0, 1 << 50)
    sums = {
        resolution: round(
            sum(one.increase or 0.0 for one in told(stores[1], resolution, wanted)), 3
        )
        for resolution in ("15m", "1h", "1d")
    }
    rose = history(DAYS)[-1].values[1]
    assert rose is not None
    assert set(sums.values()) == {round(rose - 5000.0, 3)}


async def test_a_window_has_the_buckets_that_begin_in_it(stores: tuple[Path, Path]) -> None:
    wanted = Wanted(None, frozenset({"active_power"}), START + 1, START + 2 * DAY + 1)
    found = told(stores[1], "1d", wanted)
    assert [(one.time, one.n) for one in found] == [(START + DAY, 8640), (START + 2 * DAY, 8640)]
    assert [(one.min, one.mean, one.max) for one in found] == [(0.0, 1150.0, 2300.0)] * 2
    assert len(told(stores[1], "1h", wanted)) == 48
