"""Bytes and frames: links to devices, and what counts as an answer on them.

May import model and errors; knows no device, no register map and no interval.
Decided against: pymodbus' client (it takes a wrong function, transaction id 0 and a wrong
register count as success, and shifts replies after a late one on RTU), retries inside an
exchange (the bus decides), and a queue of requests (one exchange at a time is the wire's law).
"""

from collections.abc import Mapping

from meterd.wire.address import Address
from meterd.wire.link import Link


def open_link(
    address: Address,
    *,
    defaults: Mapping[str, str],
    timeout: float = 1.0,
    connect_timeout: float = 3.0,
    gap: float = 0.0,
) -> Link:
    """The link to an address; it connects at its first exchange. Times in seconds."""
    options = address.settled(defaults)
    if address.scheme == "serial":
        from meterd.wire.serial import SerialLink

        return SerialLink(
            address, options, timeout=timeout, connect_timeout=connect_timeout, gap=gap
        )
    from meterd.wire.tcp import TcpLink

    return TcpLink(address, options, timeout=timeout, connect_timeout=connect_timeout, gap=gap)
