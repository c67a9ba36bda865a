"""What questions cost over a year of one meter, 126 M samples; and others with the same ones.

Prometheus, InfluxDB and plain rows have the twelve series that are asked for. All is made first,
and goes at the end. Costs are CPU time of meterd's thread, of the others' whole servers (they also
speak HTTP, some 0.3 ms a request), and of the thread that asks in SQL; and the time until the
answer was there. Every store's answers must be the same.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import NamedTuple

import orjson

from bench import house, influx, prometheus, rows, year
from bench.answers import Cost, Means, Side, Window, cost, differ
from bench.peer import Peer
from bench.report import Figure, show
from meterd.store.query.range_query import SeriesPoints, SeriesRequest
from meterd.store.query.series_array import SeriesArray
from meterd.store.reader import Reader

_END = (house.FIRST_DAY + year.DAYS) * house.DAY_MS
_GAUGES = ("voltage", "current", "active_power", "reactive_power", "apparent_power")
NAMES = (
    *(f"{one}.l{n}" for one in _GAUGES for n in (1, 2)),
    "active_power",
    "active_energy.import",
)

Series = Sequence[tuple[str, SeriesArray]]


class _Question(NamedTuple):
    what: str
    days: int
    step: int  # seconds
    most: float | None  # ms for all series
    share: float | None  # of Prometheus' CPU

    @property
    def window(self) -> Window:
        return Window(_END - self.days * house.DAY_MS, _END, 1000 * self.step)


_QUESTIONS = (
    _Question("24 h at 1 min", 1, 60, None, 1.0),
    _Question("30 d at 15 min", 30, 900, 25, None),
    _Question("365 d at 1 h", 365, 3600, None, 0.2),
    _Question("365 d at 1 day", 365, 86_400, 15, 0.01),
)


class _Ours:
    """Asks meterd's reader; `dumped` also makes JSON of it, as the API does."""

    def __init__(self, reader: Reader, *, dumped: bool) -> None:
        self._reader = reader
        self._dumped = dumped

    def cpu(self) -> float:
        return time.thread_time()

    def ask(self, names: Sequence[str], window: Window) -> list[SeriesPoints]:
        asked = SeriesRequest.of([house.DEVICE], names, *window, "avg")
        answer = self._reader._range(asked, Event())
        if self._dumped:
            orjson.dumps([[one.quantity, one.points] for one in answer])
        return answer

    def means(self, answer: object) -> Means:
        assert isinstance(answer, list)
        return {one.quantity: one.points for one in answer}


def measure() -> list[Figure]:
    data = house.data()
    if data is None:
        print("no data for the year: METERD_BENCH_DATA names its folder", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "year.db")
        with _said("meterd's year through its writer, a commit each hour of the stream"):
            series = year.make(path, data, NAMES)
        return figures(path, series, Path(folder))


def figures(path: Path, series: Series, folder: Path) -> list[Figure]:
    """Of a store that has the year; the others get these series, and are made in that folder."""
    samples = year.DAYS * house.POLLS * len(house.NAMES)
    size = path.stat().st_size / samples
    found = [Figure("a year of 40 series in a file", size, "B/sample", 0.85)]
    with ExitStack() as stack:
        others = _others(stack, series, folder)
        reader = stack.enter_context(closing(Reader.outside(f"sqlite:///{path}")))
        for count in (1, len(NAMES)):
            for question in _QUESTIONS:
                found += _asked(reader, others, question, NAMES[:count])
    return found


def _others(stack: ExitStack, series: Series, folder: Path) -> dict[str, Side]:
    """Made side by side: most of it is work of other processes."""
    path, chunks, shards = (folder / name for name in ("rows.db", "prometheus", "influxdb"))
    found: dict[str, Side] = {}
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(_fill_rows, path, series)]
        if prometheus.there():
            done.append(pool.submit(_fill_prometheus, chunks, series))
        if influx.there():
            server = stack.enter_context(influx.server(shards, merged=True))
            done.append(pool.submit(_fill_influx, server, shards, series))
            found["InfluxDB"] = influx.Side(server)
    for one in done:
        one.result()
    found["plain rows"] = stack.enter_context(closing(rows.Side(path, NAMES)))
    if not prometheus.there():
        return found
    server = stack.enter_context(prometheus.server(chunks))
    return {"Prometheus": prometheus.Side(server), **found}


def _fill_rows(path: Path, series: Series) -> None:
    with _said("plain rows"):
        rows.fill(path, _in_order(series))


def _fill_prometheus(home: Path, series: Series) -> None:
    with _said("Prometheus' blocks"):
        prometheus.fill(home, series)


def _fill_influx(server: Peer, home: Path, series: Series) -> None:
    with _said("InfluxDB's shards"):
        influx.fill(server, home, series)


def _in_order(series: Series) -> Iterator[tuple[int, int, float]]:
    """One series after the other: the fullest pages that rows can have."""
    for number, (_, track) in enumerate(series):
        times, values = track.times.tolist(), track.values.tolist()
        yield from ((number, at, value) for at, value in zip(times, values, strict=True))


@contextmanager
def _said(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"made {what}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def _asked(
    reader: Reader, others: dict[str, Side], question: _Question, names: tuple[str, ...]
) -> Iterator[Figure]:
    side = _Ours(reader, dumped=False)
    ours, answer = cost(side, names, question.window)
    whole, _ = cost(_Ours(reader, dumped=True), names, question.window)
    costs = dict(_costs(others, question.window, names, side.means(answer)))
    every = len(names) == len(NAMES)
    cpus = {name: one.cpu for name, one in costs.items()}
    walls = {name: one.wall for name, one in costs.items()}
    what = f"{len(names)} series, {question.what}"
    yield Figure(what, ours.cpu, "ms", question.most if every else None)
    yield Figure("  and as JSON", whole.cpu, "ms", beside=cpus)
    yield Figure("  on the clock", whole.wall, "ms", beside=walls)
    if "Prometheus" in cpus:
        share = question.share if every or question.days == 1 else None
        yield Figure("  with JSON / Prometheus", whole.cpu / cpus["Prometheus"], "", share)


def _costs(
    others: dict[str, Side], window: Window, names: tuple[str, ...], ours: Means
) -> Iterator[tuple[str, Cost]]:
    for name, side in others.items():
        spent, answer = cost(side, names, window)
        if parted := differ(ours, side.means(answer)):
            raise RuntimeError(f"meterd and {name} answer differently: {parted}")
        yield name, spent


if __name__ == "__main__":
    show(measure())
