"""Who gives way where a server has no room for one more client: shares by address."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

_T = TypeVar("_T")

# One host has a whole network of this size, and takes as many addresses of it as it likes.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class ClientSlot(Generic[_T]):
    """One client that is there: its `share`, when it was last used (monotonic seconds, None for
    one that has not asked yet), and since when it is there."""

    client: _T
    share: str
    used: float | None
    since: float


def share_of(address: str) -> str:
    """What counts as one host: an IPv4 address, or the network of an IPv6 address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    if found.is_link_local or found.is_loopback:
        # All hosts of a link share this network.
        return str(found)
    return str(IPv6Address(int(found) >> (128 - _IPV6_PREFIX) << (128 - _IPV6_PREFIX)))


def giving_way(
    share: str,
    seats: Iterable[ClientSlot[_T]],
    held: Counter[str],
    now: float,
    least_idle: float,
    most: int = 1,
) -> list[_T]:
    """Who goes, so that one more client of `share` fits in; at most `most`, none where nobody may.

    `seats` are those who may go at all, `held` counts everybody by share. The host with the most
    connections gives one up: of those the ones that never asked, then the one unused for the
    longest time. Among hosts that have no more than the newcomer would, only one goes that was
    not used for `least_idle` seconds.
    """
    mine = held[share] + 1
    able = [
        seat
        for seat in seats
        if (seat.share != share and held[seat.share] > mine)
        or seat.used is None
        or now - seat.used >= least_idle
        if held[seat.share] + (seat.share == share) >= mine
    ]
    largest = max((held[seat.share] + (seat.share == share) for seat in able), default=0)
    first = [seat for seat in able if held[seat.share] + (seat.share == share) == largest]
    found = heapq.nsmallest(most, first, key=_age)
    return [seat.client for seat in found]


def _age(seat: ClientSlot[_T]) -> tuple[bool, float]:
    """Smallest first: never asked before asked, older before newer."""
    if seat.used is None:
        return False, seat.since
    return True, seat.used
