"""Validates link URLs: `tcp://host:502?framer=rtu`, `serial:///dev/ttyUSB0?baud=9600`."""

import re
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit

from meterd.config.codes import Code, ValueFlaw
from meterd.config.names import spelling_hint
from meterd.model.duration import seconds

SCHEMES = ("tcp", "udp", "tls", "serial")
_DURATION_KEYS = ("gap", "unit_gap", "connect_delay", "timeout", "settle")
_OPTION_CHOICES = {
    "parity": ("N", "E", "O"),
    "stop": ("1", "2"),
    "bytes": ("7", "8"),
    "dtr": ("0", "1"),
    "rts": ("0", "1"),
    "verify": ("1", "0", "host"),
}
_FRAMERS = {
    "tcp": ("socket", "rtu", "ascii"),
    "udp": ("socket", "rtu"),
    "tls": ("socket",),
    "serial": ("rtu", "ascii"),
}
# Parameters of the serial line: the link's own, or that behind a gateway, for its bus load.
LINE_KEYS = ("baud", "parity", "stop", "bytes")
_NETWORK_KEYS = ("framer", "gap", "unit_gap", "connect_delay", "timeout", *LINE_KEYS)
_TLS_FILES = ("ca", "cert", "key")
_TLS_KEYS = (*_NETWORK_KEYS, "verify", *_TLS_FILES)
_SERIAL_KEYS = (*_NETWORK_KEYS, "dtr", "rts", "settle")
# Options that are no part of a URL, and the key to use instead.
_KEY_HINTS = {
    "unit": "the unit is a key of the device: `unit: {}`",
    "interval": "the interval is a key of the device: `interval: {}`",
    "slow": "that is a key of the device: `slow: {}`",
    "map": "the map is a key of the device: `map: {}`",
    "direction": "that is a key of the device: `direction: {}`",
    "keep_open": "that is a key of an entry under links:, `keep_open: {}`",
    "connect_timeout": "that is a key of an entry under links:, `connect_timeout: {}`",
}
# Schemes of other programs.
_SERIAL_SCHEMES = ("rtu", "modbus", "modbus-rtu", "file", "usb", "tty", "serial-rtu")
_RTU_OVER_TCP_SCHEMES = ("rtuovertcp", "rtu-tcp", "rtu+tcp", "tcp+rtu", "tcp-rtu", "rtu")
_TCP_SCHEMES = ("modbus", "modbustcp", "modbus-tcp", "modbus+tcp", "mbtcp", "http")
_OPTION_ALIASES = {
    **dict.fromkeys(("unit_id", "unitid", "slave", "slave_id", "id", "address"), "unit"),
    **dict.fromkeys(("baudrate", "speed", "bps"), "baud"),
    **dict.fromkeys(("stopbits", "stop_bits"), "stop"),
    **dict.fromkeys(("bytesize", "databits", "data_bits", "bits"), "bytes"),
    **dict.fromkeys(("framing", "mode", "protocol", "frame"), "framer"),
    **dict.fromkeys(("delay", "pause"), "gap"),
}
BAUD = (50, 4_000_000)  # lowest and highest
# Host names, IPv4 and (by urlsplit, without the brackets) IPv6 with a zone.
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+(%\w+)?")


def check_link(url: str) -> str | None:
    """What is wrong with the URL and a hint, as one text; None where it is valid."""
    flaw = link_flaw(url)
    if flaw is None:
        return None
    return f"{flaw.what} ({flaw.hint})" if flaw.hint else flaw.what


def link_flaw(url: str) -> ValueFlaw | None:
    """The first flaw of a link's URL; None where it is valid."""
    if re.search(r"[\x00-\x20\x7f]", url):
        return ValueFlaw(Code.LINK, "must be a link URL without blanks")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        hint = "the port is 1 to 65535; IPv6 as in tcp://[::1]:502"
        return ValueFlaw(Code.LINK, "must be a link URL", hint)
    if "://" not in url or parts.scheme not in SCHEMES:
        return _scheme_flaw(url, parts.scheme)
    flaw = _path_flaw(parts) if parts.scheme == "serial" else _host_flaw(parts, port)
    return flaw or _query_flaw(parts)


def _scheme_flaw(url: str, scheme: str) -> ValueFlaw:
    hint = spelling_hint(scheme, SCHEMES) if "://" in url and scheme else ""
    rest = url.partition("://")[2]
    if url.startswith("/"):
        hint = f"write serial://{url}"
    elif scheme in _SERIAL_SCHEMES and rest.startswith("/"):
        hint = f"write serial://{rest}"
    elif scheme in _RTU_OVER_TCP_SCHEMES:
        hint = f"write tcp://{rest}{'&' if '?' in rest else '?'}framer=rtu"
    elif scheme in _TCP_SCHEMES:
        hint = f"write tcp://{rest}"
    return ValueFlaw(Code.LINK, "must start with tcp:// or serial://", hint)


def _host_flaw(parts: SplitResult, port: int | None) -> ValueFlaw | None:
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        return ValueFlaw(Code.LINK, "must name a host", "write tcp://192.0.2.7:502")
    if port == 0 or parts.netloc.endswith(":"):
        return ValueFlaw(Code.LINK, "must have a port of 1 to 65535, or none")
    if "@" in parts.netloc:
        return ValueFlaw(Code.LINK, "must not carry a user or password: Modbus knows none")
    if parts.path not in ("", "/"):
        return ValueFlaw(
            Code.LINK, "must end after the port", "the unit is a key of the device: `unit: 1`"
        )
    return None


def _path_flaw(parts: SplitResult) -> ValueFlaw | None:
    if parts.netloc:
        return ValueFlaw(
            Code.LINK,
            "must be serial:// and an absolute path",
            f"three slashes: serial:///{parts.netloc}{parts.path}",
        )
    if len(parts.path) < 2 or parts.path.endswith("/"):
        return ValueFlaw(Code.LINK, "must name a port", "write serial:///dev/ttyUSB0")
    return None


def _query_flaw(parts: SplitResult) -> ValueFlaw | None:
    if parts.fragment or parts.query.endswith("&"):
        return ValueFlaw(Code.LINK, "must be a link URL", "options come as ?baud=9600&parity=E")
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return ValueFlaw(Code.LINK, "must have options as in ?baud=9600&parity=E")
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if names.count(name) > 1:
            return ValueFlaw(Code.LINK, f"must have the option {name!r} only once")
        if flaw := _option_flaw(parts.scheme, name, value):
            return flaw
    return None


def _option_flaw(scheme: str, name: str, value: str) -> ValueFlaw | None:
    options = {"serial": _SERIAL_KEYS, "tls": _TLS_KEYS}.get(scheme, _NETWORK_KEYS)
    if name not in options:
        what = f"has an option {name!r} that {scheme}:// does not know: {{}}"
        return ValueFlaw(Code.LINK, what, _option_hint(name, value, options))
    allowed = _allowed(scheme, name)
    if not allowed[0](value):
        return ValueFlaw(Code.LINK, f"must have {name}={allowed[1]}")
    return None


def _option_hint(name: str, value: str, options: Sequence[str]) -> str:
    """A hint for an option that links do not have."""
    alias = _OPTION_ALIASES.get(name.lower(), name.lower())
    if (hint := _KEY_HINTS.get(alias)) is not None:
        shown = value if re.fullmatch(r"[\w./-]{1,40}", value) else "…"
        return f"leave it out of the URL: {hint.replace('{}', shown)}"
    return f"write {alias}=" if alias in options else spelling_hint(name, options)


def _allowed(scheme: str, name: str) -> tuple[Callable[[str], bool], str]:
    """The predicate of an option's value, and the text that says what it must be."""
    if name == "baud":
        return _is_baud, "a number such as 2400, 9600 or 115200"
    if name in _DURATION_KEYS:
        return lambda value: seconds(value) is not None, "a duration such as 50ms"
    if name in _TLS_FILES:
        return bool, "a file's path"
    choices = _FRAMERS[scheme] if name == "framer" else _OPTION_CHOICES[name]
    return lambda value: value in choices, " or ".join(choices)


def _is_baud(value: str) -> bool:
    return bool(re.fullmatch("[0-9]{2,7}", value)) and BAUD[0] <= int(value) <= BAUD[1]
