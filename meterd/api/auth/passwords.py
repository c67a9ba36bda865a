"""Users with passwords: what is held of each, and whether a given password is theirs.

password        kept in memory as HA1 = SHA-256(user:meterd:password): Basic and Digest
password_hash   scrypt$<log2 n>$<salt>$<key>: nobody can read it back, so Basic only
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from meterd.api.auth.scope import Who

REALM = "meterd"
# 16 MiB and about 40 ms each; no more than two at once, so that guessing stays cheap for us.
_LOG_N = 14
_R, _P = 8, 1
_AT_ONCE = 2
_LONGEST = 1024
# Passwords that were right are known again by a keyed hash: a dashboard asks ten times a second.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class User:
    """One user: `ha1` in hex or `slow` as `hashed()` made it, the other is ""."""

    name: str
    scopes: frozenset[str]
    ha1: str = ""
    slow: str = ""


def ha1(name: str, password: str) -> str:
    """RFC 7616's H(A1), in hex."""
    return hashlib.sha256(f"{name}:{REALM}:{password}".encode(errors="surrogatepass")).hexdigest()


def hashed(password: str) -> str:
    """The password as a configuration may keep it."""
    salt = secrets.token_bytes(16)
    key = _scrypt(password, salt, _LOG_N)
    return "$".join(("scrypt", str(_LOG_N), _text(salt), _text(key)))


def is_hash(text: str) -> bool:
    """Whether this is what `hashed()` makes."""
    try:
        return _parts(text) is not None
    except (ValueError, binascii.Error):
        return False


def _parts(text: str) -> tuple[int, bytes, bytes] | None:
    kind, _, rest = text.partition("$")
    log_n, salt, key = rest.split("$")
    found = int(log_n), base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
    is_ours = kind == "scrypt" and 10 <= found[0] <= 16 and len(found[1]) >= 8
    return found if is_ours and len(found[2]) == 32 else None


def _scrypt(password: str, salt: bytes, log_n: int) -> bytes:
    memory = 256 * _R * 2**log_n
    return hashlib.scrypt(
        password.encode(errors="surrogatepass"),
        salt=salt,
        n=2**log_n,
        r=_R,
        p=_P,
        maxmem=memory,
        dklen=32,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _is_right(password: str, slow: str) -> bool:
    parts = _parts(slow)
    if parts is None:
        return False
    log_n, salt, key = parts
    return hmac.compare_digest(_scrypt(password, salt, log_n), key)


class Users:
    """Checks passwords; an unknown name takes as long as a known one."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users
        self._any_slow = any(user.slow for user in users.values())
        self._decoy = User(
            "", frozenset(), slow=hashed(secrets.token_hex()) if self._any_slow else ""
        )
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._users)

    @property
    def has_digest(self) -> bool:
        """Whether every user can log in with Digest: browsers prefer it where it is offered."""
        return bool(self._users) and not self._any_slow

    def get(self, name: str) -> User | None:
        return self._users.get(name)

    async def who(self, name: str, password: str) -> Who | None:
        """The user of that name and password; None where either is wrong."""
        user = self._users.get(name)
        if len(password) > _LONGEST or not await self._check(user, name, password):
            return None
        if user is None:
            return None
        self._remember(self._mark(name, password))
        return Who(user.name, user.scopes)

    async def _check(self, user: User | None, name: str, password: str) -> bool:
        if user is not None and user.ha1:
            return hmac.compare_digest(ha1(name, password), user.ha1)
        slow = (user or self._decoy).slow
        if not slow or self._mark(name, password) in self._right:
            return bool(slow)
        async with self._gate:
            return await asyncio.to_thread(_is_right, password, slow)

    def _mark(self, name: str, password: str) -> bytes:
        return hmac.digest(
            self._key, f"{name}\0{password}".encode(errors="surrogatepass"), "sha256"
        )

    def _remember(self, mark: bytes) -> None:
        self._right[mark] = None
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
