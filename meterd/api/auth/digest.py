"""HTTP Digest (RFC 7616): SHA-256, qop=auth, nonces that expire, and no request twice.

    nonce = base64url(issued, 8 bytes | random, 8 bytes | HMAC of both, 16 bytes)

A nonce needs no table to be known as ours; only those that somebody logged in with are
remembered, with the request counts (nc) that were seen.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from meterd.api.auth.passwords import REALM
from meterd.model.clock import Clock

# Seconds. A client gets a new nonce without asking its user again.
LIFETIME = 300.0
# Browsers send several requests at once: counts may come so far out of order.
_WINDOW = 128
_MOST = 4096
_MAC = 16
_PARAMETER = re.compile(r'\s*([A-Za-z]+\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+))\s*(?:,|$)')


class Verdict(Enum):
    """What a login is worth. `STALE`: right, but with a nonce that is too old or was used."""

    RIGHT = "right"
    WRONG = "wrong"
    STALE = "stale"
    MALFORMED = "malformed"


@dataclass(slots=True)
class _Seen:
    """The counts of one nonce: the highest, and bits for those just below it."""

    issued: float
    top: int = 0
    bits: int = 0

    def take(self, count: int) -> bool:
        """Whether this count is new."""
        ahead = count - self.top
        if ahead > 0:
            self.bits = (self.bits << ahead | 1 << (ahead - 1)) if ahead <= _WINDOW else 0
            self.bits &= (1 << _WINDOW) - 1
            self.top = count
            return True
        # The top itself has no bit: it was surely seen.
        if ahead == 0 or -ahead > _WINDOW or self.bits >> (-ahead - 1) & 1:
            return False
        self.bits |= 1 << (-ahead - 1)
        return True


def parse(text: str) -> dict[str, str] | None:
    """The parameters behind `Digest`, names in lower case; None where they are malformed."""
    fields: dict[str, str] = {}
    place = 0
    while place < len(text):
        part = _PARAMETER.match(text, place)
        if part is None or part[1].lower() in fields:
            return None
        quoted = part[2] is not None
        fields[part[1].lower()] = re.sub(r"\\(.)", r"\1", part[2]) if quoted else part[3]
        place = part.end()
    if extended := fields.pop("username*", ""):
        if "username" in fields or not extended.lower().startswith("utf-8''"):
            return None
        fields["username"] = unquote(extended[7:])
    return fields


class Digest:
    """Nonces and the check of answers to them. The key lives as long as the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = os.urandom(32)
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        # What was issued up to here and is not remembered any more counts as used.
        self._floor = -1.0

    def challenge(self, *, stale: bool = False) -> str:
        """The value of a WWW-Authenticate header, with a nonce of its own."""
        again = ", stale=true" if stale else ""
        return (
            f'Digest realm="{REALM}", qop="auth", algorithm=SHA-256, '
            f'nonce="{self._nonce()}", charset=UTF-8, userhash=false{again}'
        )

    def check(
        self, fields: dict[str, str], method: str, is_uri: Callable[[str], bool], ha1: str
    ) -> Verdict:
        """Checks a response; `ha1`: that of the user named, or a random one."""
        required = ("username", "realm", "nonce", "uri", "response", "cnonce", "nc")
        fits = (
            all(fields.get(name) for name in required)
            and fields["realm"] == REALM
            and fields.get("algorithm", "").upper() == "SHA-256"
            and fields.get("qop") == "auth"
            and re.fullmatch(r"[0-9A-Fa-f]{8}", fields["nc"]) is not None
            and is_uri(fields["uri"])
        )
        if not fits:
            return Verdict.MALFORMED
        issued = self._issued(fields["nonce"])
        right = hmac.compare_digest(
            _response(fields, method, ha1).encode(),
            fields["response"].lower().encode(errors="replace"),
        )
        if not right:
            return Verdict.WRONG
        return Verdict.RIGHT if self._is_first(fields, issued) else Verdict.STALE

    def _nonce(self) -> str:
        issued = int(self._clock.monotonic() * 1000).to_bytes(8, "big", signed=True)
        start = issued + os.urandom(8)
        return base64.urlsafe_b64encode(start + self._mac(start)).decode()

    def _mac(self, start: bytes) -> bytes:
        return hmac.digest(self._key, start, "sha256")[:_MAC]

    def _issued(self, nonce: str) -> float | None:
        """When we made this nonce, on the monotonic clock; None where we did not."""
        try:
            data = base64.b64decode(nonce.encode("ascii"), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(data) != 32 or not hmac.compare_digest(self._mac(data[:16]), data[16:]):
            return None
        return int.from_bytes(data[:8], "big", signed=True) / 1000

    def _is_first(self, fields: dict[str, str], issued: float | None) -> bool:
        now = self._clock.monotonic()
        if issued is None or now - issued > LIFETIME:
            return False
        nonce = fields["nonce"]
        seen = self._seen.get(nonce)
        if seen is None:
            if issued <= self._floor:
                return False
            seen = self._seen[nonce] = _Seen(issued)
            self._forget(now)
        return seen.take(int(fields["nc"], 16))

    def _forget(self, now: float) -> None:
        while self._seen:
            nonce, oldest = next(iter(self._seen.items()))
            if len(self._seen) <= _MOST and now - oldest.issued <= LIFETIME:
                return
            self._floor = max(self._floor, oldest.issued)
            del self._seen[nonce]


def _response(fields: dict[str, str], method: str, ha1: str) -> str:
    ha2 = _hash(f"{method}:{fields['uri']}")
    parts = (ha1, fields["nonce"], fields["nc"], fields["cnonce"], fields["qop"], ha2)
    return _hash(":".join(parts))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
