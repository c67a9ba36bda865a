"""Parser of link URLs: `tcp://host:502?framer=rtu`, `serial:///dev/ttyUSB0?baud=9600`.

URLs are validated in config/link_urls.py; this module only splits valid ones and merges defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from meterd.model.duration import seconds

MODBUS_PORT = 502
# Modbus/TCP Security Protocol Specification, 2018.
MODBUS_TLS_PORT = 802

_SCHEME_DEFAULTS = {
    "tcp": {"framer": "socket"},
    "udp": {"framer": "socket"},
    # verify: 1 the certificate, host also its name, 0 nothing.
    "tls": {"framer": "socket", "verify": "1"},
    "serial": {
        "framer": "rtu",
        "baud": "9600",
        "bytes": "8",
        "parity": "N",
        "stop": "1",
        "dtr": "1",
        "rts": "0",
        # Interfaces that draw their power from DTR need a second before they speak.
        "settle": "1.1s",
    },
}
# Options of the serial line behind a gateway; they apply where the URL has `baud`.
_GATEWAY_LINE_DEFAULTS = {"bytes": "8", "parity": "N", "stop": "1"}
# Durations that a driver may say of its devices; what each is for is in link.py (Times).
TIMES = ("timeout", "gap", "unit_gap", "connect_delay")
# All that a driver may say of a link where its URL is silent.
DRIVER_DEFAULTS = frozenset(
    {*TIMES, *(name for said in _SCHEME_DEFAULTS.values() for name in said)}
)


@dataclass(frozen=True, slots=True)
class Address:
    """A link URL in parts; `options` are the URL's query parameters alone, without defaults."""

    scheme: str
    host: str
    port: int
    path: str
    options: Mapping[str, str]

    @property
    def key(self) -> str:
        """The URL without options. Devices whose addresses have the same key share one bus."""
        if self.scheme == "serial":
            return f"serial://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def settled(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """Values of all options: the URL's, else the driver's `defaults`, else the scheme's."""
        scheme = _SCHEME_DEFAULTS[self.scheme]
        driver = {name: value for name, value in defaults.items() if name in scheme}
        gateway_line = _GATEWAY_LINE_DEFAULTS if "baud" in self.options else {}
        return {**gateway_line, **scheme, **driver, **self.options}

    def duration(self, name: str) -> float | None:
        """An option of the URL in seconds; None where the URL lacks it."""
        return seconds(self.options[name]) if name in self.options else None


def parse(url: str) -> Address:
    """Splits a URL that config/link_urls.py has validated."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "serial":
        return Address("serial", "", 0, parts.path, options)
    port = parts.port or (MODBUS_TLS_PORT if parts.scheme == "tls" else MODBUS_PORT)
    return Address(parts.scheme, parts.hostname or "", port, "", options)
