"""Fair limits of a server's connections by client host: which to close for a new one."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

_T = TypeVar("_T")

# A host usually has a whole /64 (RFC 4291), and can use any number of its addresses.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class ClientSlot(Generic[_T]):
    """A connected client and its host (`share`). `used` is the time of its last request, None
    before the first one, `since` that of the connection, both in monotonic seconds."""

    client: _T
    share: str
    used: float | None
    since: float


def share_of(address: str) -> str:
    """The host of an address for fair limits: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if parsed.is_link_local or parsed.is_loopback:
        # fe80::/64 is shared by all hosts of a link.
        return str(parsed)
    return str(IPv6Address(int(parsed) >> (128 - _IPV6_PREFIX) << (128 - _IPV6_PREFIX)))


def clients_to_close(
    share: str,
    clients: Iterable[ClientSlot[_T]],
    counts: Counter[str],
    now: float,
    least_idle: float,
    count: int = 1,
) -> list[_T]:
    """Up to `count` clients to close so that a new one of `share` fits in; none if none may be.

    `clients` are those that may be closed, `counts` all connections by share. The host with the
    most connections loses some: first those without a request, then the longest unused. Of hosts
    with no more connections than the new client's would have, only clients go that never made a
    request or were unused for `least_idle` seconds.
    """
    share_with_newcomer = counts[share] + 1
    candidates = [
        slot
        for slot in clients
        if (slot.share != share and counts[slot.share] > share_with_newcomer)
        or slot.used is None
        or now - slot.used >= least_idle
        if counts[slot.share] + (slot.share == share) >= share_with_newcomer
    ]
    largest = max((counts[slot.share] + (slot.share == share) for slot in candidates), default=0)
    largest_clients = [
        slot for slot in candidates if counts[slot.share] + (slot.share == share) == largest
    ]
    chosen = heapq.nsmallest(count, largest_clients, key=_age)
    return [slot.client for slot in chosen]


def _age(slot: ClientSlot[_T]) -> tuple[bool, float]:
    """Sort key: clients without a request first, then the longest unused."""
    if slot.used is None:
        return False, slot.since
    return True, slot.used
