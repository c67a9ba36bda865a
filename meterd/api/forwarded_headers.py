"""Forwarded headers: the client's address and scheme, as trusted proxies tell them.

client ── X-Forwarded-For: client, proxy1 ──▶ proxy2 (the peer) ──▶ meterd
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Nobody has more proxies in a row.
_MOST_HOPS = 16
_TELLTALES = ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """How a request came: the client's address, the scheme and the host that it used.

    `is_direct`: the peer is the client itself, with no proxy in between. `prefix` is what
    stands before every path outside, "" or "/meterd".
    """

    address: str
    is_direct: bool
    is_trusted: bool
    scheme: str
    host: str
    prefix: str


class ForwardedHeaders:
    """Reads the way of requests; only proxies at `trusted` addresses are believed."""

    def __init__(self, trusted: Sequence[str] = (), base: str = "") -> None:
        self._trusted: tuple[Network, ...] = tuple(map(ipaddress.ip_network, trusted))
        self._base = base

    def is_trusted(self, address: str) -> bool:
        """Whether forwarded headers of that address are used."""
        ip = _parsed(address) if self._trusted else None
        return ip is not None and any(ip in network for network in self._trusted)

    def of(self, peer: str, headers: Mapping[str, str], scheme: str) -> RequestOrigin:
        """`peer` is the address at the other end of the socket."""
        host = headers.get("Host", "")
        if not self.is_trusted(peer):
            is_direct = not any(name in headers for name in _TELLTALES)
            return RequestOrigin(peer, is_direct, False, scheme, host, self._base)
        told = headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
        prefix = headers.get("X-Forwarded-Prefix", "").rstrip("/")
        outside = headers.get("X-Forwarded-Host", "").partition(",")[0].strip()
        return RequestOrigin(
            self._client(peer, headers.get("X-Forwarded-For", "")),
            False,
            True,
            told if told in ("http", "https") else scheme,
            outside if _HOST.fullmatch(outside) else host,
            prefix if prefix and _PREFIX.fullmatch(prefix) else self._base,
        )

    def _client(self, peer: str, chain: str) -> str:
        """The last address that is no trusted proxy's: clients can write any before it."""
        client = peer
        for hop in reversed(chain.split(",")[-_MOST_HOPS:]):
            address = _without_port(hop.strip())
            if _parsed(address) is None:
                return client
            client = address
            if not self.is_trusted(address):
                return client
        return client


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


@lru_cache(1024)
def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
