"""A Modbus server whose every byte a test decides: on TCP (MBAP, RTU, ASCII frames) or serial.

    server = Scripted(lambda unit, function, address, count: range(address, address + count))
    await server.start_tcp()                       # or server.start_serial(tmp_path / "port")
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.3))
    server.behave = twice(0.02)                    # from now on, each reply once more, 20 ms later
    await ModbusClient(link, 1).read(3, 0, 2)
    assert [asked.count for asked in server.log] == [2]

What a behaviour does is plain: it takes what was asked and the right reply, and returns pieces,
each with the seconds from the request on. So a test can also pass a function of its own:

    def odd(asked: Asked, reply: bytes) -> list[Piece]:
        return [(0.01, reply), (0.05, reply)] if asked.unit == 3 else [(0.01, reply)]

`shared=True` is a bus behind a transparent gateway: one request after the other, and every client
hears every reply. Then a second link to `server.url` is a second master on that bus.
"""

import asyncio
import itertools
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meterd.sim.frames import Adu, Framing, framing, with_crc
from meterd.sim.pty import PtyPort

Piece = tuple[float, bytes]
"""Seconds after the request, and what is said then."""

_READ = struct.Struct(">BHH")
_BITS = (1, 2)
_CHARACTER = 11
_EXCEPTION = 0x80


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: when and from which client (1 is the first), and its fields."""

    at: float
    client: int
    tid: int
    unit: int
    function: int
    address: int
    count: int

    @property
    def read(self) -> tuple[int, int, int]:
        return self.function, self.address, self.count


class No(Exception):  # noqa: N818 (an answer)
    """The unit answers with this exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


Registers = Callable[[int, int, int, int], Sequence[int] | None]
"""The words (bits for functions 1 and 2) of unit, function, address and count; None for silence.
May raise No."""

Behave = Callable[[Asked, bytes], Iterable[Piece]]

LATENCY = 0.01


# -- behaviours --------------------------------------------------------------------------------


def well(asked: Asked, reply: bytes) -> list[Piece]:
    """The right reply, in its time."""
    return [(LATENCY, reply)]


def twice(gap: float, latency: float = LATENCY) -> Behave:
    """Each reply, and a copy of it `gap` seconds after."""
    return lambda _, reply: [(latency, reply), (latency + gap, reply)]


def late(seconds: float) -> Behave:
    """Each reply so long after its request."""
    return lambda _, reply: [(seconds, reply)]


def bytewise(pause: float, latency: float = LATENCY) -> Behave:
    """Each byte so long after the one before."""
    return lambda _, reply: [(latency + n * pause, reply[n : n + 1]) for n in range(len(reply))]


def mute(_: Asked, __: bytes) -> list[Piece]:
    """Silence."""
    return []


def before(data: bytes, latency: float = LATENCY) -> Behave:
    """These bytes stand before each reply."""
    return lambda _, reply: [(latency, data + reply)]


def where(which: Callable[[Asked], bool], then: Behave, otherwise: Behave = well) -> Behave:
    """Only some requests are answered like that."""
    return lambda asked, reply: (then if which(asked) else otherwise)(asked, reply)


def in_turn(*each: Behave, then: Behave = well) -> Behave:
    """The first request meets the first of them, and so on; after them, `then`."""
    left = iter(each)

    def behave(asked: Asked, reply: bytes) -> Iterable[Piece]:
        return next(left, then)(asked, reply)

    return behave


# -- the server --------------------------------------------------------------------------------


class Scripted:
    """See the module. `log` has all requests; `say` lets the bus speak by itself."""

    def __init__(
        self,
        registers: Registers,
        *,
        units: Collection[int] | None = None,
        framer: Literal["socket", "rtu", "ascii"] = "socket",
        behave: Behave = well,
        shared: bool = False,
    ) -> None:
        self.framer = framer
        self.behave = behave
        self.shared = shared
        self.refuses: int = 0
        """An exception code that answers everything, while it is not 0."""
        self.log: list[Asked] = []
        self.url = ""
        self.clients: dict[int, Client] = {}
        self._registers = registers
        self._units = units
        self._numbers = itertools.count(1)
        self._free_at = 0.0
        self._listener: asyncio.AbstractServer | None = None
        self._port: PtyPort | None = None

    async def start_tcp(self) -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: TcpClient(self), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        self._listener = listener
        self.url = f"tcp://127.0.0.1:{port}?framer={self.framer}"

    def start_serial(self, path: Path) -> None:
        client = Client(self)
        self._port = PtyPort(client.heard, path)
        client.write = self._port.write  # type: ignore[method-assign]
        self._port.open()
        self.url = f"serial://{path}?framer={self.framer}"

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._port is not None:
            self._port.close()
        self.hang_up()
        await asyncio.sleep(0)

    def hang_up(self) -> None:
        """Close every TCP connection."""
        for client in tuple(self.clients.values()):
            client.hang_up()

    def join(self, client: "Client") -> int:
        number = next(self._numbers)
        self.clients[number] = client
        return number

    def say(self, data: bytes, after: float = 0.0) -> None:
        """To all clients, unasked."""
        asyncio.get_running_loop().call_later(after, self._out, tuple(self.clients.values()), data)

    def frame(self, asked: Asked, pdu: bytes) -> bytes:
        """A PDU in this server's frames, as the answer to that request."""
        return wrap(self.framer, asked.tid, asked.unit, pdu)

    def received(self, client: "Client", adu: Adu) -> None:
        """Somebody asks."""
        loop = asyncio.get_running_loop()
        function, address, count = _READ.unpack(adu.pdu)
        asked = Asked(loop.time(), client.number, adu.tid, adu.unit, function, address, count)
        self.log.append(asked)
        pdu = self._pdu(asked)
        pieces = list(self.behave(asked, self.frame(asked, pdu))) if pdu else []
        # One bus: what is asked meanwhile waits until the answer is out.
        begin = max(loop.time(), self._free_at) if self.shared else loop.time()
        for after, data in pieces:
            to = tuple(self.clients.values()) if self.shared else (client,)
            loop.call_at(begin + after, self._out, to, data)
        # A copy that comes later than the answer meets whoever asks then.
        self._free_at = begin + (pieces[0][0] if pieces else 0.0)

    def _pdu(self, asked: Asked) -> bytes:
        if self._units is not None and asked.unit not in self._units:
            return b""
        try:
            if self.refuses:
                raise No(self.refuses)
            words = self._registers(asked.unit, *asked.read)
        except No as no:
            return bytes([asked.function | _EXCEPTION, no.code])
        if words is None:
            return b""
        return answer(asked.function, words)

    @staticmethod
    def _out(clients: "Iterable[Client]", data: bytes) -> None:
        for client in clients:
            client.write(data)


def answer(function: int, words: Sequence[int]) -> bytes:
    """The PDU that carries these registers, or bits."""
    if function in _BITS:
        bits = sum(bool(bit) << place for place, bit in enumerate(words))
        data = bits.to_bytes(-(-len(words) // 8), "little")
    else:
        data = struct.pack(f">{len(words)}H", *words)
    return bytes([function, len(data)]) + data


def wrap(framer: str, tid: int, unit: int, pdu: bytes) -> bytes:
    """A PDU in frames of MBAP (`socket`), RTU or ASCII."""
    body = bytes([unit]) + pdu
    if framer == "rtu":
        return with_crc(body)
    if framer == "ascii":
        check = -sum(body) & 0xFF
        return f":{(body + bytes([check])).hex().upper()}\r\n".encode()
    return struct.pack(">HHH", tid, 0, len(body)) + body


class _AsciiFraming:
    """Requests in ASCII frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Adu]:
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        bodies = (bytes.fromhex(line.decode()[1:]) for line in lines)
        return [Adu(0, body[0], body[1:-1]) for body in bodies]

    def forget(self) -> None:
        self._buffer = b""

    def wrap(self, adu: Adu) -> bytes:
        return wrap("ascii", adu.tid, adu.unit, adu.pdu)


class Client:
    """One program that asks."""

    def __init__(self, server: Scripted) -> None:
        self._server = server
        self._framing: Framing = (
            _AsciiFraming() if server.framer == "ascii" else framing(server.framer)
        )
        self.number = server.join(self)

    def heard(self, data: bytes) -> None:
        for adu in self._framing.feed(data):
            self._server.received(self, adu)

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def hang_up(self) -> None:
        """A serial line has nothing to hang up."""


class TcpClient(Client, asyncio.Protocol):
    """One connection."""

    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.clients.pop(self.number, None)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self.heard(data)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()


def telling() -> Registers:
    """Each answer has its own number in its first register; the others hold their addresses."""
    numbers: Iterator[int] = itertools.count(1)

    def read(_: int, __: int, address: int, count: int) -> list[int]:
        return [next(numbers) & 0xFFFF, *range(address + 1, address + count)]

    return read
