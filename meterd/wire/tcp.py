"""TCP and TLS links; the only place that translates a socket's OSError."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from meterd.errors import LinkCode, LinkError
from meterd.model.files import read
from meterd.wire.address import Address
from meterd.wire.link import Times
from meterd.wire.stream import Stream
from meterd.wire.streamlink import StreamLink

# asyncio's own 256 KiB buffers cost an mmap and a munmap for each reply.
RECEIVE_BUFFER_BYTES = 4096
# A peer that lost power is noticed after about 60 + 3 * 10 s even when no request is sent.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


_PEM_MAX_BYTES = 4 << 20  # bytes; the system's own list of authorities has a quarter of a MB


class _TcpStream(Stream, asyncio.BufferedProtocol):
    """Receives into one small buffer instead of asyncio's 256 KiB ones.

    All streams share it: `buffer_updated` copies the bytes out before the loop fills it again.
    """

    _shared_buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._shared_buffer[:nbytes])


class TcpLink(StreamLink):
    """`tcp://host:port` or `tls://host:port`; the name is resolved anew at each connect."""

    CONNECTS = True

    def __init__(
        self, address: Address, options: Mapping[str, str], times: Times, *, tls: bool = False
    ) -> None:
        super().__init__(address.key, options, times)
        self._host, self._port = address.host, address.port
        self._tls = tls

    async def _open(self) -> Stream:
        loop = asyncio.get_running_loop()
        try:
            # Read anew at each connect, so that a renewed certificate counts.
            context = tls_context(self.options) if self._tls else None
            async with asyncio.timeout(self._times.connect_timeout):
                transport, stream = await loop.create_connection(
                    _TcpStream, self._host, self._port, ssl=context
                )
        except TimeoutError as error:
            text = f"{self.url} does not answer within {self._times.connect_timeout:g} s"
            raise LinkError(text, code=LinkCode.UNREACHABLE) from error
        except OSError as error:
            raise explained(self.url, error) from error
        _keep_alive(transport.get_extra_info("socket"))
        return stream

    def _lost(self, error: Exception | None) -> LinkError:
        cause = "reset" if error else "closed"
        return LinkError(f"{self.url} {cause} the connection", code=LinkCode.CLOSED)


def tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """The TLS client context of a link's options.

    The device's certificate is verified against `ca`, else the system's authorities, unless
    verify=0. `cert` and `key` are meterd's own, for devices that require client certificates.
    Raises OSError for bad files.
    """
    for name in ("ca", "cert", "key"):
        if name in options:
            # OpenSSL would read a device file (/dev/zero) without end and block the loop.
            read(Path(options[name]), _PEM_MAX_BYTES, pipe=False)
    context = ssl.create_default_context(cafile=options.get("ca"))
    # Meters are reached by address; their certificates name the meter, not its address.
    context.check_hostname = options["verify"] == "host"
    if options["verify"] == "0":
        context.verify_mode = ssl.CERT_NONE
    if "cert" in options:
        context.load_cert_chain(options["cert"], options.get("key"), password=lambda: b"")
    return context


def explained(url: str, error: OSError) -> LinkError:
    """Translates an error of connecting a socket to `url`."""
    if isinstance(error, ssl.SSLError):
        return LinkError(f"{url}: no trust: {error.reason or error}", code=LinkCode.TLS)
    if isinstance(error, socket.gaierror):
        return LinkError(f"{url}: the name cannot be resolved: {error.strerror}", code=LinkCode.DNS)
    if isinstance(error, ConnectionRefusedError):
        text = f"{url} refused the connection: nobody listens there, or another client holds it"
        return LinkError(text, code=LinkCode.REFUSED)
    return LinkError(
        f"{url} cannot be reached: {error.strerror or error}", code=LinkCode.UNREACHABLE
    )


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
