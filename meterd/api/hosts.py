"""Which names of this machine are its own: a name that a stranger's DNS gives out is not.

A page of evil.example can let that name point to this machine, and its script may then read all
that answers to evil.example (DNS rebinding). The Host header still says evil.example. Nobody
can do that with an address, nor with a name that no public DNS gives out.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode

# Ends of names that are for homes and offices, and that no public DNS will ever delegate.
_PRIVATE = ("local", "localhost", "localdomain", "internal", "lan", "home", "corp", "home.arpa")

_HINT = (
    "use the machine's address, or the name in api.listen; a proxy in front belongs in "
    "api.trusted_proxies; with a token or a password every name is good"
)


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address or name."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_host(header: str | None, listen: str) -> None:
    """On loopback, refuse names that are not local: they come from a rebound DNS name."""
    if not is_loopback(listen):
        return
    name = _host(header or "")
    if not is_loopback(name) and name.lower() != listen.lower():
        raise ApiRefusal(
            421,
            ProblemCode.FOREIGN_HOST,
            f"meterd listens on loopback and is not known as {quote(name)}",
            hint="use http://localhost; a proxy in front belongs in api.trusted_proxies; to be "
            "reached by others, set api.listen",
        )


def check_near(header: str | None, listen: str) -> None:
    """Where no login is required, refuses host names of public DNS."""
    name = _host(header or "").lower().rstrip(".")
    # No browser leaves the name out, and no other client can be led astray.
    if name and not _is_near(name) and name != listen.lower().rstrip("."):
        detail = f"without a login meterd is not known as {quote(name)}"
        raise ApiRefusal(421, ProblemCode.FOREIGN_HOST, detail, hint=_HINT)


def _host(header: str) -> str:
    """`[::1]:8420` -> `::1`, `localhost:8420` -> `localhost`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


@lru_cache(1024)
def _is_near(name: str) -> bool:
    if name in own_names() or name.endswith(tuple(f".{end}" for end in _PRIVATE)):
        return True
    # One word is a name of the house, as `nas`, or of a neighbouring container.
    return _is_address(name) or not {".", ":"} & set(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def own_names(resolver: Path = Path("/etc/resolv.conf")) -> frozenset[str]:
    """The machine's host name, alone and in the domains that it searches: nas, nas.fritz.box."""
    host = socket.gethostname().lower().rstrip(".")
    return frozenset((host, *(f"{host}.{domain}" for domain in _searched(resolver))))


def _searched(resolver: Path) -> Iterator[str]:
    with contextlib.suppress(OSError, ValueError):
        for line in resolver.read_text().splitlines():
            kind, *words = line.split() or [""]
            if kind in ("search", "domain"):
                yield from (word.lower().strip(".") for word in words)
