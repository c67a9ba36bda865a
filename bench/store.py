"""What the store costs: bytes at rest, CPU from poll to block, stalls, memory; beside others.

The house's days through the Writer as the daemon has it, with a clock of the stream's: poll,
commit, seal, close. Everything in the file counts: roll-ups, the hours' plain rows, free pages.
"""

import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench import house, influx, peer, prometheus, rows
from bench.flash import Stepped
from bench.report import Figure, show
from meterd.model.sample import Poll
from meterd.store.query.series_array import SeriesArray
from meterd.store.writer import Writer

DAYS = 7
DEVICES = 100
_LATE_MS = (20, 120)
_COMMIT = 3  # polls
_HOUR = 3600 // 10
_TICKS = _HOUR + 36  # the hour is sealed a while after its end
_SEAL_DUE = 60.0
_PATIENCE = 60.0
_SETTLED = 26 * 3600  # s; by then a day is closed without the next one's polls

Days = list[house.Lanes]


def _late(times: range, late: bool) -> list[int]:
    rng = random.Random(times[0])
    return [at + (rng.randint(*_LATE_MS) if late else 0) for at in times]


def _polls(days: Days, late: bool) -> Iterator[Poll]:
    for number, lanes in enumerate(days):
        times = _late(house.times(number), late)
        for time_, row in zip(times, zip(*lanes, strict=True), strict=True):
            yield Poll(house.DEVICE, time_, house.LAYOUT, row)


async def _at_rest(days: Days, late: bool, path: Path, kept: float | None = None) -> float:
    """Bytes a sample."""
    clock = Stepped()
    writer = Writer(f"sqlite:///{path}", commit=1e9, clock=clock, rows=kept)
    await writer.open()
    for n, poll in enumerate(_polls(days, late), 1):
        clock.now = poll.time
        writer.take(poll)
        if n % _COMMIT == 0:
            await writer.flush()
    clock.now += 1000 * _SETTLED
    await writer.settle()
    await writer.close()
    return _bytes(path) / (len(days) * house.POLLS * len(house.NAMES))


def _bytes(path: Path) -> int:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.stat().st_size


def _beside(days: Days, late: bool, folder: Path) -> dict[str, float]:
    """Bytes a sample of Prometheus' blocks, InfluxDB's shards, and plain rows."""
    times = np.array([at for n in range(len(days)) for at in _late(house.times(n), late)])
    series = [
        (name, SeriesArray(times, np.concatenate([np.frombuffer(day[place]) for day in days])))
        for place, name in enumerate(house.NAMES)
    ]
    sizes: dict[str, int] = {}
    if prometheus.there():
        prometheus.fill(folder / "prometheus", series)
        sizes["Prometheus"] = peer.size(folder / "prometheus")
    if influx.there():
        with influx.server(folder / "influxdb", merged=True) as server:
            influx.fill(server, folder / "influxdb", series)
        sizes["InfluxDB"] = influx.size(folder / "influxdb")
    sizes["plain rows"] = _plain(series, folder / "rows.db")
    samples = len(times) * len(series)
    return {name: size / samples for name, size in sizes.items()}


def _plain(series: list[tuple[str, SeriesArray]], path: Path) -> int:
    """Poll by poll, as they come."""
    times = series[0][1].times.tolist()
    polls = zip(*(track.values.tolist() for _, track in series), strict=True)
    rows.fill(
        path,
        (
            (n, at, value)
            for at, poll in zip(times, polls, strict=True)
            for n, value in enumerate(poll)
        ),
    )
    return path.stat().st_size


def _sizes(days: Days) -> Iterator[Figure]:
    for late, most in ((False, 0.85), (True, 1.0)):
        what = "40 series at 10 s, " + ("20-120 ms late" if late else "at rest")
        with tempfile.TemporaryDirectory() as folder:
            size = asyncio.run(_at_rest(days, late, Path(folder, "meterd.db")))
            others = _beside(days, late, Path(folder))
        yield Figure(f"{what}, with everything", size, "B/sample", most, others)
    with tempfile.TemporaryDirectory() as folder:
        size = asyncio.run(_at_rest(days[:1], False, Path(folder, "m.db"), kept=1e9))
        yield Figure("  with `store.rows` of one day", size, "B/sample")


class Running(Stepped):
    """The stream's time for polls, the machine's for chores."""

    def __init__(self) -> None:
        super().__init__()
        self.now = house.times(0)[0]
        self.skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped


@dataclass(slots=True)
class _Fleet:
    """4000 series at 10 s."""

    writer: Writer
    clock: Running
    rows: list[tuple[float, ...]]
    tick: int = 0

    def poll(self) -> None:
        for meter in range(DEVICES):
            row = self.rows[(self.tick + 83 * meter) % len(self.rows)]
            self.writer.take(Poll(f"m{meter}", self.clock.now, house.LAYOUT, row))
        self.tick += 1
        self.clock.now += house.STEP_MS

    async def fill(self, ticks: int) -> float:
        """CPU seconds of so many polls of all, with their commits."""
        began = time.process_time()
        for tick in range(ticks):
            self.poll()
            if tick % _COMMIT == _COMMIT - 1:
                await self.writer.flush()
        await self.writer.flush()
        return time.process_time() - began

    async def seal(self) -> float:
        """CPU seconds of what the thread does by itself once an hour is over."""
        began = time.process_time()
        self.clock.skipped += _SEAL_DUE
        await asyncio.to_thread(self._wait)
        return time.process_time() - began

    def _wait(self) -> None:
        limit = time.monotonic() + _PATIENCE
        while self._unsealed() and time.monotonic() < limit:
            time.sleep(0.1)

    async def stall(self) -> tuple[float, float]:
        """The longest that loop and commits were held up while an hour is sealed, ms."""
        lags = asyncio.create_task(_late_by())
        longest = 0.0
        self.clock.skipped += _SEAL_DUE
        limit = time.monotonic() + _PATIENCE
        while self._unsealed() and time.monotonic() < limit:
            self.poll()
            began = time.monotonic()
            await self.writer.flush()
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.01)
        lags.cancel()
        return 1e3 * await lags, 1e3 * longest

    def _unsealed(self) -> bool:
        hot, edge = self.writer.memory.head, house.times(0)[0] + 3_600_000
        return any((hot.oldest(name) or edge) < edge for name in hot.devices())


async def _late_by() -> float:
    """The longest that the loop was late for something due each 2 ms, in seconds."""
    longest = 0.0
    with suppress(asyncio.CancelledError):
        while True:
            due = time.monotonic() + 0.002
            await asyncio.sleep(0.002)
            longest = max(longest, time.monotonic() - due)
    return longest


async def _fleet(lanes: house.Lanes) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        clock = Running()
        writer = Writer(f"sqlite:///{folder}/m.db", commit=1e9, clock=clock)
        await writer.open()
        fleet = _Fleet(writer, clock, list(zip(*lanes, strict=True)))
        a_poll = DEVICES * len(house.NAMES)
        await fleet.fill(_COMMIT)  # makes the series
        ingest = await fleet.fill(_TICKS) / (_TICKS * a_poll)
        sealing = await fleet.seal() / (_HOUR * a_poll)
        resident = _resident()
        await writer.close()
    return [
        Figure("4000 series at 10 s, poll to commit", 1e6 * ingest, "µs"),
        Figure("  sealed, with hours and newest values", 1e6 * sealing, "µs"),
        Figure("  together", 1e6 * (ingest + sealing), "µs", 1.5),
        Figure("  resident, an hour and the sealing of it", resident, "MiB", 150),
    ]


async def _stalls(lanes: house.Lanes) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        clock = Running()
        writer = Writer(f"sqlite:///{folder}/m.db", commit=1e9, clock=clock)
        await writer.open()
        fleet = _Fleet(writer, clock, list(zip(*lanes, strict=True)))
        await fleet.fill(_TICKS)
        loop, commit = await fleet.stall()
        await writer.close()
    return [
        Figure("sealing 1.44 M samples: the loop's longest stall", loop, "ms", 100),
        Figure("  the longest commit", commit, "ms", 100),
    ]


def _resident() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _apart(part: Callable[[house.Lanes], Coroutine[None, None, list[Figure]]]) -> list[Figure]:
    """In a process of its own: memory and the collector are then as a daemon has them."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, part).result()


def _run(part: Callable[[house.Lanes], Coroutine[None, None, list[Figure]]]) -> list[Figure]:
    data = house.data()
    assert data is not None
    lanes = next(house.lanes(data, 100, 1))
    return asyncio.run(part(lanes))


def measure() -> list[Figure]:
    data = house.data()
    if data is None:
        print("no data for the store: METERD_BENCH_DATA names its folder", file=sys.stderr)
        return []
    return [*_apart(_fleet), *_apart(_stalls), *_sizes(list(house.lanes(data, 100, DAYS)))]


if __name__ == "__main__":
    show(measure())
