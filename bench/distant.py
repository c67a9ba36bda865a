"""The meters of a fleet, in one process: each has an address of its own, and is far away."""

import asyncio
import sys

from bench.server import Server

PORT_HOST = "127.77.0.1"
_STREET = 200


class Distant(Server):
    """Answers after `latency` seconds."""

    def __init__(self, latency: float) -> None:
        super().__init__()
        self._latency = latency
        self._loop = asyncio.get_running_loop()

    def buffer_updated(self, nbytes: int) -> None:
        # A client that waits for its answer sends nothing meanwhile, so the request stays there.
        self._loop.call_later(self._latency, super().buffer_updated, nbytes)


def hosts(meters: int) -> list[str]:
    """A loopback address for each meter: one link serves one address."""
    return [f"127.77.{1 + n // _STREET}.{1 + n % _STREET}" for n in range(meters)]


async def main(meters: int, latency: float) -> None:
    loop = asyncio.get_running_loop()
    first = await loop.create_server(lambda: Distant(latency), PORT_HOST, 0)
    port = first.sockets[0].getsockname()[1]
    await loop.create_server(lambda: Distant(latency), hosts(meters), port, backlog=8)
    print(port, flush=True)
    # The parent closes stdin when it has measured.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
