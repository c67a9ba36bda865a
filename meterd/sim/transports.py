"""Connections of the simulated Modbus server, TCP and serial: framing and timed replies."""

import asyncio
import socket
import struct
from pathlib import Path
from typing import Literal, Protocol, cast

from meterd.sim.frames import Adu, framing
from meterd.sim.pty import PtyPort

Framer = Literal["socket", "rtu"]

# Seconds of silence after which the next byte begins a request. RTU has 3.5 characters; TCP and
# the scheduler delay bytes by more.
_SILENCE_S = 0.1
# Seconds in which half a reply is sent before the connection is reset.
_RESET_DELAY_S = 0.02
# Seconds for which a serial port is removed in place of closing a connection.
_UNPLUGGED_S = 0.2


class Owner(Protocol):
    """The server that a connection belongs to."""

    framer: Framer
    latency: float
    shared_wire: bool
    free_at: float
    lines: "set[ServerLine]"

    def received(self, line: "ServerLine", request: Adu) -> None:
        """Called with each request."""


class ServerLine:
    """The connection of one client."""

    def __init__(self, server: Owner) -> None:
        self.framer = server.framer
        self._server = server
        self._framing = framing(server.framer)
        self._loop = asyncio.get_running_loop()
        self._last_received = 0.0
        self._free_at = 0.0

    def wrap(self, adu: Adu) -> bytes:
        """The bytes of one message."""
        return self._framing.wrap(adu)

    def data_received(self, data: bytes) -> None:
        now = self._loop.time()
        if now - self._last_received > _SILENCE_S:
            self._framing.forget()
        self._last_received = now
        try:
            requests = self._framing.feed(data)
        except ValueError:
            self.hang_up()
            return
        for request in requests:
            self._server.received(self, request)

    def send(self, data: bytes, delay: float = 0.0) -> None:
        """Send now or in `delay` seconds, but not before a dribbled reply is complete."""
        delay = max(delay + self._server.latency, self._free() - self._loop.time())
        if self._server.shared_wire:
            # One wire: later requests are replied to after this reply.
            self._server.free_at = self._loop.time() + delay
        if delay > 0:
            self._loop.call_later(delay, self._write, data)
        else:
            self._write(data)

    def _free(self) -> float:
        """The loop time from which the wire is free."""
        return max(self._free_at, self._server.free_at if self._server.shared_wire else 0.0)

    def dribble(self, data: bytes, pause: float) -> None:
        """Send byte by byte, with a pause of so many seconds between two."""
        for index in range(len(data)):
            self._loop.call_later(index * pause, self._write, data[index : index + 1])
        self._free_at = self._loop.time() + len(data) * pause

    def _write(self, data: bytes) -> None:
        lines = tuple(self._server.lines) if self._server.shared_wire else (self,)
        for line in lines:
            line.write(data)

    def reset(self) -> None:
        """Reset the connection, after the time that half a reply needs to be sent."""
        self._loop.call_later(_RESET_DELAY_S, self.break_off)

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def hang_up(self) -> None:
        """Close the connection (FIN)."""
        raise NotImplementedError

    def break_off(self) -> None:
        """Reset the connection (RST), where the transport has that."""
        raise NotImplementedError


class TcpLine(ServerLine, asyncio.Protocol):
    """A TCP connection."""

    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lines.discard(self)
        self._transport = None

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def break_off(self) -> None:
        if self._transport is None:
            return
        wire: socket.socket = self._transport.get_extra_info("socket")
        # SO_LINGER of 0 s makes the kernel send RST.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class PtyLine(ServerLine):
    """A serial line; closing it removes the port for a moment."""

    def __init__(self, server: Owner, link_path: Path | None) -> None:
        super().__init__(server)
        self.port = PtyPort(self.data_received, link_path)

    def write(self, data: bytes) -> None:
        self.port.write(data)

    def hang_up(self) -> None:
        if self.port.plugged:
            self.port.unplug(_UNPLUGGED_S)

    def break_off(self) -> None:
        self.hang_up()
