"""Ports for servers that a test starts itself, and that nobody else gets by chance meanwhile."""

import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_LOWEST = 15_000
# From this one on the system gives ports to whoever connects, or asks for any.
_ANYBODYS = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
_WORKERS = 8


def _mine() -> Iterator[int]:
    """Those of this worker, from another one on in each process."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    count = (_ANYBODYS - _LOWEST) // _WORKERS
    first = _LOWEST + worker * count
    yield from (first + (os.getpid() * 97 + number) % count for number in itertools.count())


_PORTS = _mine()


def free_port() -> int:
    """A port of 127.0.0.1, for TCP and for UDP; each once."""
    return next(port for port in _PORTS if _is_free(port))


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as probe:
                probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
