"""CPU time of one Modbus transaction (60 registers, decoded to 30 floats) against pymodbus' client.

Both clients talk to the same server in its own process, in turns, in rounds: the ratio is taken
within a round, because the machine's speed drifts.
"""

import asyncio
import logging
import resource
import statistics
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient

from bench.report import Figure
from meterd.drivers.blocks import Block
from meterd.drivers.registers import Row
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.modbus import ModbusClient

ROUNDS = 5
Costs = tuple[list[float], list[float], list[float]]
TRANSACTIONS = 3000
_FLOATS = struct.Struct(">30f")


def cpu() -> float:
    """User and system seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def server() -> Iterator[int]:
    """The server in a process of its own; gives its port."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


async def _cost(read: Callable[[int], Awaitable[object]], connections: int) -> float:
    """Microseconds of CPU per call, each connection asking again as soon as it is answered."""

    async def repeat(i: int, times: int) -> None:
        for _ in range(times):
            await read(i)

    await asyncio.gather(*(repeat(i, 3) for i in range(connections)))
    times = TRANSACTIONS // connections
    before = cpu()
    await asyncio.gather(*(repeat(i, times) for i in range(connections)))
    return (cpu() - before) / (times * connections) * 1e6


async def _rounds(port: int, connections: int) -> Costs:
    """For each round the cost of: the link, the link with readings made, pymodbus' client."""
    links = [open_link(parse(f"tcp://127.0.0.1:{port}"), defaults={}) for _ in range(connections)]
    ours = [ModbusClient(link, 1) for link in links]
    stock = [AsyncModbusTcpClient("127.0.0.1", port=port) for _ in range(connections)]
    await asyncio.gather(*(client.connect() for client in stock))
    rows = [Row(f"x.v{i}", 3, 2 * i, "f32", 2, "V") for i in range(30)]
    block = Block(3, 0, 60, rows)

    async def link_only(i: int) -> object:
        return _FLOATS.unpack(await ours[i].read(3, 0, 60))

    async def to_readings(i: int) -> object:
        return block.decode(await ours[i].read(3, 0, 60))

    async def pymodbus(i: int) -> object:
        reply = await stock[i].read_holding_registers(0, count=60, device_id=1)
        return _FLOATS.unpack(struct.pack(">60H", *reply.registers))

    costs: Costs = ([], [], [])
    for _ in range(ROUNDS):
        for column, read in zip(costs, (link_only, to_readings, pymodbus), strict=True):
            column.append(await _cost(read, connections))
    for client in stock:
        client.close()
    await asyncio.gather(*(link.close() for link in links))
    return costs


def measure() -> list[Figure]:
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    figures = []
    for connections in (1, 100):
        with server() as port:
            link, readings, stock = asyncio.run(_rounds(port, connections))
        where = f"{connections} connection{'s' if connections > 1 else ''}"
        ratio = statistics.median(a / b for a, b in zip(link, stock, strict=True))
        figures += [
            Figure(f"transaction, pymodbus' client, {where}", statistics.median(stock), "µs CPU"),
            Figure(f"transaction, meterd's link, {where}", statistics.median(link), "µs CPU"),
            Figure(f"meterd's link / pymodbus' client, {where}", ratio, "×", goal=0.5),
            Figure(f"with 30 readings made, {where}", statistics.median(readings), "µs CPU"),
        ]
    return figures
