"""Replays a recording as a server: each request gets its recorded reply with its timing.

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
from meterd.sim.register_bank import ExceptionCode
from meterd.wire.recording import CLOSED, Recording, WireEvent
from meterd.wire.tap import CANCELLED

# Seconds without bytes after which an incomplete request is dropped.
_SILENCE_S = 0.1
# Seconds for which a serial port is removed where the recorded device closed the connection.
_UNPLUGGED_S = 0.2
_TID = struct.Struct(">H")
_MBAP = struct.Struct(">HHHB")
_MBAP_LENGTHS = range(2, 255)
_TID_TOP_BIT = 0x8000


@dataclass(slots=True)
class _Reply:
    """The recorded reply to a request: (delay in seconds, bytes) of each piece; when it closed."""

    request: bytes
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    closes: float | None = None
    cut_short: bool = False


def _replies(events: tuple[WireEvent, ...]) -> Iterator[_Reply]:
    """The reply of each request; the last one only if the recording has its outcome."""
    reply: _Reply | None = None
    start = 0.0
    for event in events:
        if event.kind == ">":
            if reply is not None:
                yield reply
            reply, start = _Reply(event.data), event.time
        elif reply is not None:
            _add_event(reply, event, event.time - start)
    if reply is not None and (reply.pieces or events[-1].kind == "!"):
        yield reply


def _add_event(reply: _Reply, event: WireEvent, delay: float) -> None:
    if event.kind == "<":
        reply.pieces.append((delay, event.data))
    elif event.note == CLOSED:
        reply.closes = delay
    elif event.note == CANCELLED:
        reply.cut_short = True


class Replay:
    """The recorded replies by request. A repeated request gets its replies in turn, cyclically.

    With transaction ids (`socket`) a request is identified by unit and PDU, else by its bytes.
    Raises ConfigError for a recording without requests.
    """

    def __init__(self, recording: Recording) -> None:
        self.socket = recording.head.get("framer") == "socket"
        self.unknown: Counter[bytes] = Counter()
        self._replies: dict[bytes, list[_Reply]] = {}
        self._counts: Counter[bytes] = Counter()
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
        """The next reply of a request; None for one that is not in the recording."""
        replies = self._replies.get(key)
        if replies is None:
            self.unknown[key] += 1
            return None
        self._counts[key] += 1
        return replies[(self._counts[key] - 1) % len(replies)]


class _ReplayConnection:
    """One connection: identifies requests in the stream, and sends their replies."""

    def __init__(
        self, replay: Replay, write: Callable[[bytes], None], hang_up: Callable[[], None]
    ) -> None:
        self._replay = replay
        self._write = write
        self._hang_up = hang_up
        self._loop = asyncio.get_running_loop()
        self._framing = SocketFraming()
        self._buffer = bytearray()
        self._last_received = 0.0
        # Transaction ids of the recording -> of this client.
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
                refusal = bytes([adu.pdu[0] | 0x80, ExceptionCode.ADDRESS])
                self._write(self._framing.wrap(Adu(adu.tid, adu.unit, refusal)))
                continue
            self._tids[_TID.unpack_from(reply.request)[0]] = adu.tid
            self._play(reply, self._with_client_tids(reply.pieces, adu.tid))

    def _receive_bytes(self, data: bytes) -> None:
        """Identify requests of any protocol by their recorded bytes."""
        now = self._loop.time()
        if now - self._last_received > _SILENCE_S:
            self._buffer.clear()
        self._last_received = now
        self._buffer += data
        while self._buffer:
            buffer = bytes(self._buffer)
            candidates = self._replay.requests
            complete = next((request for request in candidates if buffer.startswith(request)), None)
            if complete is not None:
                del self._buffer[: len(complete)]
                reply = self._replay.next(complete)
                assert reply is not None  # noqa: S101 (it is one of the candidates)
                self._play(reply, reply.pieces)
            elif any(request.startswith(buffer) for request in candidates):
                return
            else:
                self._replay.unknown[buffer] += 1
                del self._buffer[0]

    def _play(self, reply: _Reply, pieces: list[tuple[float, bytes]]) -> None:
        for delay, piece in pieces:
            self._loop.call_later(delay, self._write, piece)
        if reply.closes is not None:
            self._loop.call_later(reply.closes, self._hang_up)

    def _with_client_tids(
        self, pieces: list[tuple[float, bytes]], tid: int
    ) -> list[tuple[float, bytes]]:
        """The pieces with this client's transaction ids; bytes that are no frame are unchanged."""
        data = bytearray().join(piece for _, piece in pieces)
        offset = 0
        while len(data) - offset >= _MBAP.size:
            recorded, protocol, length, _ = _MBAP.unpack_from(data, offset)
            if protocol or length not in _MBAP_LENGTHS:
                break
            _TID.pack_into(data, offset, self._tid(recorded, tid))
            offset += 6 + length
        sizes = [(delay, len(piece)) for delay, piece in pieces]
        return [(delay, bytes(data[at : at + count])) for (delay, count), at in _offsets(sizes)]

    def _tid(self, recorded: int, tid: int) -> int:
        """The client's id for a recorded one; ids of no request must not equal the present one."""
        if recorded in self._tids:
            return self._tids[recorded]
        return recorded ^ _TID_TOP_BIT if recorded == tid else recorded


def _offsets(sizes: list[tuple[float, int]]) -> Iterator[tuple[tuple[float, int], int]]:
    offset = 0
    for delay, size in sizes:
        yield (delay, size), offset
        offset += size


class _TcpLine(asyncio.Protocol):
    """A TCP connection."""

    def __init__(self, server: "ReplayServer") -> None:
        self._server = server
        self._player = _ReplayConnection(server.replay, self._write, self.hang_up)
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
    """Serves a recording on TCP or on a pty; `url` is the link URL for meterd.yaml."""

    def __init__(self, recording: Recording) -> None:
        self.replay = Replay(recording)
        self.lines: set[_TcpLine] = set()
        self.url = ""
        self._listener: asyncio.Server | None = None
        self._port: PtyPort | None = None

    async def start_tcp(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0: any free one. Raises ConfigError where the address cannot be bound."""
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
        player = _ReplayConnection(self.replay, port.write, lambda: _unplug(port))
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


def _unplug(port: PtyPort) -> None:
    if port.plugged:
        port.unplug(_UNPLUGGED_S)


@asynccontextmanager
async def serve_replay(
    recording: Recording,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    pty: bool = False,
    link_path: Path | None = None,
) -> AsyncIterator[ReplayServer]:
    """Serve a recording on TCP, or with `pty` on a pseudo terminal. Raises ConfigError."""
    server = ReplayServer(recording)
    if pty:
        server.start_pty(link_path)
    else:
        await server.start_tcp(host, port)
    try:
        yield server
    finally:
        await server.stop()
