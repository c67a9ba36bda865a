"""PromQL beside the real Prometheus: the same samples, the same questions, over HTTP, CPU of both.

The samples of meterd come out of a real store: of a day that is closed, whose blocks are one, or of
one that is not, with a block each few hours and the rest in its WAL.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import peer, prometheus
from bench.flash import Stepped
from bench.peer import Peer
from bench.report import Figure, show
from meterd.model.sample import Layout, Poll
from meterd.store.writer import Writer

QUANTITIES = ["active_energy.import", *(f"active_energy.import.l{n}" for n in (1, 2, 3))]
METRIC = "meterd_active_energy_import_watthours_total"
DAY = 86_400
POINTS = 1_000
RUNS = 10
_METERD = str(Path(sys.executable).with_name("meterd"))
_CONFIG = """\
devices: {{none: {{driver: megatec, link: "serial:///dev/none", interval: 1h}}}}
store: {{url: "sqlite:///{store}"}}
api: {{listen: "127.0.0.1:{port}"}}
"""

Rows = list[list[float]]


@dataclass(frozen=True, slots=True)
class _Site:
    """So many devices of four counters, a day of them at `step` seconds."""

    devices: int
    step: int
    closed: bool

    @property
    def what(self) -> str:
        series = self.devices * len(QUANTITIES)
        return f"{series} series at {self.step} s, day {'closed' if self.closed else 'open'}"

    @property
    def names(self) -> list[str]:
        return [f"meter-{n:03}" for n in range(self.devices)]


_RATE = f"rate({METRIC}[5m])"
_QUANTILE = f"quantile_over_time(0.9, {METRIC}[1h])"
_SITES = (
    (_Site(25, 10, closed=True), (_RATE,)),
    (_Site(25, 60, closed=False), (_RATE, f"topk(5, {_RATE})", _QUANTILE)),
    (_Site(250, 60, closed=False), (f"sum({_RATE})",)),
)


def _values(seed: str, count: int) -> Rows:
    """A day of one device: a row for each poll, counters that rise by tenths of a watt-hour."""
    chance = random.Random(seed)
    counters = [chance.randrange(1_000_000) for _ in QUANTITIES]
    rows = []
    for _ in range(count):
        counters = [one + chance.randrange(40) for one in counters]
        rows.append([one / 10 for one in counters])
    return rows


async def _fill(path: Path, site: _Site, start: int) -> None:
    """The store as meterd leaves it after that day, or shortly before its end."""
    layout = Layout.of([(name, "Wh") for name in QUANTITIES])
    clock = Stepped()
    clock.now = start * 1000
    writer = Writer(f"sqlite:///{path}", commit=1e9, hours=False, clock=clock)
    await writer.open()
    count = DAY // site.step
    days = {device: _values(device, count) for device in site.names}
    for place in range(count):
        clock.now = (start + place * site.step) * 1000
        for device, rows in days.items():
            writer.take(Poll(device, clock.now, layout, tuple(rows[place])))
        if place * site.step % 3600 == 600:
            await writer.settle()
    await writer.flush()
    if site.closed:
        clock.now += 2 * DAY * 1000
        await writer.settle()
    await writer.close()


def _expose(path: Path, site: _Site, start: int) -> None:
    """The same samples as OpenMetrics."""
    with path.open("w") as file:
        file.write(f"# TYPE {METRIC.removesuffix('_total')} counter\n")
        for device in site.names:
            rows = _values(device, DAY // site.step)
            for number in range(len(QUANTITIES)):
                phase = f',phase="l{number}"' if number else ""
                head = f'{METRIC}{{device="{device}"{phase}}}'
                file.writelines(
                    f"{head} {row[number]} {start + place * site.step}\n"
                    for place, row in enumerate(rows)
                )
        file.write("# EOF\n")


@contextmanager
def meterd(path: Path) -> Iterator[Peer]:
    """A daemon that polls nothing, over a store."""
    (port,) = peer.ports(1)
    config = path.with_suffix(".yaml")
    config.write_text(_CONFIG.format(store=path, port=port))
    with peer.running([_METERD, "run", "-c", str(config)], port, "/healthz") as found:
        yield found


@contextmanager
def prometheus_of(folder: Path, exposed: Path) -> Iterator[Peer]:
    """A Prometheus with the samples of an OpenMetrics file, as it merges them by itself."""
    prometheus.make_blocks(exposed, folder)
    with prometheus.server(folder) as found:
        yield found


def cost(server: Peer, path: str, query: str, window: tuple[float, float, float]) -> float:
    """CPU milliseconds of the server for one answer, the first two apart.

    `window`: start and end in Unix seconds, step in seconds.
    """
    start, end, step = window
    asked = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": step})
    answer = json.loads(server.get(f"{path}/api/v1/query_range?{asked}"))
    if not answer["data"]["result"]:
        raise RuntimeError(f"{query} has no answer")
    server.get(f"{path}/api/v1/query_range?{asked}")
    before = server.cpu()
    for _ in range(RUNS):
        server.get(f"{path}/api/v1/query_range?{asked}")
    return (server.cpu() - before) * 1000 / RUNS


def compared(what: str, ours: float, theirs: float | None) -> Iterator[Figure]:
    """What meterd takes, and Prometheus beside it where it is installed."""
    beside = {} if theirs is None else {"Prometheus": theirs}
    yield Figure(what, ours, "ms", beside=beside)
    if theirs is not None:
        yield Figure("  meterd to Prometheus", ours / theirs, "x", 1)


def _measured(site: _Site, queries: Sequence[str], folder: Path) -> Iterator[Figure]:
    # A day that is over: two days ago, from midnight on.
    start = (int(time.time()) // DAY - 2) * DAY
    window = start, start + DAY - 1, DAY / POINTS
    asyncio.run(_fill(folder / "meterd.db", site, start))
    with meterd(folder / "meterd.db") as server:
        ours = [cost(server, "/prometheus", query, window) for query in queries]
    theirs: list[float | None] = [None] * len(queries)
    if prometheus.there():
        _expose(folder / "samples.txt", site, start)
        with prometheus_of(folder / "data", folder / "samples.txt") as server:
            theirs = [cost(server, "", query, window) for query in queries]
    for query, mine, other in zip(queries, ours, theirs, strict=True):
        shown = query.replace(METRIC, "…")
        yield from compared(f"{shown}, {POINTS:,} steps, {site.what}", mine, other)


def measure() -> list[Figure]:
    figures: list[Figure] = []
    for site, queries in _SITES:
        with tempfile.TemporaryDirectory() as name:
            figures += _measured(site, queries, Path(name))
    return figures


def main() -> None:
    show(measure())


if __name__ == "__main__":
    main()
