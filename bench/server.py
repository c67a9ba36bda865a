"""A Modbus TCP server that does as little as possible: register n holds n, as fast as it can."""

import asyncio
import struct
import sys


class Server(asyncio.BufferedProtocol):
    """Answers function 3 and 4; one request a segment is enough for a client that waits."""

    def __init__(self) -> None:
        self._space = memoryview(bytearray(1024))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        ticket, _, _, unit, function, _, count = struct.unpack_from(">HHHBBHH", self._space)
        self._transport.write(
            struct.pack(">HHHBBB", ticket, 0, 3 + 2 * count, unit, function, 2 * count)
            + _REGISTERS[: 2 * count]
        )


_REGISTERS = struct.pack(">60f", *(230.1 + i for i in range(60)))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent closes stdin when it has measured.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
