"""One client of a live stream: writes to its socket as fast as it reads."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

# Bytes that may wait in this process for a client; beyond, it is behind and is told no more.
MOST_WAITING = 256 * 1024
# Bytes that the kernel may keep for a client: by itself it would take some megabytes.
_SOCKET_BUFFER = 64 * 1024


def event(kind: str, data: bytes, number: str = "") -> bytes:
    """One event; `data` is JSON without line ends."""
    mark = f"id: {number}\n" if number else ""
    return b"%bevent: %b\ndata: %b\n\n" % (mark.encode(), kind.encode(), data)


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(slots=True, eq=False)
class Listener:
    """`is_chunked`: the client speaks HTTP/1.1. `over` ends its request.

    `is_welcome`: whether its login is still good.
    """

    transport: asyncio.WriteTransport
    is_chunked: bool
    over: "asyncio.Future[None]"
    is_welcome: Callable[[], bool]
    is_behind: bool = False

    def settle_in(self) -> None:
        """Keep the kernel's buffer small, where the transport is a socket."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)

    def say(self, data: bytes, framed: bytes) -> bool:
        """Both forms of the same; False where the client has not taken what came before."""
        if self.over.done():
            return True
        if self.transport.is_closing():
            self.end()
            return True
        if self.is_behind or self.transport.get_write_buffer_size() > MOST_WAITING:
            return False
        self.transport.write(framed if self.is_chunked else data)
        return True

    @property
    def has_caught_up(self) -> bool:
        """Whether all that waited is taken."""
        return self.transport.get_write_buffer_size() == 0

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def drop(self) -> None:
        """The end, and no waiting for those who read nothing."""
        if not self.has_caught_up:
            self.transport.abort()
        self.end()
