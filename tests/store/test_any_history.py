"""What readers answer, against the plainest model of it."""

import asyncio
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.db import migrate, store_url
from meterd.store.reader import Reader

from .rigs import Hands, store, url_of

Points = dict[tuple[str, str], list[tuple[int, float]]]

FOLDS: dict[str, Callable[[list[float]], float]] = {
    "avg": lambda held: math.fsum(held) / len(held),
    "min": min,
    "max": max,
    "last": lambda held: held[-1],
    "sum": math.fsum,
    "count": len,
}


LAYOUTS = (
    Layout.of([("voltage.l1", "V"), ("active_power", "W")]),
    Layout.of([("active_power", "W"), ("device.up", "1")]),
)
_values = st.one_of(st.none(), st.integers(-1000, 1000).map(lambda n: n / 8))
_doubt = st.sampled_from([QualityFlag(Quality.INVALID, "no"), QualityFlag(Quality.SUSPECT, "hm")])
_polls = st.builds(
    Poll,
    st.sampled_from(["a", "b"]),
    st.integers(0, 60),
    st.sampled_from(LAYOUTS),
    st.tuples(_values, _values),
    st.dictionaries(st.integers(0, 1), _doubt, max_size=1),
)
_windows = st.tuples(
    st.integers(-5, 65),
    st.integers(-5, 65),
    st.sampled_from([0, 1, 7, 20]),
    st.sampled_from(sorted(FOLDS)),
)
_batches = st.lists(st.lists(_polls, max_size=8), min_size=1, max_size=5)


def model(polls: Sequence[Poll], window: tuple[int, int, int, str]) -> Points:
    """The same answer, by the plainest means."""
    start, end, step, agg = window
    newest: dict[tuple[str, str], dict[int, float | None]] = {}
    for one in polls:
        for sample in one.samples():
            value = None if sample.quality is Quality.INVALID else sample.value
            newest.setdefault((sample.device, sample.quantity), {})[sample.time] = value
    answer: Points = {}
    for series, samples in newest.items():
        held: dict[int, list[float]] = {}
        for time, value in sorted(samples.items()):
            if value is not None and start <= time < end:
                held.setdefault(time // step * step if step else time, []).append(value)
        if held:
            fold = FOLDS[agg if step else "last"]
            answer[series] = [(bucket, fold(values)) for bucket, values in held.items()]
    return answer


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "empty.db"
    migrate.upgrade(store_url.find(url_of(path)))
    return path


@settings(max_examples=50, deadline=None)
@given(batches=_batches, windows=st.lists(_windows, min_size=3, max_size=3))
def test_any_question_after_any_history_has_the_plain_answer(
    empty_store: Path, batches: list[list[Poll]], windows: list[tuple[int, int, int, str]]
) -> None:
    asyncio.run(_compare(empty_store, batches, windows))


async def _compare(
    empty_store: Path, batches: list[list[Poll]], windows: list[tuple[int, int, int, str]]
) -> None:
    taken: list[Poll] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meterd.db"
        shutil.copy(empty_store, path)
        hands = Hands()
        async with store(path, clock=hands) as (writer, reader):
            for batch in batches:
                hands.elapsed += 31  # so that every second commit also notes the series
                for one in batch:
                    writer.take(one)
                    taken.append(one)
                for window in windows:
                    assert await _ask(reader, window) == model(taken, window)
                await writer.flush()
                for window in windows:
                    assert await _ask(reader, window) == model(taken, window)
                await _check_extents(reader, taken)


async def _ask(reader: Reader, window: tuple[int, int, int, str]) -> Points:
    found = await reader.range(None, None, *window)
    return {(one.device, one.quantity): one.points for one in found}


async def _check_extents(reader: Reader, taken: Sequence[Poll]) -> None:
    times: dict[tuple[str, str], list[int]] = {}
    for one in taken:
        for quantity in one.layout.quantities:
            times.setdefault((one.device, quantity), []).append(one.time)
    found = {(one.device, one.quantity): (one.first, one.last) for one in await reader.series()}
    assert found == {name: (min(held), max(held)) for name, held in times.items()}
