"""pymodbus' own server with its four areas apart: coils, inputs, holding and input registers.

    python -m tests.e2e.servers.pymodbus_areas UNIT MOST

It answers to this unit alone. Reads of more than MOST registers are refused with exception 3,
registers that were not given with exception 2. Of functions 1 and 2 each word is one bit.
"""

import asyncio
import sys

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.e2e.servers.registers import given


def areas() -> tuple[list[SimData], list[SimData], list[SimData], list[SimData]]:
    """What was given, by function. No area may be empty: each has one thing far up."""
    bits: dict[int, list[SimData]] = {1: [], 2: []}
    words: dict[int, list[SimData]] = {3: [], 4: []}
    for function, first, run in given():
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


async def main() -> None:
    unit, most = map(int, sys.argv[1:])

    async def limit(
        function: int, _first: int, _at: int, count: int, _now: list[int], _new: object
    ) -> ExcCodes | None:
        return ExcCodes.ILLEGAL_VALUE if function > 2 and count > most else None

    device = SimDevice(unit, simdata=areas(), action=limit)
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert isinstance(server.transport, asyncio.Server)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
