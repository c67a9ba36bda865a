"""What questions cost over a year of one meter, 126 M samples; and Prometheus with the same ones.

The year is made first, which takes some five minutes and 100 MB; both stores go at the end.
Costs are CPU time of meterd's thread, and of Prometheus' whole server (it also speaks HTTP, some
0.3 ms a request).
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import NamedTuple

import orjson

from bench import house, prometheus, year
from bench.report import Figure
from meterd.store.asked import Asked, SeriesPoints
from meterd.store.reader import Reader

_ROUNDS = 7
_SECONDS = 0.6  # of Prometheus' CPU for each figure: the kernel counts hundredths
_END = (house.FIRST_DAY + year.DAYS) * house.DAY_MS
_GAUGES = ("voltage", "current", "active_power", "reactive_power", "apparent_power")
NAMES = (
    *(f"{one}.l{n}" for one in _GAUGES for n in (1, 2)),
    "active_power",
    "active_energy.import",
)


class _Question(NamedTuple):
    what: str
    days: int
    step: int  # seconds
    most: float | None  # ms for all series
    share: float | None  # of Prometheus' CPU

    @property
    def start(self) -> int:
        """Unix ms."""
        return _END - self.days * house.DAY_MS


_QUESTIONS = (
    _Question("24 h at 1 min", 1, 60, None, 1.0),
    _Question("30 d at 15 min", 30, 900, 25, None),
    _Question("365 d at 1 h", 365, 3600, None, 0.2),
    _Question("365 d at 1 day", 365, 86_400, 15, 0.01),
)


def measure() -> list[Figure]:
    data = house.data()
    if data is None:
        print("no data for the year: METERD_BENCH_DATA names its folder", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "year.db")
        year.make(path, data)
        return figures(path, Path(folder, "prometheus"))


def figures(path: Path, beside: Path) -> list[Figure]:
    """Of a store that has the year; Prometheus' blocks are made where they are not there."""
    samples = year.DAYS * house.POLLS * len(house.NAMES)
    found = [
        Figure("a year of 40 series in a file", path.stat().st_size / samples, "B/sample", 0.85)
    ]
    with ExitStack() as stack:
        reader = Reader.outside(f"sqlite:///{path}")
        stack.callback(reader.close)
        server = None
        if prometheus.there():
            if not beside.exists():
                _fill(reader, beside)
            server = stack.enter_context(prometheus.server(beside))
        for count in (1, len(NAMES)):
            for question in _QUESTIONS:
                found += _asked(reader, server, question, NAMES[:count])
    return found


def _fill(reader: Reader, beside: Path) -> None:
    units = dict(zip(house.LAYOUT.quantities, house.LAYOUT.units, strict=True))
    names = [(house.DEVICE, name, units[name]) for name in NAMES]
    tracks = reader.columns(names, 0, _END, most=1 << 30)
    prometheus.fill(beside, list(zip(NAMES, tracks, strict=True)))


def _asked(
    reader: Reader, server: prometheus.Server | None, question: _Question, names: tuple[str, ...]
) -> Iterator[Figure]:
    whole = len(names) == len(NAMES)
    asked = Asked.of([house.DEVICE], names, question.start, _END, 1000 * question.step, "avg")
    answer: list[SeriesPoints] = []

    def ask() -> None:
        answer[:] = reader._range(asked, Event())

    ours = _cost(ask)
    body = _cost(lambda: orjson.dumps([[one.quantity, one.points] for one in answer]))
    what = f"{len(names)} series, {question.what}"
    yield Figure(what, ours, "ms", question.most if whole else None)
    yield Figure("  and as JSON", ours + body, "ms")
    if server is not None:
        other = _theirs(server, question, names)
        share = question.share if whole or question.days == 1 else None
        yield Figure("  Prometheus", other, "ms")
        yield Figure("  ours with JSON / Prometheus", (ours + body) / other, "", share)


def _cost(run: Callable[[], object]) -> float:
    """The least ms of CPU: others may share the core."""
    spent: list[float] = []
    for _ in range(_ROUNDS):
        before = time.thread_time()
        run()
        spent.append(time.thread_time() - before)
    return 1e3 * min(spent)


def _theirs(server: prometheus.Server, question: _Question, names: tuple[str, ...]) -> float:
    chosen = f'house{{q=~"{"|".join(names)}"}}'.replace(".", "[.]")
    query = f"avg_over_time({chosen}[{question.step}s])"
    span = question.start // 1000 + question.step, _END // 1000, question.step
    server.range(query, *span)
    before, times = server.cpu(), 0
    while server.cpu() - before < _SECONDS:
        server.range(query, *span)
        times += 1
    return 1e3 * (server.cpu() - before) / times


if __name__ == "__main__":
    for figure in measure():
        print(*figure.line(), sep="  ")
