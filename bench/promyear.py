"""PromQL over a year of twelve series at a minute beside Prometheus, and what they take on disk.

Random walks of tenths, and one counter. `python -m bench promyear`: some minutes.
"""

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench import prometheus
from bench.flash import Stepped
from bench.promql import DAY, compared, cost, meterd, prometheus_of
from bench.report import Figure, show
from meterd.model.sample import Layout, Poll
from meterd.store.writer import Writer

DAYS = 365
_FIRST = 20_089 * DAY  # 2025-01-01
_END = _FIRST + DAYS * DAY
_NAMES = [
    *(f"{quantity}.l{n}" for quantity in ("voltage", "current") for n in (1, 2, 3)),
    *(f"active_power.l{n}" for n in (1, 2, 3)),
    "active_power",
    "frequency",
    "active_energy.import",
]
_UNITS = {"voltage": "V", "current": "A", "active_power": "W", "frequency": "Hz"}
_LAYOUT = Layout.of([(name, _UNITS.get(name.split(".")[0], "Wh")) for name in _NAMES])
_PHASES = 'meterd_active_power_watts{phase!=""}'
_ENERGY = "meterd_active_energy_import_watthours_total"
_ALL = '{device="house",__name__!~".*_local_day_.*"}'

# What is asked, query, days, step in seconds.
_QUESTIONS = (
    ("a year, 3 series, avg_over_time[1d] at 1 d", f"avg_over_time({_PHASES}[1d])", 364, DAY),
    ("a year, 3 series, avg_over_time[1h] at 1 h", f"avg_over_time({_PHASES}[1h])", 364, 3600),
    ("a year, 3 series, max_over_time[1h] at 1 h", f"max_over_time({_PHASES}[1h])", 364, 3600),
    ("a year, increase[1d] at 1 d", f"increase({_ENERGY}[1d])", 364, DAY),
    ("30 days, 3 series at 15 min", _PHASES, 30, 900),
    ("24 h, 12 series at 1 min", _ALL, 1, 60),
    ("24 h, 1 series at 1 min", _ENERGY, 1, 60),
)


def _walk() -> Iterator[tuple[int, tuple[float, ...]]]:
    """(Unix s, the values of a poll)."""
    chance = random.Random(1)
    gauges, energy = [2300] * 3 + [1500] * 3 + [5000] * 3 + [15000, 500], 41_000_000
    for time in range(_FIRST, _END, 60):
        gauges = [max(0, value + chance.randrange(-15, 16)) for value in gauges]
        energy += gauges[9] // 60
        yield time, (*(value / 10 for value in gauges), energy / 10)


async def _fill(path: Path) -> None:
    clock = Stepped()
    clock.now = _FIRST * 1000
    writer = Writer(f"sqlite:///{path}", commit=1e9, hours=False, clock=clock)
    await writer.open()
    for number, (time, values) in enumerate(_walk()):
        clock.now = time * 1000
        writer.take(Poll("house", clock.now, _LAYOUT, values))
        if number % 60 == 59:
            await writer.flush()
    clock.now += 2 * DAY * 1000
    await writer.settle()
    await writer.close()


def _expose(path: Path) -> None:
    """The same samples as OpenMetrics, with the names that meterd gives them."""
    rows = list(_walk())
    with path.open("w") as file:
        for place, (name, unit) in enumerate(zip(_LAYOUT.quantities, _LAYOUT.units, strict=True)):
            quantity, _, phase = name.partition(".l")
            words = {"V": "volts", "A": "amperes", "W": "watts", "Hz": "hertz"}
            metric = _ENERGY if unit == "Wh" else f"meterd_{quantity}_{words[unit]}"
            label = f',phase="l{phase}"' if phase else ""
            if phase in ("", "1") or unit == "Wh":
                kind = "counter" if unit == "Wh" else "gauge"
                file.write(f"# TYPE {metric.removesuffix('_total')} {kind}\n")
            head = f'{metric}{{device="house"{label}}}'
            file.writelines(f"{head} {values[place]} {time}\n" for time, values in rows)
        file.write("# EOF\n")


def _sizes(path: Path) -> Iterator[Figure]:
    samples = DAYS * 1440 * len(_NAMES)
    with closing(sqlite3.connect(path)) as connection:
        for table, goal in (("block", None), ("rollup", 0.4)):
            question = "SELECT sum(pgsize) FROM dbstat WHERE name = ?"
            ((size,),) = connection.execute(question, (table,))
            yield Figure(f"a year at 60 s, table {table}", size / samples, "B/sample", goal)
    yield Figure("  the whole file", path.stat().st_size / samples, "B/sample")


def measure() -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(_fill(folder / "year.db"))
        figures += _sizes(folder / "year.db")
        windows = [(_END - days * DAY + step, _END - step, step) for _, _, days, step in _QUESTIONS]
        with meterd(folder / "year.db") as server:
            ours = [
                cost(server, "/prometheus", query, window)
                for (_, query, _, _), window in zip(_QUESTIONS, windows, strict=True)
            ]
        theirs: list[float | None] = [None] * len(ours)
        if prometheus.there():
            _expose(folder / "samples.txt")
            with prometheus_of(folder / "data", folder / "samples.txt") as server:
                theirs = [
                    cost(server, "", query, window)
                    for (_, query, _, _), window in zip(_QUESTIONS, windows, strict=True)
                ]
        for (what, _, _, _), mine, other in zip(_QUESTIONS, ours, theirs, strict=True):
            figures += compared(what, mine, other)
    return figures


if __name__ == "__main__":
    show(measure())
