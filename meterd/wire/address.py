"""Link URLs taken apart: `tcp://host:502?framer=rtu`, `serial:///dev/ttyUSB0?baud=9600`.

What a URL may say is judged in config/link_urls.py; here it only comes apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from meterd.model.duration import seconds

MODBUS_PORT = 502
# Modbus/TCP Security Protocol Specification, 2018.
MODBUS_TLS_PORT = 802

_DEFAULTS = {
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
# How the serial line behind a gateway is set, where its baud rate is said.
_BEHIND = {"bytes": "8", "parity": "N", "stop": "1"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a link leads; `options` are what its URL says."""

    scheme: str
    host: str
    port: int
    path: str
    options: Mapping[str, str]

    @property
    def key(self) -> str:
        """Two devices with the same key share one bus."""
        if self.scheme == "serial":
            return f"serial://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def settled(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """All options: the URL's own, then the driver's, then the house's."""
        house = _DEFAULTS[self.scheme]
        usable = {name: value for name, value in defaults.items() if name in house}
        behind = _BEHIND if "baud" in self.options else {}
        return {**behind, **house, **usable, **self.options}

    def duration(self, name: str) -> float | None:
        """An option in seconds; None where the URL does not say it."""
        return seconds(self.options[name]) if name in self.options else None


def parse(url: str) -> Address:
    """The parts of a URL that has been judged to be one."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "serial":
        return Address("serial", "", 0, parts.path, options)
    port = parts.port or (MODBUS_TLS_PORT if parts.scheme == "tls" else MODBUS_PORT)
    return Address(parts.scheme, parts.hostname or "", port, "", options)
