"""The acceptor: listening sockets, connection limits, and deadlines before the first request."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from meterd.api.connection import Connection
from meterd.api.limits import Guests, ServerLimits
from meterd.api.log_rate_limit import LogRateLimit
from meterd.api.tls import LOOK_EVERY, Certificate
from meterd.model.shares import clients_to_close, share_of

log = logging.getLogger("meterd.api")

_BACKLOG = 256
# Seconds: no file descriptor is free, and asking again at once would not find one.
_BREATHE = 1.0
# Seconds: who asked so lately does not give way to a host that has as many connections.
_LEAST_IDLE = 10.0
_AT_ONCE = 16  # connections that give way together, where all places are taken; or come together
_LOOK_WHO_LEFT = 0.02  # seconds between two looks whether all have gone before a door closes
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nServer: meterd\r\nRetry-After: 10\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
# The peer is gone between the handshake and accept().
_GONE = (errno.ECONNABORTED, errno.EINTR, errno.EPERM, errno.EPROTO)

Left = Callable[[Connection], None]
Make = Callable[[Left], Connection]


async def bind(host: str, port: int, beside: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Sockets for every address of `host`, all with the same port; 0 takes any.

    `beside` are listening sockets of this process that are about to close: one of them may have
    the same port on all addresses, or on one of them, as `0.0.0.0` and `127.0.0.1` have.
    Raises OSError where an address is taken, or none is this machine's.
    """
    ours = [listening for listening in beside if port and listening.getsockname()[1] == port]
    for listening in ours:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        return await _bound(host, port, is_shared=bool(ours))
    finally:
        # Nobody else of this user is let in there.
        for listening in ours:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


async def _bound(host: str, port: int, *, is_shared: bool) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    try:
        for family, *_, address in dict.fromkeys(addresses):
            try:
                place = address[0], port, *address[2:]
                sockets.append(_listening(family, place, is_shared=is_shared))
            except OSError as error:
                # localhost may have an IPv6 address on a machine that has no IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                problem = error
                continue
            port = sockets[-1].getsockname()[1]
    except OSError:
        for each in sockets:
            each.close()
        raise
    if not sockets:
        raise problem or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return sockets


def _listening(family: int, address: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        if is_shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        made.listen(_BACKLOG)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except OSError:
        made.close()
        raise
    return made


class _Guest:
    """One that counts, and is counted out once: by HTTP, or where it never came so far."""

    def __init__(self, guests: Guests, address: str) -> None:
        self.is_in = True
        self._guests = guests
        self.address = address

    def leave(self) -> None:
        if self.is_in:
            self.is_in = False
            self._guests.leave(self.address)


class Acceptor:
    """Accepts, counts, and closes what takes too long.

    meterd accepts by itself, so that connections count from the start: one that never ends
    its TLS handshake would not be known to aiohttp, and asyncio keeps 256 KiB for it.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make: Make,
        guests: Guests,
        limits: ServerLimits,
        log_limit: LogRateLimit,
        certificate: Certificate | None = None,
    ) -> None:
        self.sockets = sockets
        self._make = make
        self._guests = guests
        self._limits = limits
        self._log_limit = log_limit
        self._certificate = certificate
        self._connections: dict[Connection, _Guest] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._watched: set[socket.socket] = set()
        # Sockets that are looked at again in a while.
        self._pauses: deque[asyncio.TimerHandle] = deque(maxlen=len(sockets))

    def open(self) -> None:
        """Accepts connections from now on."""
        for each in self.sockets:
            self._watch(each)
        tasks = [self._usher()]
        if self._certificate is not None:
            tasks.append(self._renew(self._certificate))
        self._tasks = [asyncio.create_task(each) for each in tasks]

    def turn_away(self) -> None:
        """Stops accepting; open connections stay, and those in the sockets' backlog wait."""
        loop = asyncio.get_running_loop()
        # Once only: by the next time they may be somebody else's.
        for each in self._watched:
            loop.remove_reader(each)
        self._watched.clear()
        for timer in self._pauses:
            timer.cancel()
        self._pauses.clear()

    async def close(self, grace: float = 0.0) -> None:
        """Stops accepting; the sockets may serve a successor.

        For `grace` seconds who is in may still ask for something, and is told to come anew.
        """
        self.turn_away()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        while (self._connections or self._arriving) and loop.time() < end:
            for connection in self._connections:
                connection.is_leaving = True
            await asyncio.sleep(_LOOK_WHO_LEFT)
        for task in (*self._tasks, *self._arriving):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._arriving, return_exceptions=True)

    def _watch(self, listening: socket.socket) -> None:
        self._watched.add(listening)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Those who wait there. Each is let in at once or waits on: a reload loses none."""
        for _ in range(_AT_ONCE):
            try:
                client, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._complain("cannot accept connections", error.strerror or error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                self._watched.discard(listening)
                self._pauses.append(loop.call_later(_BREATHE, self._watch, listening))
                return
            client.setblocking(False)
            self._let_in(client, address[0])

    def _let_in(self, client: socket.socket, address: str) -> None:
        if not self._guests.admit(address, self._make_room):
            self._turn_away(client, address)
            return
        task = asyncio.create_task(self._greet(client, address))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _make_room(self, share: str) -> None:
        """Closes idle connections, so that one more of this host fits in."""
        found = (
            open_connection.slot(share_of(guest.address))
            for open_connection, guest in self._connections.items()
        )
        slots = [slot for slot in found if slot is not None]
        now = asyncio.get_running_loop().time()
        held = self._guests.held
        # Some at once: each look goes through all connections.
        for connection in clients_to_close(share, slots, held, now, _LEAST_IDLE, _AT_ONCE):
            guest = self._connections.pop(connection)
            guest.leave()
            connection.drop()

    def _turn_away(self, client: socket.socket, address: str) -> None:
        with client:
            if self._certificate is None:
                with contextlib.suppress(OSError):
                    client.send(_FULL)
        self._complain("too many connections, refused one from", address)

    async def _greet(self, client: socket.socket, address: str) -> None:
        """Passes a connection on to HTTP, after the TLS handshake where there is one."""
        guest = _Guest(self._guests, address)

        def left(connection: Connection) -> None:
            self._connections.pop(connection, None)
            guest.leave()

        loop = asyncio.get_running_loop()
        context = self._certificate.context if self._certificate else None
        patience = self._limits.handshake if context else None
        try:
            _, connection = await loop.connect_accepted_socket(
                lambda: self._make(left),
                client,
                ssl=context,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=patience,
            )
        except OSError:
            guest.leave()
        except asyncio.CancelledError:
            guest.leave()
            raise
        else:
            if guest.is_in:
                self._connections[connection] = guest

    async def _usher(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.look_every)
            now = loop.time()
            for connection in tuple(self._connections):
                connection.overdue(now)

    async def _renew(self, certificate: Certificate) -> None:
        while True:
            certificate.watch()
            await asyncio.sleep(min(LOOK_EVERY, self._limits.look_every * 10))

    def _complain(self, text: str, detail: object) -> None:
        if (more := self._log_limit.ask()) is not None:
            log.warning("%s: %s%s", text, detail, more)
