"""Serial links on pyserial-asyncio; the only place that knows what a port's errors mean."""

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

# The loop's own timers are late by up to this, in seconds: it waits in whole milliseconds.
_ROUNDING = 0.001


class _SerialStream(Stream, asyncio.Protocol):
    """pyserial-asyncio hands over bytes as they come."""


class SerialLink(StreamLink):
    """`serial:///dev/ttyUSB0?baud=9600&parity=N&stop=1`, opened exclusively."""

    # A port that was pulled is back in seconds, and looking for it costs nothing.
    BACKOFF_LIMIT = 5.0
    # No port is half open; a new start is for adapters that hang.
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
        said = self.options
        return f"{said['baud']} {said['bytes']}{said['parity']}{said['stop']}"

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

        option = self.options
        # Linux' pseudo terminals carry whole bytes; asked for parity, they refuse every setting.
        pseudo = _is_pseudo(self._path)
        port = serial.Serial(
            baudrate=int(option["baud"]),
            bytesize=8 if pseudo else int(option["bytes"]),
            parity="N" if pseudo else option["parity"],
            stopbits=int(option["stop"]),
            exclusive=True,
        )
        port.dtr, port.rts = option["dtr"] == "1", option["rts"] == "1"
        port.port = self._path
        port.open()
        return port

    async def _rest_until(self, when: float) -> None:
        """To the moment: between any two requests the bus would lose the rounding of a timer."""
        await super()._rest_until(when - _ROUNDING)
        _wait(when - asyncio.get_running_loop().time())

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


def _is_pseudo(path: str) -> bool:
    """Whether it is a Unix98 pseudo terminal: their major numbers are 136 to 143."""
    try:
        return os.major(Path(path).stat().st_rdev) in range(136, 144)
    except OSError:
        return False


def _wait(seconds: float) -> None:
    """The rest of a pause, at most a millisecond: shorter than the loop itself can wait."""
    if seconds > 0:
        time.sleep(min(seconds, _ROUNDING))
