"""The whole daemon with many meters at 1 Hz: polled, guarded, stored; CPU, lateness, memory.

Three processes: the meters, the daemon (this file as a program, which prints what it measured of
itself), and the one that asks for the figures.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.distant import hosts
from bench.report import Figure
from bench.transactions import cpu
from bench.values import write_map
from meterd.config.load import load
from meterd.config.settings import Settings
from meterd.daemon.site import Site
from meterd.drivers import registry
from meterd.model.clock import SystemClock

# Until the first commit is through, which makes a row for every series, and slow rows have gone.
SETTLED = 20.0
# Two commits of the store fall into it, and every meter's look at its plan, each twentieth poll.
MEASURED = 20.0
COMMIT = "10s"
_KIB = 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many meters with so many values in so many requests; `latency` is in seconds."""

    meters: int
    values: int
    blocks: int
    latency: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the daemon measured of itself. Seconds; `memory` is bytes resident per meter."""

    polls: int
    failures: int
    stored: int
    cpu: float
    wall: float
    late_median: float
    late_p99: float
    memory: float


class _Clock(SystemClock):
    """Notes how much later than asked each sleeper went on: a bus then asks at once."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[float] = []

    async def sleep(self, seconds: float) -> None:
        due = self.monotonic() + seconds
        await super().sleep(seconds)
        self.late.append(self.monotonic() - due)


def _settings(folder: Path, fleet: Fleet, port: int) -> Settings:
    """The configuration as a person would write it, read from its file."""
    register_map = write_map(folder, fleet.values, fleet.blocks)
    lines = ["store:", f"  url: sqlite:///{folder / 'fleet.db'}", f"  commit: {COMMIT}", "devices:"]
    for n, host in enumerate(hosts(fleet.meters)):
        link = f"tcp://{host}:{port}"
        lines += [f"  m{n}:", "    driver: modbus", f"    map: {register_map}"]
        lines += [f"    link: {link}", "    interval: 1s"]
    path = folder / f"fleet{fleet.meters}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return load(
        path, options_of=registry.options_of, driver_names=registry.names(), environ=os.environ
    )


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


async def _run(folder: Path, fleet: Fleet, port: int) -> Outcome:
    """Poll one meter first, so that only what a meter adds counts as its memory."""
    one = _settings(folder, Fleet(1, fleet.values, fleet.blocks, fleet.latency), port)
    clock = _Clock()
    site = Site(clock)
    await site.apply(one)
    await asyncio.sleep(2.0)
    empty = _resident()
    await site.apply(_settings(folder, fleet, port))
    await asyncio.sleep(SETTLED)
    clock.late.clear()
    began, before, polls, failures, stored = time.monotonic(), cpu(), *_counts(site)
    await asyncio.sleep(MEASURED)
    spent, wall, after = cpu() - before, time.monotonic() - began, _counts(site)
    memory = (_resident() - empty) / max(1, fleet.meters - 1)
    late = list(clock.late)
    await site.close()
    return Outcome(
        after[0] - polls,
        after[1] - failures,
        after[2] - stored,
        spent,
        wall,
        _quantile(late, 0.5),
        _quantile(late, 0.99),
        memory,
    )


def _counts(site: Site) -> tuple[int, int, int]:
    """Polls, failed polls and stored samples until now."""
    states = site.latest.states.values()
    stored = site.store_status().committed
    return sum(s.polls for s in states), sum(s.failures for s in states), stored


def outcome(fleet: Fleet) -> Outcome:
    """Run this fleet against its meters, each side in a process of its own."""
    meters = [sys.executable, "-m", "bench.distant", str(fleet.meters), str(fleet.latency)]
    with subprocess.Popen(meters, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as far:
        assert far.stdout is not None
        port = int(far.stdout.readline())
        command = [sys.executable, "-m", "bench.fleet", json.dumps(asdict(fleet)), str(port)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        assert far.stdin is not None
        far.stdin.close()
    return Outcome(**json.loads(said))


def _figures(fleet: Fleet) -> list[Figure]:
    found = outcome(fleet)
    what = f"{fleet.meters} meters, {fleet.values} values, 1 Hz, {fleet.latency * 1000:g} ms away"
    expected = fleet.meters * MEASURED
    missed = 1 - (found.polls - found.failures) / expected
    value = found.cpu / (found.polls * fleet.values) * 1e6
    many = fleet.meters >= 1000
    return [
        Figure(f"{what}: a value", value, "µs CPU", None if many else 10),
        Figure(f"{what}: a core", found.cpu / found.wall * 100, "%", 15 if many else None),
        Figure(f"{what}: start lateness, median", found.late_median * 1e3, "ms"),
        Figure(f"{what}: start lateness, p99", found.late_p99 * 1e3, "ms", 20 if many else None),
        Figure(f"{what}: polls missed", max(0.0, missed * 100), "%"),
        Figure(f"{what}: resident", found.memory / _KIB, "KiB a meter", 20 if many else None),
    ]


def measure() -> list[Figure]:
    return [*_figures(Fleet(100, 40, 2, 0.0)), *_figures(Fleet(1000, 30, 1, 0.02))]


def main() -> None:
    """The daemon's process: `python -m bench.fleet FLEET PORT` prints an Outcome as JSON."""
    fleet = Fleet(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asdict(asyncio.run(_run(Path(folder), fleet, int(sys.argv[2]))))))


if __name__ == "__main__":
    main()
