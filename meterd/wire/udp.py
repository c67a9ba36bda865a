"""UDP links: Modbus frames in datagrams, which a few meters support."""

import asyncio
from collections.abc import Mapping
from typing import cast

from meterd.errors import LinkCode, LinkError
from meterd.wire.address import Address
from meterd.wire.link import Times
from meterd.wire.stream import Stream
from meterd.wire.streamlink import StreamLink
from meterd.wire.tcp import explained


class _Datagrams(asyncio.WriteTransport):
    """Adapts a datagram transport to WriteTransport, which links write to."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        super().__init__()
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.sendto(data)

    def abort(self) -> None:
        self._transport.abort()


class _UdpStream(Stream, asyncio.DatagramProtocol):
    """Receives datagrams. Each one replaces the buffer: no frame continues in the next one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's and asyncio's own do not all derive from asyncio.DatagramTransport.
        self.transport = _Datagrams(cast("asyncio.DatagramTransport", transport))

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.buffer.clear()
        self.data_received(data)

    def error_received(self, exc: Exception) -> None:
        self.abort()
        self.connection_lost(exc)


class UdpLink(StreamLink):
    """`udp://host:port`. Without a connection, a refusal (ICMP) shows at the first exchange."""

    def __init__(self, address: Address, options: Mapping[str, str], times: Times) -> None:
        super().__init__(address.key, options, times)
        self._peer = (address.host, address.port)

    async def _open(self) -> Stream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._times.connect_timeout):
                _, stream = await loop.create_datagram_endpoint(_UdpStream, remote_addr=self._peer)
        except TimeoutError as error:
            raise LinkError(
                f"{self.url}: its name is not resolved in time", code=LinkCode.DNS
            ) from error
        except OSError as error:
            raise explained(self.url, error) from error
        return stream

    def _lost(self, error: Exception | None) -> LinkError:
        text = f"{self.url} refuses datagrams: nobody listens there"
        return LinkError(text, code=LinkCode.REFUSED)
