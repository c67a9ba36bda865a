"""Receive buffer of an open link."""

import asyncio
from collections.abc import Callable
from typing import cast

from meterd.wire.tap import LinkTap

# Unread bytes above this are no reply: the longest Modbus frame has 260 bytes (MBAP), 513 in ASCII.
BUFFER_LIMIT = 16384


class Stream:
    """asyncio protocol that buffers what arrives and calls the exchange that waits for it.

    `last_byte` is the loop time of the last arrival; `lost` says that the connection ended, and
    `error` with what (None: closed by the peer).
    """

    transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.lost = False
        self.error: Exception | None = None
        self.last_byte = 0.0
        self.tap: LinkTap | None = None
        self.loop = asyncio.get_running_loop()
        self._wake: Callable[[], None] | None = None
        self._is_aborted = False

    def listen(self, wake: Callable[[], None] | None) -> None:
        self._wake = wake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own promise; uvloop's transports are no subclasses of it.
        self.transport = cast("asyncio.WriteTransport", transport)

    def send(self, data: bytes) -> None:
        if self.tap is not None:
            self.tap.sent(data)
        self.transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        self._is_aborted = True
        self.transport.abort()

    def data_received(self, data: bytes | memoryview) -> None:
        if self.tap is not None:
            self.tap.received(data)
        self.buffer += data
        self.last_byte = self.loop.time()
        if self._wake is not None:
            self._wake()
        elif len(self.buffer) > BUFFER_LIMIT:
            del self.buffer[:-BUFFER_LIMIT]

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.tap is not None and not self._is_aborted:
            self.tap.closed()
        self.lost, self.error = True, exc
        if self._wake is not None:
            self._wake()
