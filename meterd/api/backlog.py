"""Budget of response bytes that wait in memory for slow clients, for all answers of a server.

A body stands in memory until its client has taken it, and a streamed answer holds what it is
made of. Clients that take nothing, or a byte now and then, must not add up.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode

# Bytes for all answers together. The unit's MemoryMax is 512 MB, and PromQL has a budget besides.
MOST = 64 << 20
# Answers below this are not counted: the connection's own buffer takes them.
COUNTED_FROM = 64 << 10
# What a streamed answer takes before its first part is made: a compressor, some series of a day.
STREAM = 3 << 20
# Seconds until a client may be held to be slow, and bytes a second that none is slow with.
_PATIENCE = 5.0
_SLOW = 32 << 10
_RETRY_AFTER = "10"


class Lease:
    """The memory of one answer; `size` in bytes may change while it is sent."""

    __slots__ = ("_drop", "_taken", "began", "ended", "size")

    def __init__(self, size: int, taken: Callable[[], int], drop: Callable[[], None]) -> None:
        """`taken`: bytes that the client has taken so far. `drop` ends the answer at once."""
        self.size = size
        self.began = asyncio.get_running_loop().time()
        self.ended = False
        self._taken = taken
        self._drop = drop

    def rate(self, now: float) -> float:
        """Bytes a second that the client takes."""
        return self._taken() / max(now - self.began, 0.001)

    def is_slow(self, now: float) -> bool:
        return now - self.began >= _PATIENCE and self.rate(now) < _SLOW

    def end(self) -> None:
        self.ended = True
        self._drop()


class Backlog:
    """All answers being sent. `besides`: bytes buffered elsewhere for clients."""

    def __init__(self, most: int | None = None) -> None:
        self._most = MOST if most is None else most
        self._leases: set[Lease] = set()
        self.besides: Callable[[], int] = lambda: 0
        self.refused = 0
        self.cut = 0
        """How many were refused, and how many slow ones were cut, since the start."""

    @property
    def used(self) -> int:
        return sum(lease.size for lease in self._leases if not lease.ended) + self.besides()

    @contextmanager
    def lease(
        self, size: int, taken: Callable[[], int], drop: Callable[[], None]
    ) -> Iterator[Lease]:
        """Reserves memory for one more answer. Raises ApiRefusal (503) beyond the limit."""
        self.need(size)
        with self.track(size, taken, drop) as made:
            yield made

    @contextmanager
    def track(
        self, size: int, taken: Callable[[], int], drop: Callable[[], None]
    ) -> Iterator[Lease]:
        """One that has its room already."""
        made = Lease(size, taken, drop)
        self._leases.add(made)
        try:
            yield made
        finally:
            self._leases.discard(made)

    def need(self, size: int) -> None:
        """Cuts the slowest answers to make room. Raises ApiRefusal (503) where that fails."""
        used = self.used
        # The only answer there is may be larger than all of the budget.
        while used and used + size > self._most:
            if not self._end_slowest():
                self.refused += 1
                detail = "too many answers wait for clients that are slow to take them"
                headers = {"Retry-After": _RETRY_AFTER}
                raise ApiRefusal(
                    503, ProblemCode.BUSY, detail, hint="try again soon", headers=headers
                )
            used = self.used

    def _end_slowest(self) -> bool:
        now = asyncio.get_running_loop().time()
        slow = [lease for lease in self._leases if not lease.ended and lease.is_slow(now)]
        if not slow:
            return False
        self.cut += 1
        min(slow, key=lambda lease: lease.rate(now)).end()
        return True
