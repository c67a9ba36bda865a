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
        """Of all connections so many may stay open for changes; the others are for questions."""
        return self.room * 3 // 4

    @property
    def room(self) -> int:
        """The most connections that the process' file descriptors allow, too."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(self.most, max(_FEWEST, soft - _RESERVED))


class Guests:
    """Counts who is in, from accept to close; also in the server's `crowd`."""

    def __init__(
        self,
        limits: ServerLimits,
        is_exempt: Callable[[str], bool],
        crowd: ServerStats | None = None,
    ) -> None:
        self._crowd = crowd or ServerStats()
        self._room = limits.room
        self._most_each = limits.most_each
        self._is_exempt = is_exempt
        self._each: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Who is in now."""
        return self._crowd.connections

    @property
    def refused(self) -> int:
        """How many were turned away so far."""
        return self._crowd.refused

    @property
    def held(self) -> Counter[str]:
        """How many are in, by share (model/shares.py)."""
        return self._each

    def admit(self, address: str, make_room: Callable[[str], None] = lambda share: None) -> bool:
        """Whether one more may come in from there; then it counts until `leave`.

        `make_room` is called where all places are taken, and may call `leave` for some.
        """
        share = share_of(address)
        has_many = self._each[share] >= self._most_each and not self._is_exempt(address)
        if not has_many and self.count >= self._room:
            make_room(share)
        if has_many or self.count >= self._room:
            self._crowd.refused += 1
            return False
        self._each[share] += 1
        self._crowd.connections += 1
        return True

    def leave(self, address: str) -> None:
        share = share_of(address)
        self._crowd.connections -= 1
        self._each[share] -= 1
        if not self._each[share]:
            del self._each[share]
