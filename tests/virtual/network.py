"""TCP in memory: connections whose bytes travel in the time of the loop."""

import asyncio
import ipaddress
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

Factory = Callable[[], asyncio.BaseProtocol]

# What the system and asyncio take before a writer has to wait, in bytes.
_KERNEL = 65536
_HIGH = 65536
# No more than this arrives at once.
_SEGMENT = 16384
_FIRST_PORT = 40001


@dataclass(frozen=True, slots=True)
class Way:
    """Where bytes go: connection number (from 1 on), the listener's port, and to which side."""

    connection: int
    port: int
    to_server: bool


Mangle = Callable[[Way, bytes], Iterable[tuple[float, bytes]]]
"""What becomes of bytes on their way: pieces, each with the seconds after the one before it."""


class Network:
    """All listeners and connections of a loop.

    `latency` is what bytes take one way, in seconds. `mangle` may cut, delay, change, double or
    drop them. `blocked` are ports that never answer a connection. `ports` are serial ones.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.latency = 0.0002
        self.mangle: Mangle | None = None
        self.blocked: set[int] = set()
        self.ports: dict[str, Any] = {}
        self.connections = 0
        self._loop = loop
        self._listeners: dict[int, Listener] = {}
        self._next_port = _FIRST_PORT

    def free_port(self) -> int:
        """One where nobody listens."""
        self._next_port += 1
        return self._next_port - 1

    def listen(self, factory: Factory, host: str, port: int) -> "Listener":
        """Raises OSError where somebody listens already."""
        if port in self._listeners:
            raise OSError(98, "Address already in use")
        port = port or self.free_port()
        found = self._listeners[port] = Listener(self, factory, host, port)
        return found

    def unlisten(self, port: int) -> None:
        self._listeners.pop(port, None)

    async def connect(
        self, factory: Factory, host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Raises what a socket raises."""
        _resolve(host)
        if port in self.blocked:
            await self._loop.create_future()
        await asyncio.sleep(2 * self.latency)
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(111, f"Connect call failed ({host!r}, {port})")
        self.connections += 1
        number = self.connections
        client = ("127.0.0.1", 50000 + number % 10000)
        server = (listener.host, port)
        near = End(self, factory(), Way(number, port, to_server=True), client, server)
        far = End(self, listener.factory(), Way(number, port, to_server=False), server, client)
        near.peer, far.peer = far, near
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)
        return near, near.protocol


def _resolve(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            raise socket.gaierror(-2, "Name or service not known") from None


class Listener:
    """What create_server returns."""

    def __init__(self, network: Network, factory: Factory, host: str, port: int) -> None:
        self.factory = factory
        self.host = host
        self.port = port
        self._network = network
        self._open = True

    @property
    def sockets(self) -> tuple["FakeSocket", ...]:
        return (FakeSocket((self.host, self.port)),) if self._open else ()

    def is_serving(self) -> bool:
        return self._open

    def close(self) -> None:
        if self._open:
            self._network.unlisten(self.port)
        self._open = False

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)

    async def start_serving(self) -> None:
        """It does."""

    async def __aenter__(self) -> "Listener":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class FakeSocket:
    """As much of a socket as is looked at."""

    family = socket.AF_INET

    def __init__(self, name: tuple[str, int], peer: tuple[str, int] = ("", 0)) -> None:
        self._name, self._peer = name, peer
        self.options: dict[tuple[int, int], Any] = {}

    def getsockname(self) -> tuple[str, int]:
        return self._name

    def getpeername(self) -> tuple[str, int]:
        return self._peer

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self.options[level, option] = value

    @property
    def resets(self) -> bool:
        """Whether closing breaks the connection off, as lingering for 0 s does."""
        value = self.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        return value == struct.pack("ii", 1, 0)


_EOF, _RESET = "eof", "reset"


class End(asyncio.Transport):
    """One side of a connection."""

    peer: "End"

    def __init__(
        self,
        network: Network,
        protocol: asyncio.BaseProtocol,
        way: Way,
        name: tuple[str, int],
        peer: tuple[str, int],
    ) -> None:
        sock = FakeSocket(name, peer)
        super().__init__({"socket": sock, "sockname": name, "peername": peer})
        self.protocol = protocol
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._way = way
        self._socket = sock
        # What is on its way to the other side, in its order, and when the last of it is there.
        self._sent: deque[bytes | str] = deque()
        self._size = 0
        self._there_at = 0.0
        self._high = _HIGH
        self._writer_waits = False
        # What arrived while nobody read.
        self._unread: deque[bytes | str] = deque()
        self._reading = True
        self._eof_sent = False
        self._closing = False

    # -- writing -----------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        data = bytes(data)
        if self._closing or self._eof_sent or not data:
            return
        mangle = self._network.mangle
        if mangle is None:
            for start in range(0, len(data), _SEGMENT):
                self._send(data[start : start + _SEGMENT], 0.0)
            return
        after = 0.0
        for pause, piece in mangle(self._way, data):
            after += pause
            self._send(piece, after)

    def _send(self, what: bytes | str, after: float) -> None:
        when = self._loop.time() + self._network.latency + after
        self._there_at = max(self._there_at, when)
        self._sent.append(what)
        if isinstance(what, bytes):
            self._size += len(what)
            if self._size > _KERNEL + self._high and not self._writer_waits:
                self._writer_waits = True
                self.protocol.pause_writing()
        self._loop.call_at(self._there_at, self._arrive)

    def _arrive(self) -> None:
        """The first of what is on its way is there."""
        what = self._sent.popleft()
        if self.peer.arrived(what) and isinstance(what, bytes):
            self.taken(len(what))

    def taken(self, size: int) -> None:
        """The other side has read so much."""
        self._size -= size
        if self._writer_waits and self._size <= _KERNEL + self._high // 4:
            self._writer_waits = False
            if not self._closing:
                self.protocol.resume_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_sent and not self._closing:
            self._eof_sent = True
            self._send(_EOF, 0.0)

    def get_write_buffer_size(self) -> int:
        return max(self._size - _KERNEL, 0)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._high // 4, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH if high is None else high

    # -- reading -----------------------------------------------------------------------------

    def arrived(self, what: bytes | str) -> bool:
        """Whether it was taken; else it waits here."""
        if self._closing:
            # Who writes to a closed socket is told so.
            if isinstance(what, bytes):
                self._loop.call_later(self._network.latency, self.peer.fail)
            return True
        if not self._reading:
            self._unread.append(what)
            return False
        self._take(what)
        return True

    def _take(self, what: bytes | str) -> None:
        if what == _RESET:
            self.fail()
        elif what == _EOF:
            if not cast("asyncio.Protocol", self.protocol).eof_received():
                self.close()
        elif isinstance(self.protocol, asyncio.BufferedProtocol):
            left = cast("bytes", what)
            while left:
                space = cast("memoryview", self.protocol.get_buffer(len(left)))
                size = min(len(space), len(left))
                space[:size] = left[:size]
                left = left[size:]
                self.protocol.buffer_updated(size)
        else:
            cast("asyncio.Protocol", self.protocol).data_received(cast("bytes", what))

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        while self._unread and self._reading and not self._closing:
            what = self._unread.popleft()
            self._take(what)
            if isinstance(what, bytes):
                self.peer.taken(len(what))

    # -- the end -----------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def fail(self) -> None:
        """The other side broke it off."""
        self._end(ConnectionResetError(104, "Connection reset by peer"))

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        if error is None and (self._socket.resets or not self._eof_sent):
            self._send(_RESET if self._socket.resets else _EOF, 0.0)
        self._closing = True
        self._loop.call_soon(self.protocol.connection_lost, error)
