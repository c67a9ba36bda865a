"""The meters of a fleet, in one process: each has an address of its own, and may be far away."""

import asyncio
import math
import random
import struct
import sys

from bench.server import Server

PORT_HOST = "127.77.0.1"
_STREET = 200


def registers(turn: int) -> bytes:
    """Sixty float32: of ten, seven change with each turn, in turns a decimal and what is none.

    The others rest; the counters of the bench's maps are among them (see values.write_map).
    """
    return struct.pack(">60f", *(_value(place, turn) for place in range(60)))


def _value(place: int, turn: int) -> float:
    if place % 10 >= 7:
        return 230.1 + place
    return 230.0 + place + (turn / 10 if place % 2 else turn * math.pi / 10)


_TURNS = [registers(turn) for turn in range(16)]


class Distant(Server):
    """Answers after `latency` seconds, and says something else each time."""

    def __init__(self, latency: float) -> None:
        super().__init__()
        self._latency = latency
        self._loop = asyncio.get_running_loop()
        self._turn = random.randrange(len(_TURNS))

    def buffer_updated(self, nbytes: int) -> None:
        # A client that waits for its answer sends nothing meanwhile, so the request stays there.
        if self._latency:
            self._loop.call_later(self._latency, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        ticket, _, _, unit, function, _, count = struct.unpack_from(">HHHBBHH", self._space)
        self._turn = (self._turn + 1) % len(_TURNS)
        head = struct.pack(">HHHBBB", ticket, 0, 3 + 2 * count, unit, function, 2 * count)
        self._transport.write(head + _TURNS[self._turn][: 2 * count])


def hosts(meters: int) -> list[str]:
    """A loopback address for each meter: one link serves one address."""
    return [f"127.77.{1 + n // _STREET}.{1 + n % _STREET}" for n in range(meters)]


async def main(meters: int, latency: float) -> None:
    loop = asyncio.get_running_loop()
    first = await loop.create_server(lambda: Distant(latency), PORT_HOST, 0)
    port = first.sockets[0].getsockname()[1]
    if meters:
        await loop.create_server(lambda: Distant(latency), hosts(meters), port, backlog=8)
    print(port, flush=True)
    # The parent closes stdin when it has measured.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
