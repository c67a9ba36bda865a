"""Windows out of roll-ups say what their samples say, wherever they begin and end."""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.blocks import rollup_codec
from meterd.store.head.catalog import Name
from meterd.store.query import window_aggregates
from meterd.store.query.range_reader import Moment, sample_arrays
from meterd.store.query.series_array import SeriesArray
from meterd.store.query.window_aggregates import AGGREGATES, WindowAggregates
from meterd.store.reader import Reader

from .blocks import old_rollup
from .rigs import Hands, rows, store, url_of

HOUR, DAY, HALF = 3_600_000, 86_400_000, 1_800_000
START = 19_700 * DAY
DAYS = 6
COLUMNS = [
    ("active_power", "W"),
    ("active_energy.import", "Wh"),
    ("x.odd", "V"),
    ("voltage.l1", "V"),
]
LAYOUT = Layout.of(COLUMNS)
NAMES = [("main", *column) for column in COLUMNS]


def history(step: int, seed: int = 1) -> list[Poll]:
    """Polls each `step` ms, with holes, nulls and invalid ones; some exactly at full hours."""
    chance = random.Random(seed)
    polls, energy, volts = [], 1e6, 2300
    time = START + 3 * HOUR
    while time < START + DAYS * DAY + 5 * HOUR:
        energy += chance.randrange(400) / 10
        volts += chance.randrange(-9, 10)
        odd = chance.choice((chance.random() / 3, 1e12, -1e-6, 0.0))
        values = (chance.randrange(-999, 9999) / 10, round(energy, 1), odd, volts / 10)
        doubts: dict[int, QualityFlag] = {}
        if chance.random() < 0.02:
            values = (None, *values[1:])  # type: ignore[assignment]
            doubts[0] = QualityFlag(Quality.STALE, "not read")
        if chance.random() < 0.02:
            doubts[3] = QualityFlag(Quality.INVALID, "out of range")
        polls.append(Poll("main", time, LAYOUT, values, doubts))
        time += step if chance.random() > 0.003 else 7 * HOUR // 2 + step
    return polls


async def write(path: Path, polls: Sequence[Poll]) -> None:
    """With the day's closing for all but the last days."""
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        for place, poll in enumerate(polls):
            hands.now = poll.time
            writer.take(poll)
            if place % 500 == 499:
                await writer.settle()
        await writer.flush()


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    reader = Reader.outside(url_of(path))
    try:
        yield reader
    finally:
        reader.close()


def expected(
    track: tuple[np.ndarray, np.ndarray], starts: np.ndarray, ends: np.ndarray, agg: str
) -> list[float]:
    times, values = track
    kept = ~np.isnan(values)
    times, values = times[kept], values[kept]
    wanted = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        inside = values[(times > start) & (times <= end)]
        if not len(inside):
            wanted.append(np.nan)
            continue
        folds = {
            "avg": inside.mean(),
            "sum": inside.sum(),
            "min": inside.min(),
            "max": inside.max(),
            "count": len(inside),
        }
        wanted.append(float(folds[agg]))
    return wanted


def windows(chance: random.Random) -> tuple[np.ndarray, np.ndarray]:
    unit = chance.choice((HALF, HALF, HOUR, DAY))
    length = unit * chance.randrange(1, 5)
    step = unit * chance.randrange(1, 5)
    first = (START - DAY) // unit * unit + unit * chance.randrange(0, 3 * DAY // unit + 1)
    count = chance.randrange(1, 40)
    starts = first + step * np.arange(count)
    if starts[-1] + length - starts[0] < 2 * DAY:
        length = 3 * DAY
    return starts, starts + length


def check(reader: Reader, rounds: int, seed: int) -> int:
    """How many series were answered from roll-ups; all answers are compared with samples."""
    chance, answered = random.Random(seed), 0
    tracks = reader.columns(NAMES, 0, START + 2 * DAYS * DAY)
    for _ in range(rounds):
        starts, ends = windows(chance)
        agg = chance.choice(sorted(AGGREGATES))
        for track, found in zip(
            tracks, reader.window_aggregates(NAMES, starts, ends, agg), strict=True
        ):
            if found is None:
                continue
            answered += 1
            wanted = expected(track, starts, ends, agg)
            scale = max(1.0, max(map(abs, filter(np.isfinite, wanted)), default=1.0))
            np.testing.assert_allclose(found.values, wanted, rtol=1e-9, atol=1e-12 * scale)
            counts = expected(track, starts, ends, "count")
            np.testing.assert_array_equal(found.counts, np.nan_to_num(counts))
    return answered


@pytest.mark.parametrize("step", [60_000, 59_999, 900_000, 617_000])
async def test_any_window_is_what_its_samples_are(tmp_path: Path, step: int) -> None:
    path = tmp_path / "meterd.db"
    await write(path, history(step))
    ((rolled,),) = rows(path, "SELECT count(*) FROM rollup WHERE n > 0")
    assert int(str(rolled)) >= 4 * (DAYS - 2)
    with reading(path) as reader:
        assert check(reader, 150, step) == 150 * len(NAMES)


async def test_of_an_older_store_days_are_answered_from_what_it_noted(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await write(path, history(60_000))
    with closing(sqlite3.connect(path)) as connection, connection:
        for place, (key, body) in enumerate(
            connection.execute("SELECT id, quarters FROM rollup").fetchall()
        ):
            old = old_rollup.pack(*rollup_codec.unpack(body))
            connection.execute("UPDATE rollup SET quarters = ? WHERE id = ?", (old, key))
            if place % 5 == 0:
                nothing = "UPDATE rollup SET first = NULL, first_time = NULL WHERE id = ?"
                connection.execute(nothing, (key,))
    with reading(path) as reader:
        assert check(reader, 60, 3) == 60 * len(NAMES)


async def test_windows_that_do_not_fit_are_left_to_samples(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    await write(path, history(900_000))
    start = np.array([START], np.int64)
    with reading(path) as reader:

        def asked(starts: np.ndarray, ends: np.ndarray) -> list[WindowAggregates | None]:
            return reader.window_aggregates(NAMES[:1], starts, ends, "avg")

        assert asked(start, start + 3 * DAY) != [None]
        assert asked(start + 900_000, start + 3 * DAY) == [None]
        assert asked(start, start + 3 * DAY + 1) == [None]
        # So short a window has no closed day in it.
        assert asked(start, start + DAY) == [None]


async def test_samples_are_not_read_where_roll_ups_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    await write(path, history(60_000))
    days: list[int] = []

    def counted(
        moment: Moment, names: Sequence[Name], start: int, end: int
    ) -> dict[Name, SeriesArray]:
        days.extend(range(start // DAY, (end - 1) // DAY + 1))
        return sample_arrays(moment, names, start, end)

    monkeypatch.setattr(window_aggregates, "sample_arrays", counted)
    starts = START + HALF * np.arange(48 * (DAYS - 1))
    with reading(path) as reader:
        (found,) = reader.window_aggregates(NAMES[:1], starts, starts + HOUR, "max")
    assert found is not None
    assert min(days) >= START // DAY + DAYS - 2
