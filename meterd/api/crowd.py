"""How many clients are being served: the server counts them here, and /metrics tells."""

from dataclasses import dataclass


@dataclass(slots=True)
class Crowd:
    """`connections` and `streams` are there now; `refused` and `slow` only ever rise.

    `slow` counts how often the client of a stream fell behind, and was told no more until it
    had read all.
    """

    connections: int = 0
    refused: int = 0
    streams: int = 0
    slow: int = 0
