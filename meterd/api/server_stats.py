"""Server statistics: connections, streams and refusals, for /metrics."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class ServerStats:
    """`connections` and `streams`: open now; `refused` and `slow`: counters.

    `slow` counts how often the client of a stream fell behind, and was told no more until it
    had read all. `certificate_expires` gives Unix seconds, None where no certificate is served.
    """

    connections: int = 0
    refused: int = 0
    streams: int = 0
    slow: int = 0
    certificate_expires: Callable[[], float | None] = lambda: None
