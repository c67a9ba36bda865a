"""Bytes and frames: links to devices, and what counts as an answer on them.

May import model and errors; knows no device, no register map and no interval.
Decided against: pymodbus' client (it takes a wrong function, transaction id 0 and a wrong
register count as success, and shifts replies after a late one on RTU), retries of what was lost
(the bus decides; only a read on a connection that closed while idle, one that a busy device put
off, and one whose answer may be somebody else's are asked again), and a queue of requests (one
exchange at a time).
"""

from collections.abc import Mapping

from meterd.wire.address import Address
from meterd.wire.link import Link, Times


def open_link(address: Address, *, defaults: Mapping[str, str], times: Times | None = None) -> Link:
    """The link to an address; it connects at its first exchange.

    `defaults` are what drivers say about their devices where the URL is silent.
    """
    options = address.settled(defaults)
    times = times or Times()
    match address.scheme:
        case "serial":
            from meterd.wire.serial import SerialLink

            return SerialLink(address, options, times)
        case "udp":
            from meterd.wire.udp import UdpLink

            return UdpLink(address, options, times)
        case scheme:
            from meterd.wire.tcp import TcpLink

            return TcpLink(address, options, times, tls=scheme == "tls")
