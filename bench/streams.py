"""What a thousand streams cost: CPU and memory of `meterd demo`, with them and without.

The demo polls three meters and a UPS each second, so every stream hears something each second.
"""

import asyncio
import os
import re
import resource
import subprocess
import time
from pathlib import Path

from bench.processes import _METERD, _free_port
from bench.report import Figure

CLIENTS = 1000
_SECONDS = 15.0
_SPARE = 600  # file descriptors that a server keeps for itself, and for questions
_TICKS = os.sysconf("SC_CLK_TCK")


class _Client(asyncio.Protocol):
    """Reads and counts; the bench's own work is not to be measured."""

    events = 0
    size = 0

    def __init__(self, request: bytes) -> None:
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        _Client.events += data.count(b"event: changes")
        _Client.size += len(data)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> float:
    """MiB resident."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def _load(pid: int) -> float:
    """Percent of a core, over some seconds."""
    began, used = time.monotonic(), _cpu(pid)
    await asyncio.sleep(_SECONDS)
    return (_cpu(pid) - used) / (time.monotonic() - began) * 100


async def _until_up(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            writer.close()
            return


async def _compare(pid: int, port: int) -> list[Figure]:
    loop = asyncio.get_running_loop()
    await _until_up(port)
    await asyncio.sleep(5)
    idle, before = await _load(pid), _memory(pid)
    request = b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = []
    for _ in range(CLIENTS):
        client, _ = await loop.create_connection(lambda: _Client(request), "127.0.0.1", port)
        clients.append(client)
    await asyncio.sleep(3)
    _Client.events = _Client.size = 0
    busy = await _load(pid)
    rate = _Client.events / CLIENTS / _SECONDS
    size = _Client.size / max(1, _Client.events)
    memory = _memory(pid) - before
    for client in clients:
        client.close()
    return [
        Figure(f"{CLIENTS} streams: events a second for each", rate, "/s"),
        Figure(f"{CLIENTS} streams: size of an event", size, "bytes"),
        Figure(f"{CLIENTS} streams: CPU, less the demo's own", busy - idle, "% of a core", 40),
        Figure(f"{CLIENTS} streams: memory, less the demo's own", memory, "MiB", 40),
    ]


def measure() -> list[Figure]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CLIENTS * 4 // 3 + _SPARE
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    port = _free_port()
    command = [_METERD, "demo", "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as demo:
        try:
            return asyncio.run(_compare(demo.pid, port))
        finally:
            demo.terminate()
