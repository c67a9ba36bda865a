"""Serial links on pyserial-asyncio; the only place that translates a port's OSError."""

import asyncio
import errno
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from meterd.errors import LinkCode, LinkError
from meterd.model.duration import seconds
from meterd.wire.address import Address
from meterd.wire.link import Times
from meterd.wire.stream import Stream
from meterd.wire.streamlink import StreamLink

# The loop's timers are late by up to this: epoll waits in whole milliseconds.
_TIMER_ROUNDING_S = 0.001


class _SerialStream(Stream, asyncio.Protocol):
    """Receives from pyserial-asyncio's transport, which is for asyncio.Protocol only."""


class SerialLink(StreamLink):
    """`serial:///dev/ttyUSB0?baud=9600&parity=N&stop=1`, opened exclusively."""

    # Seconds. A USB adapter is plugged in again within seconds, and opening its path costs nothing.
    BACKOFF_LIMIT = 5.0
    # A port cannot be half open as a TCP connection can; reopening is for adapters that hang.
    SILENT_LIMIT = 10
    REOPEN_FORGETS = False

    def __init__(self, address: Address, options: Mapping[str, str], times: Times) -> None:
        self._path = address.path
        # Three and a half characters of silence end an RTU frame; 1.75 ms from 19200 baud on.
        bits = 1 + int(options["bytes"]) + (options["parity"] != "N") + int(options["stop"])
        self._frame_gap = max(3.5 * bits / int(options["baud"]), 0.00175)
        super().__init__(address.key, options, times)

    def retime(self, times: Times) -> None:
        super().retime(replace(times, gap=max(times.gap, self._frame_gap)))

    def _line(self) -> str:
        options = self.options
        return f"{options['baud']} {options['bytes']}{options['parity']}{options['stop']}"

    async def _open(self) -> Stream:
        import serial_asyncio  # 70 ms, and only serial links need it

        loop = asyncio.get_running_loop()
        # The transport before this one closes its port, and with it the lock, in its next round.
        await asyncio.sleep(0)
        try:
            port = await asyncio.to_thread(self._port)
        except OSError as error:  # serial.SerialException is one
            raise self._explained(error) from error
        stream = _SerialStream()
        # The transport calls connection_made only in the loop's next round.
        stream.connection_made(serial_asyncio.SerialTransport(loop, stream, port))
        if self._powers_interface(port):
            await asyncio.sleep(seconds(self.options["settle"]) or 0.0)
        return stream

    def _port(self) -> Any:
        import serial

        options = self.options
        # Linux' pseudo terminals carry 8 bits without parity, and refuse all settings otherwise.
        pseudo_terminal = _is_pseudo_terminal(self._path)
        port = serial.Serial(
            baudrate=int(options["baud"]),
            bytesize=8 if pseudo_terminal else int(options["bytes"]),
            parity="N" if pseudo_terminal else options["parity"],
            stopbits=int(options["stop"]),
            exclusive=True,
        )
        port.dtr, port.rts = options["dtr"] == "1", options["rts"] == "1"
        port.port = self._path
        port.open()
        return port

    async def _rest_until(self, when: float) -> None:
        """Without the loop's rounding: it would cost a millisecond between any two requests."""
        await super()._rest_until(when - _TIMER_ROUNDING_S)
        _block(when - asyncio.get_running_loop().time())

    @staticmethod
    def _powers_interface(port: Any) -> bool:
        """Whether the port has modem lines at all; a pseudo terminal has none to wait for."""
        try:
            _ = port.cts
        except OSError:
            return False
        return True

    def _explained(self, error: OSError) -> LinkError:
        if error.errno in (errno.EAGAIN, errno.EBUSY, errno.EWOULDBLOCK):
            return LinkError(f"{self._path} is in use by another program", code=LinkCode.PORT_TAKEN)
        if error.errno == errno.EACCES:
            text = f"{self._path} may not be opened: add the user to the group dialout"
            return LinkError(text, code=LinkCode.PORT_DENIED)
        if Path(self._path).exists():
            return LinkError(f"{self._path} is no serial port: {error}", code=LinkCode.PORT_GONE)
        return LinkError(f"{self._path} is not there", code=LinkCode.PORT_GONE)

    def _lost(self, error: Exception | None) -> LinkError:
        return LinkError(f"{self._path} is gone: unplugged?", code=LinkCode.PORT_GONE)


def _is_pseudo_terminal(path: str) -> bool:
    """Whether it is a Unix98 pseudo terminal: their major numbers are 136 to 143."""
    try:
        return os.major(Path(path).stat().st_rdev) in range(136, 144)
    except OSError:
        return False


def _block(seconds: float) -> None:
    """Block for the rest of a pause that is shorter than the loop's resolution (1 ms)."""
    if seconds > 0:
        time.sleep(min(seconds, _TIMER_ROUNDING_S))
