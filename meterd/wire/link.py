"""The Link protocol: request and reply with the devices of one bus, one exchange at a time."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from meterd.wire.rtt_estimator import RttEstimator

T = TypeVar("T")

Parse = Callable[[bytearray], T | None]
"""Parser of the receive buffer. Deletes from it what it consumed or dropped, returns the reply
once it is complete, None to wait for more bytes, and raises DeviceError for a refusal."""


class Link(Protocol):
    """A connection or port behind which one or several devices share a bus."""

    url: str
    options: Mapping[str, str]
    """The URL's options, merged with the drivers' defaults; `framer` is always there."""
    epoch: int
    """Times the link was opened. A driver discards what it learned of a device when it changes."""
    timeout: float
    """Default time limit of an exchange, in seconds."""
    took: float
    """Duration of the last successful exchange, from request to the reply's last byte (s)."""
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
        """Send `request` and pass what arrives to `parse` until it returns the reply.

        One deadline of `timeout` seconds (the link's own if None) bounds the whole exchange.
        `pace` may shorten it, and is updated with the exchange's duration. `quiet`: replies carry
        no transaction id, so earlier input is discarded, and after a failure the line is drained:
        nothing is sent until it was silent for one timeout. `ticket` is the transaction id, if
        any. `station` is the unit id: some buses need a pause when it changes. A request is sent
        again where the connection closes before the reply; `once` forbids that, for commands that
        must not be executed twice.
        Raises LinkError, or what `parse` raises.
        """

    def ticket(self) -> int:
        """The next transaction id, 1 to 65535; the sequence goes on across reconnects."""

    def expired(self, ticket: int) -> bool:
        """Whether this transaction id belongs to an exchange that timed out: its reply is late."""

    def count(self, what: str, n: int = 1) -> None:
        """Add `n` to the link's counter `what` (causes of dropped input, mostly)."""

    def retime(self, times: "Times") -> None:
        """Use `times` from the next exchange on; the connection stays open."""

    async def close(self) -> None:
        """Close the connection or port; the next exchange opens it again."""


@dataclass(frozen=True, slots=True)
class Times:
    """Timeouts and pauses of a link, in seconds.

    Pauses that some devices need: `gap` between two exchanges, `unit_gap` between two exchanges
    with different units, `connect_delay` after connecting.
    """

    timeout: float = 1.0
    connect_timeout: float = 3.0
    gap: float = 0.0
    unit_gap: float = 0.0
    connect_delay: float = 0.0
