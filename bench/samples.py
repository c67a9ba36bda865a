"""CPU time of one stored sample: poll, normalise, latest, alerts and store, as in the daemon.

Polls of forty values from a driver that answers at once, so that the wire is not in the sum.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.report import Figure
from bench.transactions import cpu
from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.model.clock import SystemClock
from meterd.model.quantity import CATALOGUE
from meterd.model.sample import Reading
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.latest import Latest
from meterd.poll.normalise import Normaliser
from meterd.store.writer import Writer

DEVICES = 20
POLLS = 100
VALUES = 40


class _Meter:
    """Forty readings that change with every poll."""

    def __init__(self) -> None:
        rows = [q for q in CATALOGUE.values() if q.unit in ("V", "A", "W", "var")][:VALUES]
        self._rows = [(q.name, q.unit) for q in rows]
        self._polls = 0

    async def read(self) -> Sequence[Reading]:
        self._polls += 1
        return [Reading(name, 200.0 + self._polls / 10, unit) for name, unit in self._rows]


class _Clock(SystemClock):
    """A second a poll, so that every sample has a time of its own."""

    def __init__(self) -> None:
        self._ms = 1_800_000_000_000

    def now_ms(self) -> int:
        self._ms += 1000
        return self._ms


async def _run(folder: Path) -> float:
    clock = _Clock()
    writer = Writer(f"sqlite:///{folder / 'bench.db'}", commit=1.0)
    await writer.open()
    rules = [Rule("high", "voltage.l1", above=253.0), Rule("gone", "device.up", equals=0.0)]
    sinks = (Latest(), writer, Alerts(rules, {}, clock=clock))
    devices = [PollTarget(f"m{n}", _Meter(), 1.0, Normaliser(f"m{n}")) for n in range(DEVICES)]
    for device in devices:
        await poll_once(device, sinks, clock)
    await writer.flush()
    before = cpu()
    for _ in range(POLLS):
        for device in devices:
            await poll_once(device, sinks, clock)
        await asyncio.sleep(0)
    await writer.flush()
    spent = cpu() - before
    await writer.close()
    return spent / (POLLS * DEVICES * (VALUES + 1)) * 1e6


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        cost = asyncio.run(_run(Path(folder)))
    return [Figure("one stored sample, poll to commit", cost, "µs CPU", goal=15)]
