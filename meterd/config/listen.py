"""Listen addresses: `127.0.0.1:8420`, `localhost:8420`, `[::1]:8420`."""

import ipaddress
import re

from meterd.config.codes import Code, ValueFlaw

_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def split_listen(listen: str) -> tuple[str, int]:
    """Host (without brackets) and port; port 0: any free one. Raises ValueFlawError."""
    match = _LISTEN.fullmatch(listen)
    if match and int(match[3]) <= 65535 and _is_host(match[1], match[2]):
        return match[1] or match[2], int(match[3])
    raise ValueFlaw(Code.LISTEN, "must be HOST:PORT", _hint(listen)).error()


def is_loopback(host: str) -> bool:
    """Whether the host is a loopback address or localhost; other names are not resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_host(bracketed: str | None, bare: str | None) -> bool:
    if bracketed is None and not re.fullmatch(r"[0-9.]+", bare or ""):
        return True
    try:
        address = ipaddress.ip_address(bracketed or bare or "")
    except ValueError:
        return False
    return (address.version == 6) == (bracketed is not None)


def _hint(listen: str) -> str:
    if re.fullmatch(r":?[0-9]+", listen):
        return f"write 127.0.0.1:{listen.lstrip(':')}"
    if listen.count(":") > 1 and "[" not in listen:
        return "IPv6 stands in brackets: [::1]:8420"
    return "write 127.0.0.1:8420; ports go up to 65535"
