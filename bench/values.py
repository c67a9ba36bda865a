"""CPU time of one value when the wire is never waited for: forty float32 in two requests.

A hundred connections ask again as soon as they are answered, of a server in its own process.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.distant import PORT_HOST
from bench.report import Figure
from bench.transactions import cpu
from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.clock import SystemClock
from meterd.model.quantity import CATALOGUE
from meterd.model.sample import Poll, Sink
from meterd.poll.counters import Counters, Form
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.latest import Latest
from meterd.poll.normalise import Normaliser
from meterd.wire import open_link
from meterd.wire.address import parse

CONNECTIONS = 100
ROUNDS = 5
POLLS = 20
VALUES = 40
COUNTERS = ("active_energy.import", "active_energy.export", "active_energy.import.l1")
# Far enough from each other that no request spans two blocks.
_BLOCK = 1000
_HEAD = """\
maker: Bench
model: of floats
source: written by the bench
confidence: high
rows:
"""

Read = Callable[[PollTarget], Awaitable[Poll]]


def write_map(folder: Path, values: int, blocks: int) -> Path:
    """A register map of so many float32 in so many requests, three of them energy counters."""
    plain = [q for q in CATALOGUE.values() if q.unit in ("V", "W", "var")]
    rows = [(q.name, q.unit) for q in plain[: values - len(COUNTERS)]]
    rows += [(name, "kWh") for name in COUNTERS]
    each = -(-values // blocks)
    lines = [
        f"  {name}: {{function: 3, address: {_BLOCK * (i // each) + 2 * (i % each)}, "
        f"type: f32, unit: {unit}}}\n"
        for i, (name, unit) in enumerate(rows)
    ]
    path = folder / f"floats_{values}_{blocks}.yaml"
    path.write_text(_HEAD + "".join(lines))
    return path


def _device(name: str, url: str, path: Path) -> PollTarget:
    link = open_link(parse(url), defaults={})
    meter = ModbusMeter(link, ModbusOptions(map=str(path)), interval=1.0)
    forms = {
        one.quantity: Form.of(one.type, one.step, one.wrap, one.rate) for one in meter.counters()
    }
    return PollTarget(name, meter, 1.0, Normaliser(name), Counters(name, forms=forms))


async def _client_layer(device: PollTarget) -> Poll:
    return device.normaliser.poll(await device.driver.read(), 0, 0.0)


def _whole_poll() -> Read:
    sinks: tuple[Sink, ...] = (Latest(),)
    clock = SystemClock()

    async def poll(device: PollTarget) -> Poll:
        return await poll_once(device, sinks, clock)

    return poll


def _check(poll: Poll) -> None:
    """Doubts take another way through the code than what is measured here."""
    assert poll.up
    assert not poll.doubts
    assert len(poll.values) == VALUES + len(COUNTERS) + 1


async def _cost(devices: list[PollTarget], read: Read) -> float:
    """Microseconds of CPU per value."""

    async def repeat(device: PollTarget) -> None:
        for _ in range(POLLS):
            await read(device)

    before = cpu()
    await asyncio.gather(*(repeat(device) for device in devices))
    return (cpu() - before) / (POLLS * len(devices) * VALUES) * 1e6


async def _rounds(port: int, path: Path) -> tuple[float, float]:
    url = f"tcp://{PORT_HOST}:{port}"
    devices = [_device(f"m{n}", url, path) for n in range(CONNECTIONS)]
    ways: tuple[Read, ...] = (_client_layer, _whole_poll())
    costs: tuple[list[float], ...] = ([], [])
    # The first polls connect, and ask for slow rows, too.
    for way in ways:
        await _cost(devices, way)
    for _ in range(ROUNDS):
        for column, way in zip(costs, ways, strict=True):
            column.append(await _cost(devices, way))
    _check(await ways[1](devices[0]))
    return statistics.median(costs[0]), statistics.median(costs[1])


@contextmanager
def meter() -> Iterator[int]:
    """A meter that says something else each time, in a process of its own; gives its port."""
    command = [sys.executable, "-m", "bench.distant", "0", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, meter() as port:
        path = write_map(Path(folder), VALUES, 2)
        client, whole = asyncio.run(_rounds(port, path))
    what = f"a value, {VALUES} in 2 requests, {CONNECTIONS} connections"
    return [
        Figure(f"{what}: read, decoded, normalised", client, "µs CPU", goal=3),
        Figure(f"{what}: whole poll, counters guarded", whole, "µs CPU"),
    ]
