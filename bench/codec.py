"""Bytes and CPU time of a stored sample: blocks, merged days, roll-ups, journal rows.

Forty series of a three-phase meter at 10 s (phases.py), four days of the year. The data set is
not part of the repository: METERD_BENCH_DATA names the folder that has it, else nothing is
measured here.
"""

import os
import random
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from bench.phases import COUNTERS, STEP, minutes, series
from bench.report import Figure, show
from meterd.store.blocks import array_decoder, block, commit_record, rollup, rollup_codec
from meterd.store.blocks.chunk import Chunk, ChunkColumn, merge

FILE = "household_power_1min.csv.gz"
DAYS = (10, 100, 190, 300)
DEVICES = 100
POLLS = 3  # of each device in a commit: 30 s
ROUNDS = 9
_STEP_MS = 1000 * STEP
_HOUR = 3600 // STEP
_DAY = 24 * _HOUR
_EPOCH_DAY = 20_454  # 2026-01-01
_LATE_MS = (20, 120)

Days = list[list["array[float]"]]


def _path() -> Path | None:
    folder = os.environ.get("METERD_BENCH_DATA")
    path = Path(folder or "../shared/data") / FILE
    return path if path.exists() else None


def _days(path: Path) -> Days:
    # A minute more than the day: between it and the one before lie the last polls.
    return [series(minutes(path, day * 1440, 1441), day) for day in DAYS]


def _times(day: int, late: bool) -> "array[int]":
    rng = random.Random(day)
    start = (_EPOCH_DAY + day) * 86_400_000
    due = range(start, start + _DAY * _STEP_MS, _STEP_MS)
    return array("q", [at + (rng.randint(*_LATE_MS) if late else 0) for at in due])


def _span(device: int, times: "array[int]", lanes: list["array[float]"], rows: slice) -> Chunk:
    first = device * len(lanes)
    count = len(times[rows])
    columns = (ChunkColumn(first + n, range(count), lane[rows]) for n, lane in enumerate(lanes))
    return Chunk(device, times[rows], tuple(columns))


def _hours(days: Days, late: bool) -> list[list[Chunk]]:
    """Of each day, its 24 spans."""
    edges = [slice(at, at + _HOUR) for at in range(0, _DAY, _HOUR)]
    return [
        [_span(1, times, lanes, edge) for edge in edges]
        for day, lanes in zip(DAYS, days, strict=True)
        for times in (_times(day, late),)
    ]


def _samples(spans: list[Chunk]) -> int:
    return sum(span.samples for span in spans)


def _sizes(days: Days, late: bool) -> tuple[float, float]:
    """Bytes a sample of hours, and of days merged from them."""
    hours = _hours(days, late)
    spans = [span for day in hours for span in day]
    count = _samples(spans)
    short = sum(len(block.encode(span)) for span in spans)
    long = sum(len(block.encode(merge(day))) for day in hours)
    return short / count, long / count


def _folded(day: int, lanes: list["array[float]"]) -> list[dict[int, rollup.QuarterRollup]]:
    times, gauges = _times(day, late=False), len(lanes) - COUNTERS
    return [rollup.fold(times, lane, counter=n >= gauges) for n, lane in enumerate(lanes)]


def _rollup_size(days: Days) -> float:
    bodies = [
        rollup_codec.pack(_EPOCH_DAY + day, quarters)
        for day, lanes in zip(DAYS, days, strict=True)
        for quarters in _folded(day, lanes)
    ]
    return sum(map(len, bodies)) / (len(bodies) * _DAY)


def _commit(days: Days) -> list[Chunk]:
    """Three polls of a hundred meters, each somewhere else in the year."""
    found: list[Chunk] = []
    for device in range(DEVICES):
        which, at = device % len(days), 83 * device % (_DAY - POLLS)
        times = _times(which, late=True)
        found.append(_span(device, times, days[which], slice(at, at + POLLS)))
    return found


def _cost(run: Callable[[], object], samples: int) -> float:
    """The least µs of CPU a sample: others may share the core."""
    spent: list[float] = []
    for _ in range(ROUNDS):
        before = time.process_time()
        run()
        spent.append(time.process_time() - before)
    return min(spent) / samples * 1e6


def _block_costs(days: Days) -> list[Figure]:
    span = _hours(days, late=True)[0][12]
    body, count = block.encode(span), span.samples
    return [
        Figure("a block of 1 h: encoded", _cost(lambda: block.encode(span), count), "µs", 0.25),
        Figure("  decoded", _cost(lambda: block.decode(body), count), "µs"),
        Figure("  decoded by numpy", _cost(lambda: array_decoder.decode(body), count), "µs", 0.06),
    ]


def _journal_figures(days: Days) -> list[Figure]:
    spans = _commit(days)
    known: dict[int, int] = {}
    size, count = len(commit_record.encode(spans, known)), _samples(spans)
    return [
        Figure("a journal row, 4000 series × 3 polls", size / count, "B/sample", 1.0),
        Figure("  encoded", _cost(lambda: commit_record.encode(spans, known), count), "µs", 0.4),
        Figure("  the first of all", _cost(lambda: commit_record.encode(spans), count), "µs"),
    ]


def measure() -> list[Figure]:
    path = _path()
    if path is None:
        print(f"no {FILE}: METERD_BENCH_DATA names the folder that has it", file=sys.stderr)
        return []
    days = _days(path)
    hour, day = _sizes(days, late=False)
    late_hour, late_day = _sizes(days, late=True)
    quarters = _rollup_size(days)
    fold = _cost(lambda: _folded(DAYS[0], days[0]), _DAY * len(days[0]))
    return [
        Figure("40 series at 10 s: blocks of 1 h", hour, "B/sample", 0.87),
        Figure("  merged to days", day, "B/sample", 0.70),
        Figure("  roll-ups", quarters, "B/sample"),
        Figure(
            "  20-120 ms late: blocks of 1 h and roll-ups", late_hour + quarters, "B/sample", 1.0
        ),
        Figure("  20-120 ms late: merged to days", late_day, "B/sample"),
        *_block_costs(days),
        Figure("  folded to quarter hours", fold, "µs"),
        *_journal_figures(days),
    ]


if __name__ == "__main__":
    show(measure())
