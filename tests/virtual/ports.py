"""Serial ports in memory: what pyserial, its transport and the simulator's ptys do, without any."""

import asyncio
import errno
import itertools
from collections import deque
from pathlib import Path
from typing import Any

from meterd.sim.pty import PtyPort
from tests.virtual.loop import VirtualLoop, running

_numbers = itertools.count()


class Wire:
    """One port: the device's end of it, and the program that has it open.

    `baud` is how fast bytes travel, 11 bits each; 0 is a pty's haste.
    """

    def __init__(self, port: PtyPort) -> None:
        self.port = port
        self.client: SerialEnd | None = None
        self.taken = False
        self.baud = 0


# -- the device's end: PtyPort's methods -------------------------------------------------------


def open_port(port: PtyPort) -> None:
    """PtyPort.open"""
    port.path = f"/virtual/pts/{next(_numbers)}"
    port._master = port._slave = 1
    ports = running().network.ports
    ports[port.path] = ports[port.name] = Wire(port)


def close_port(port: PtyPort) -> None:
    """PtyPort.close"""
    if port._return_timer is not None:
        port._return_timer.cancel()
        port._return_timer = None
    if not port.plugged:
        return
    port._master = port._slave = -1
    ports = running().network.ports
    wire: Wire = ports.pop(port.name)
    ports.pop(port.path, None)
    if wire.client is not None:
        wire.client.hang_up()


def write_port(port: PtyPort, data: bytes) -> None:
    """PtyPort.write"""
    wire: Wire | None = running().network.ports.get(port.name) if port.plugged else None
    if wire is not None and wire.client is not None:
        wire.client.bring(data)


# -- the client's end --------------------------------------------------------------------------


class Serial:
    """serial.Serial, as far as it is used."""

    def __init__(self, loop: VirtualLoop, **settings: Any) -> None:
        # Ports are opened in a thread, where no loop runs.
        self._loop = loop
        self.settings = settings
        self.dtr = self.rts = True
        self.port = ""
        self.wire: Wire | None = None

    def open(self) -> None:
        wire: Wire | None = self._loop.network.ports.get(self.port)
        if wire is None:
            raise FileNotFoundError(errno.ENOENT, f"could not open port {self.port}")
        if wire.taken:
            raise BlockingIOError(errno.EAGAIN, f"could not lock port {self.port}")
        wire.taken = True
        self.wire = wire

    @property
    def cts(self) -> bool:
        raise OSError(errno.EINVAL, "a port in memory has no modem lines")


class SerialEnd(asyncio.Transport):
    """serial_asyncio.SerialTransport."""

    def __init__(self, loop: VirtualLoop, protocol: asyncio.Protocol, serial: Serial) -> None:
        super().__init__()
        assert serial.wire is not None
        self.wire = serial.wire
        self.wire.client = self
        self._loop = loop
        self._protocol = protocol
        self._closing = False
        self._lanes: tuple[_Lane, _Lane] = (_Lane(), _Lane())
        # As the one it stands for.
        loop.call_soon(protocol.connection_made, self)

    def write(self, data: Any) -> None:
        if not self._closing:
            self._carry(self._lanes[0], bytes(data), self._to_device)

    def bring(self, data: bytes) -> None:
        """The device says this."""
        self._carry(self._lanes[1], data, self._to_client)

    def _carry(self, lane: "_Lane", data: bytes, take: Any) -> None:
        took = 11 * len(data) / self.wire.baud if self.wire.baud else 0.0
        network = self._loop.network
        lane.free_at = max(lane.free_at, self._loop.time() + network.latency) + took
        lane.bytes.append(data)
        self._loop.call_at(lane.free_at, take)

    def _to_device(self) -> None:
        data = self._lanes[0].bytes.popleft()
        if self.wire.port.plugged and not self._closing:
            self.wire.port._receive(data)

    def _to_client(self) -> None:
        data = self._lanes[1].bytes.popleft()
        if not self._closing:
            self._protocol.data_received(data)

    def hang_up(self) -> None:
        """The port is gone."""
        self._end(OSError(errno.EIO, "Input/output error"))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.call_soon(self._ended, error)

    def _ended(self, error: Exception | None) -> None:
        """The port, and with it the lock, is free only now, as the real one's."""
        self.wire.taken, self.wire.client = False, None
        self._protocol.connection_lost(error)


class _Lane:
    """What travels one way."""

    def __init__(self) -> None:
        self.free_at = 0.0
        self.bytes: deque[bytes] = deque()


def open_serial(path: str | Path, protocol: asyncio.Protocol) -> SerialEnd:
    """A client of bare bytes."""
    port = Serial(running())
    port.port = str(path)
    port.open()
    return SerialEnd(running(), protocol, port)


def wire_of(path: str | Path) -> Wire:
    """The port by the name that clients open."""
    wire: Wire = running().network.ports[str(path)]
    return wire
