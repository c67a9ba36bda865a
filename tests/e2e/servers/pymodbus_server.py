"""pymodbus' own server, with its own store of registers and its own frames."""

import asyncio

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.e2e.servers.registers import given


async def main() -> None:
    words = {
        address: value for _, first, run in given() for address, value in enumerate(run, first)
    }
    data = [
        SimData(address, values=word, datatype=DataType.REGISTERS, readonly=True)
        for address, word in sorted(words.items())
    ]
    server = ModbusTcpServer(SimDevice(1, simdata=data), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert isinstance(server.transport, asyncio.Server)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
