"""pymodbus' own server with its four areas apart: coils, inputs, holding and input registers."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

Run = tuple[int, int, list[int]]
"""Function, address and words; of functions 1 and 2 each word is one bit."""


def areas(
    given: Iterable[Run],
) -> tuple[list[SimData], list[SimData], list[SimData], list[SimData]]:
    """What was given, by function. No area may be empty: each has one thing far up."""
    bits: dict[int, list[SimData]] = {1: [], 2: []}
    words: dict[int, list[SimData]] = {3: [], 4: []}
    for function, first, run in given:
        if function in bits:
            row = [word == 1 for word in run]
            bits[function].append(SimData(first, values=row, datatype=DataType.BITS))
            continue
        words[function] += [
            SimData(address, values=word, datatype=DataType.REGISTERS)
            for address, word in enumerate(run, first)
        ]
    for data in bits.values():
        data.append(SimData(65520, values=[False] * 16, datatype=DataType.BITS))
    for data in words.values():
        data.append(SimData(65535, values=0, datatype=DataType.REGISTERS))
    return bits[1], bits[2], words[3], words[4]


@asynccontextmanager
async def serving(unit: int, most: int, given: Iterable[Run]) -> AsyncIterator[int]:
    """The port, while it answers to this unit alone.

    Reads of more than `most` registers are refused with exception 3, registers that were not
    given with exception 2.
    """

    async def limit(
        function: int, _first: int, _at: int, count: int, _now: list[int], _new: object
    ) -> ExcCodes | None:
        return ExcCodes.ILLEGAL_VALUE if function > 2 and count > most else None

    device = SimDevice(unit, simdata=areas(given), action=limit)
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert isinstance(server.transport, asyncio.Server)
    try:
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
