"""Plays the device's side of a recording back: each request gets what it got in the field.

recorded | > tid unit pdu     < tid unit pdu ... after 0.033 s
replayed | > TID unit pdu     < TID unit pdu ... after 0.033 s     the client's own transaction id
"""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from meterd.errors import ConfigError
from meterd.sim.frames import Adu, SocketFraming
from meterd.sim.pty import PtyPort
from meterd.sim.register_bank import RefusedRequest
from meterd.wire.recording import CLOSED, Recording, WireEvent
from meterd.wire.tap import CANCELLED

# Silence after which what came before belongs to no request any more, in seconds.
_SILENCE = 0.1
# How long a serial port that was pulled in the recording is away.
_BLINK = 0.2
_TID = struct.Struct(">H")
_MBAP = struct.Struct(">HHHB")
_LENGTHS = range(2, 255)
_TOP_BIT = 0x8000


@dataclass(slots=True)
class _Reply:
    """What followed one request: (seconds after it, bytes), and when the device hung up."""

    request: bytes
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    closes: float | None = None
    cut_short: bool = False


def _replies(events: tuple[WireEvent, ...]) -> Iterator[_Reply]:
    """One for each request that was sent; the recording may end in the midst of the last."""
    reply: _Reply | None = None
    start = 0.0
    for event in events:
        if event.kind == ">":
            if reply is not None:
                yield reply
            reply, start = _Reply(event.data), event.time
        elif reply is not None:
            _follow(reply, event, event.time - start)
    if reply is not None and (reply.pieces or events[-1].kind == "!"):
        yield reply


def _follow(reply: _Reply, event: WireEvent, delay: float) -> None:
    if event.kind == "<":
        reply.pieces.append((delay, event.data))
    elif event.note == CLOSED:
        reply.closes = delay
    elif event.note == CANCELLED:
        reply.cut_short = True


class Replay:
    """The recorded replies by request. Asked again, a request gets its next reply, in a circle.

    With transaction ids (`socket`) a request is known by its unit and PDU. Raises ConfigError
    for a recording in which nothing was asked.
    """

    def __init__(self, recording: Recording) -> None:
        self.socket = recording.head.get("framer") == "socket"
        self.unknown: Counter[bytes] = Counter()
        self._replies: dict[bytes, list[_Reply]] = {}
        self._asked: Counter[bytes] = Counter()
        for reply in _replies(recording.events):
            if not reply.cut_short or reply.pieces:
                self._replies.setdefault(self._key(reply.request), []).append(reply)
        if not self._replies:
            raise ConfigError("nothing to replay: the recording has no request with an outcome")

    def _key(self, request: bytes) -> bytes:
        return request[_MBAP.size - 1 :] if self.socket else request

    @property
    def requests(self) -> list[bytes]:
        """All requests that have a reply, longest first."""
        return sorted(self._replies, key=len, reverse=True)

    def next(self, key: bytes) -> _Reply | None:
        """The reply whose turn it is; None for what was never asked."""
        known = self._replies.get(key)
        if known is None:
            self.unknown[key] += 1
            return None
        self._asked[key] += 1
        return known[(self._asked[key] - 1) % len(known)]


class _Player:
    """One connection: recognises requests and sends what is theirs."""

    def __init__(
        self, replay: Replay, write: Callable[[bytes], None], hang_up: Callable[[], None]
    ) -> None:
        self._replay = replay
        self._write = write
        self._hang_up = hang_up
        self._loop = asyncio.get_running_loop()
        self._framing = SocketFraming()
        self._buffer = bytearray()
        self._heard = 0.0
        # The recording's transaction ids, as this client numbers them.
        self._tids: dict[int, int] = {}

    def receive(self, data: bytes) -> None:
        if self._replay.socket:
            self._receive_mbap(data)
        else:
            self._receive_bytes(data)

    def _receive_mbap(self, data: bytes) -> None:
        try:
            requests = self._framing.feed(data)
        except ValueError:
            self._hang_up()
            return
        for adu in requests:
            reply = self._replay.next(bytes([adu.unit]) + adu.pdu)
            if reply is None:
                refusal = bytes([adu.pdu[0] | 0x80, RefusedRequest.ADDRESS])
                self._write(self._framing.wrap(Adu(adu.tid, adu.unit, refusal)))
                continue
            self._tids[_TID.unpack_from(reply.request)[0]] = adu.tid
            self._play(reply, self._renumbered(reply.pieces, adu.tid))

    def _receive_bytes(self, data: bytes) -> None:
        """Whatever the protocol: a request is bytes that were recorded as one."""
        now = self._loop.time()
        if now - self._heard > _SILENCE:
            self._buffer.clear()
        self._heard = now
        self._buffer += data
        while self._buffer:
            buffer = bytes(self._buffer)
            known = self._replay.requests
            whole = next((request for request in known if buffer.startswith(request)), None)
            if whole is not None:
                del self._buffer[: len(whole)]
                reply = self._replay.next(whole)
                assert reply is not None  # noqa: S101 (it is among the known)
                self._play(reply, reply.pieces)
            elif any(request.startswith(buffer) for request in known):
                return
            else:
                self._replay.unknown[buffer] += 1
                del self._buffer[0]

    def _play(self, reply: _Reply, pieces: list[tuple[float, bytes]]) -> None:
        for delay, piece in pieces:
            self._loop.call_later(delay, self._write, piece)
        if reply.closes is not None:
            self._loop.call_later(reply.closes, self._hang_up)

    def _renumbered(self, pieces: list[tuple[float, bytes]], tid: int) -> list[tuple[float, bytes]]:
        """Frames get this client's ids; what is no frame stays as it was."""
        data = bytearray().join(piece for _, piece in pieces)
        place = 0
        while len(data) - place >= _MBAP.size:
            recorded, protocol, length, _ = _MBAP.unpack_from(data, place)
            if protocol or length not in _LENGTHS:
                break
            _TID.pack_into(data, place, self._tid(recorded, tid))
            place += 6 + length
        sizes = [(delay, len(piece)) for delay, piece in pieces]
        return [(delay, bytes(data[at : at + n])) for (delay, n), at in _places(sizes)]

    def _tid(self, recorded: int, tid: int) -> int:
        """A foreign id stays foreign, even where the client happens to use it now."""
        if recorded in self._tids:
            return self._tids[recorded]
        return recorded ^ _TOP_BIT if recorded == tid else recorded


def _places(sizes: list[tuple[float, int]]) -> Iterator[tuple[tuple[float, int], int]]:
    place = 0
    for delay, size in sizes:
        yield (delay, size), place
        place += size


class _TcpLine(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, server: "ReplayServer") -> None:
        self._server = server
        self._player = _Player(server.replay, self._write, self.hang_up)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lines.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._player.receive(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()


class ReplayServer:
    """Serves a recording on TCP or on a pty; `url` is the link as meterd.yaml writes it."""

    def __init__(self, recording: Recording) -> None:
        self.replay = Replay(recording)
        self.lines: set[_TcpLine] = set()
        self.url = ""
        self._listener: asyncio.Server | None = None
        self._port: PtyPort | None = None

    async def start_tcp(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Port 0 lets the system choose. Raises ConfigError where that cannot be."""
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(lambda: _TcpLine(self), host, port)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error}") from error
        bound = self._listener.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"tcp://{shown}:{bound}" + ("" if self.replay.socket else "?framer=rtu")

    def start_pty(self, link_path: Path | None = None) -> None:
        def receive(data: bytes) -> None:
            player.receive(data)

        port = PtyPort(receive, link_path)
        player = _Player(self.replay, port.write, lambda: _pull(port))
        port.open()
        self._port = port
        self.url = f"serial://{port.name}"

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for line in tuple(self.lines):
            line.hang_up()
        if self._port is not None:
            self._port.close()
        await asyncio.sleep(0)


def _pull(port: PtyPort) -> None:
    if port.plugged:
        port.unplug(_BLINK)


@asynccontextmanager
async def serve_replay(
    recording: Recording,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    pty: bool = False,
    link_path: Path | None = None,
) -> AsyncIterator[ReplayServer]:
    """A recording on TCP, or with `pty` on a serial line. Raises ConfigError."""
    server = ReplayServer(recording)
    if pty:
        server.start_pty(link_path)
    else:
        await server.start_tcp(host, port)
    try:
        yield server
    finally:
        await server.stop()
