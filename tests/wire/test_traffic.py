"""Copies of answers, and other masters, on links whose frames carry no ids: in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient
from tests.virtual import virtual
from tests.virtual.modbus import Behave, Registers, Scripted, telling

LATENCY = 0.06
WIRES = ("rtu", "ascii", "serial")


@contextlib.asynccontextmanager
async def bus(
    wire: str,
    folder: Path,
    *,
    registers: Registers | None = None,
    behave: Behave | None = None,
    shared: bool = False,
) -> AsyncIterator[tuple[Scripted, Link]]:
    framer = "ascii" if wire == "ascii" else "rtu"
    server = Scripted(registers or telling(), framer=framer, shared=shared)  # type: ignore[arg-type]
    if wire == "serial":
        server.start_serial(folder / "port")
    else:
        await server.start_tcp()
    if behave is not None:
        server.behave = behave
    link = open_link(parse(server.url), defaults={}, times=Times())
    try:
        yield server, link
    finally:
        await link.close()
        await server.stop()


def copies(*gaps: float, latency: float = LATENCY) -> Behave:
    return lambda _, reply: [(latency, reply), *((latency + gap, reply) for gap in gaps)]


def places(_: int, __: int, address: int, count: int) -> list[int]:
    return list(range(address, address + count))


async def blocks(client: ModbusClient, *starts: int, count: int = 10) -> list[str]:
    """Reads them one after the other: what was wrong."""
    wrong = []
    for start in starts:
        data = await client.read(3, start, count)
        words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
        if words != list(range(start, start + count)):
            wrong.append(f"{start}: {words}")
    return wrong


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "gaps", [(0.005,), (0.02,), (0.04,), (0.08,), (0.15,), (0.3,), (0.02, 0.03), (0.01, 0.2)]
)
@virtual
async def test_no_copy_of_an_answer_is_taken_for_the_next(
    wire: str, gaps: tuple[float, ...], tmp_path: Path
) -> None:
    async with bus(wire, tmp_path, registers=places, behave=copies(*gaps)) as (server, link):
        client = ModbusClient(link, 1)
        for _ in range(10):
            assert await blocks(client, 0, 100, 200, 300) == []
            await asyncio.sleep(0.3)
        assert link.counters["copies"] > 10
        print(wire, gaps, len(server.log), dict(link.counters))
