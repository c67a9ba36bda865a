"""How many connections there may be, from whom, and how long each may take for what."""

import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from meterd.api.server_stats import ServerStats
from meterd.model.shares import share_of

# File descriptors that stay free for devices, the store and hooks.
_RESERVED = 256
_FEWEST = 16


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Seconds, bytes and connections. `most_each` does not bind loopback and trusted proxies."""

    most: int = 2000
    most_each: int = 64
    head: float = 10.0  # from the first byte of a request to the end of its headers
    head_bytes: int = 96 * 1024
    body: float = 10.0
    idle: float = 60.0  # between two requests
    unread: float = 30.0  # an answer of which the client takes nothing
    handshake: float = 10.0
    look_every: float = 1.0

    @property
    def streams(self) -> int:
        """How many connections may be streams; the others are for requests."""
        return self.room * 3 // 4

    @property
    def room(self) -> int:
        """The most connections that the process' file descriptors allow, too."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(self.most, max(_FEWEST, soft - _RESERVED))


class Guests:
    """Counts open connections, also in the server's `server_stats`."""

    def __init__(
        self,
        limits: ServerLimits,
        is_exempt: Callable[[str], bool],
        server_stats: ServerStats | None = None,
    ) -> None:
        self._server_stats = server_stats or ServerStats()
        self._room = limits.room
        self._most_each = limits.most_each
        self._is_exempt = is_exempt
        self._each: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """The number of open connections."""
        return self._server_stats.connections

    @property
    def refused(self) -> int:
        """How many were turned away so far."""
        return self._server_stats.refused

    @property
    def held(self) -> Counter[str]:
        """How many are in, by share (model/shares.py)."""
        return self._each

    def admit(self, address: str, make_room: Callable[[str], None] = lambda share: None) -> bool:
        """Whether one more connection of that host is allowed; it counts until `leave`.

        `make_room` is called where all places are taken, and may call `leave` for some.
        """
        share = share_of(address)
        has_many = self._each[share] >= self._most_each and not self._is_exempt(address)
        if not has_many and self.count >= self._room:
            make_room(share)
        if has_many or self.count >= self._room:
            self._server_stats.refused += 1
            return False
        self._each[share] += 1
        self._server_stats.connections += 1
        return True

    def leave(self, address: str) -> None:
        share = share_of(address)
        self._server_stats.connections -= 1
        self._each[share] -= 1
        if not self._each[share]:
            del self._each[share]
