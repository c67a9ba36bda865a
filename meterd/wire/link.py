"""What a link is: the way to devices that share a bus, one exchange at a time."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from meterd.wire.rtt_estimator import RttEstimator

T = TypeVar("T")

Parse = Callable[[bytearray], T | None]
"""Looks at what has arrived. Deletes from the buffer what it consumed or dropped, returns the
answer once it is whole, None to wait for more, and raises DeviceError for a no."""


class Link(Protocol):
    """The way to one or several devices that share a bus."""

    url: str
    options: Mapping[str, str]
    """What the URL says, and where it is silent the drivers' defaults; `framer` is always there."""
    epoch: int
    """How often the link was opened: what a driver learnt of a device holds within one epoch."""
    timeout: float
    """The most that an exchange may take, in seconds."""
    took: float
    """Seconds from request to answer in the last exchange that went well."""
    counters: Counter[str]

    async def exchange(
        self,
        request: bytes,
        parse: Parse[T],
        *,
        timeout: float | None = None,
        quiet: bool = True,
        ticket: int = 0,
        pace: RttEstimator | None = None,
        station: int = 0,
        once: bool = False,
    ) -> T:
        """Send `request`, give what arrives to `parse` until it returns an answer.

        One deadline of `timeout` seconds (the link's own if None) bounds the whole exchange.
        `pace` may know that answers come sooner, and learns. `quiet`: replies carry no id, so
        input from before is thrown away, and after a failure the link listens until the line is
        silent. `station` is who is asked: some buses need a pause when that changes. A question
        is asked again where the connection closes before the answer; `once` forbids that: what
        makes a device act must not be sent twice.
        Raises LinkError, or what `parse` raises.
        """

    def ticket(self) -> int:
        """A number of 1 to 65535 for the next exchange; goes on across reconnects."""

    def expired(self, ticket: int) -> bool:
        """Whether this number belongs to an exchange that was given up: its answer is late."""

    def count(self, what: str, n: int = 1) -> None:
        """Count something dropped, by its cause."""

    def retime(self, times: "Times") -> None:
        """Other patience from the next exchange on; the connection stays."""

    async def close(self) -> None:
        """Close; the next exchange opens it again."""


@dataclass(frozen=True, slots=True)
class Times:
    """A link's patience, in seconds.

    `gap` is the pause between two exchanges, `unit_gap` the one when another unit is asked,
    `connect_delay` the one after connecting: some devices need each of them.
    """

    timeout: float = 1.0
    connect_timeout: float = 3.0
    gap: float = 0.0
    unit_gap: float = 0.0
    connect_delay: float = 0.0
