"""Login throttle: delays after failed logins, by address and by account, in bounded tables.

tries that failed     1 … 5    6    7    8    9 …
seconds to wait          0     2    4    8   16 … at most 60
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from meterd.model.clock import Clock

FREE = 5
# An account that is tried from many places: more tries, as its owner may be among them.
FREE_ACCOUNT = 20
LONGEST = 60.0
# Seconds after which a failure is forgotten.
_FORGET = 900.0
_MOST = 4096
_LONGEST_NAME = 64


@dataclass(slots=True)
class _Record:
    count: int
    last: float

    def wait(self, free: int, now: float) -> float:
        if self.count <= free:
            return 0.0
        delay: float = min(2.0 ** (self.count - free), LONGEST)
        return max(0.0, self.last + delay - now)


class LoginThrottle:
    """Counts failures. An account that has logged in from an address is counted by itself there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._good: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait(self, address: str, account: str) -> float:
        """Seconds until the next try is looked at."""
        now = self._clock.monotonic()
        place, account = _place(address), account[:_LONGEST_NAME]
        if (place, account) in self._good:
            return self._wait((place, account), FREE, now)
        return max(self._wait((place, ""), FREE, now), self._wait(("", account), FREE_ACCOUNT, now))

    def failed(self, address: str, account: str) -> None:
        place, account = _place(address), account[:_LONGEST_NAME]
        if (place, account) in self._good:
            self._count((place, account))
            return
        self._count((place, ""))
        self._count(("", account))

    def passed(self, address: str, account: str) -> None:
        """A login succeeded: failures elsewhere do not throttle this account from this address."""
        key = (_place(address), account[:_LONGEST_NAME])
        self._good[key] = None
        self._good.move_to_end(key)
        self._failed.pop(key, None)
        if len(self._good) > _MOST:
            self._good.popitem(last=False)

    def _wait(self, key: tuple[str, str], free: int, now: float) -> float:
        record = self._failed.get(key)
        if record is None:
            return 0.0
        if now - record.last > _FORGET:
            del self._failed[key]
            return 0.0
        return record.wait(free, now)

    def _count(self, key: tuple[str, str]) -> None:
        now = self._clock.monotonic()
        record = self._failed.get(key)
        if record is None or now - record.last > _FORGET:
            self._failed[key] = _Record(1, now)
        else:
            record.count += 1
            record.last = now
        self._failed.move_to_end(key)
        if len(self._failed) > _MOST:
            self._failed.popitem(last=False)


def _place(address: str) -> str:
    """One household has a whole /64 of IPv6: it counts as one address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
