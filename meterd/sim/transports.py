"""Connections to clients, TCP and serial: cut requests, put replies on the wire in their time."""

import asyncio
import socket
import struct
from pathlib import Path
from typing import Literal, Protocol, cast

from meterd.sim.frames import Adu, framing
from meterd.sim.pty import PtyPort

Framer = Literal["socket", "rtu"]

# Silence after which an RTU device takes the next byte for the first of a request. A real one
# waits 3.5 characters; TCP and schedulers need more room.
_SILENCE = 0.1
# Time for half a reply to get out before the connection is reset.
_HALF_WAY = 0.02
# How long a serial port that was "closed" is away.
_BLINK = 0.2


class Owner(Protocol):
    """The server that a connection belongs to."""

    framer: Framer
    latency: float
    shared_wire: bool
    free_at: float
    lines: "set[ServerLine]"

    def received(self, line: "ServerLine", request: Adu) -> None:
        """A request has come in."""


class ServerLine:
    """One client's connection."""

    def __init__(self, server: Owner) -> None:
        self.framer = server.framer
        self._server = server
        self._framing = framing(server.framer)
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        self._free_at = 0.0

    def wrap(self, adu: Adu) -> bytes:
        """The bytes of one message."""
        return self._framing.wrap(adu)

    def data_received(self, data: bytes) -> None:
        now = self._loop.time()
        if now - self._heard > _SILENCE:
            self._framing.forget()
        self._heard = now
        try:
            requests = self._framing.feed(data)
        except ValueError:
            self.hang_up()
            return
        for request in requests:
            self._server.received(self, request)

    def send(self, data: bytes, delay: float = 0.0) -> None:
        """Now, or in `delay` seconds; never into the middle of a dribbled reply."""
        delay = max(delay + self._server.latency, self._free() - self._loop.time())
        if self._server.shared_wire:
            # One wire: what is asked next is answered after this.
            self._server.free_at = self._loop.time() + delay
        if delay > 0:
            self._loop.call_later(delay, self._out, data)
        else:
            self._out(data)

    def _free(self) -> float:
        """From when on the wire carries nothing else (loop time)."""
        return max(self._free_at, self._server.free_at if self._server.shared_wire else 0.0)

    def dribble(self, data: bytes, pause: float) -> None:
        """Byte by byte, `pause` seconds apart."""
        for place in range(len(data)):
            self._loop.call_later(place * pause, self._out, data[place : place + 1])
        self._free_at = self._loop.time() + len(data) * pause

    def _out(self, data: bytes) -> None:
        lines = tuple(self._server.lines) if self._server.shared_wire else (self,)
        for line in lines:
            line.write(data)

    def reset(self) -> None:
        """Break the connection off (RST), after half a reply: give that time to leave."""
        self._loop.call_later(_HALF_WAY, self.break_off)

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def hang_up(self) -> None:
        """Close the connection properly."""
        raise NotImplementedError

    def break_off(self) -> None:
        """Close it with an RST, where there is such a thing."""
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
        # Lingering for 0 s makes the kernel send RST.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class PtyLine(ServerLine):
    """A serial line; to close it is to pull the plug for a moment."""

    def __init__(self, server: Owner, link_path: Path | None) -> None:
        super().__init__(server)
        self.port = PtyPort(self.data_received, link_path)

    def write(self, data: bytes) -> None:
        self.port.write(data)

    def hang_up(self) -> None:
        if self.port.plugged:
            self.port.unplug(_BLINK)

    def break_off(self) -> None:
        self.hang_up()
