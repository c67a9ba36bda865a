"""Bytes and frames: links to devices, and what counts as an answer on them.

May import model and errors; knows no device, no register map and no interval.
Decisions: docs/decisions/0001, docs/decisions/0002.
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
