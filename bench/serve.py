"""What answers cost: `latest` by wrk over keep-alive, and the CPU of a day's `range`."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import peer
from bench.report import Figure

SERIES = 40
_SECONDS = 5
_HOUR = 3_600_000
_POLLED = 10_000  # ms
_DEVICES = 4
_RUNS = 20


async def _serve(folder: Path) -> None:
    """A site of four devices with a day behind them, until stdin ends."""
    from meterd.api.app import serve
    from meterd.config.settings import DeviceSettings, Settings, StoreSettings
    from meterd.daemon.site import Site
    from meterd.drivers import registry
    from meterd.model.clock import SystemClock

    clock = SystemClock()
    site = Site(clock)
    options = registry.options_of("modbus")
    assert options is not None
    # Enabled ones would be asked, and there is nobody to answer.
    devices = {
        f"meter-{number}": DeviceSettings(
            driver="modbus",
            link="tcp://127.0.0.1:9",
            interval=_POLLED / 1000,
            options=options(map="eastron_sdm630"),
            enabled=False,
        )
        for number in range(_DEVICES)
    }
    store = StoreSettings(url=f"sqlite:///{folder / 'bench.db'}")
    await site.apply(Settings(devices=devices, store=store))
    await _past(site, clock.now_ms())
    running = await serve(site, "127.0.0.1", 0)
    print(running.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await running.close()
    await site.close()


async def _past(site: object, now: int) -> None:
    """A day of polls, ten seconds apart, sealed as far as they are old enough."""
    from meterd.daemon.site import Site
    from meterd.model.quantity import CATALOGUE, DEVICE_UP
    from meterd.model.sample import Layout, Poll

    assert isinstance(site, Site)
    names = [q for q in CATALOGUE.values() if q.unit in ("V", "A", "W")][: SERIES // _DEVICES - 1]
    layout = Layout.of([*((q.name, q.unit) for q in names), (DEVICE_UP, "1")])
    writer = site._open_store.writer
    for turn, at in enumerate(range(now - 24 * _HOUR, now + 1, _POLLED)):
        for device in range(_DEVICES):
            values = [230.0 + column + (turn * 7 % 100) / 10 for column in range(len(names))]
            poll = Poll(f"meter-{device}", at, layout, (*values, 1.0))
            writer.take(poll)
            if at + _POLLED > now:
                site.latest.take(poll)
        if turn % 500 == 0:
            await writer.flush()
    await writer.settle()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _latest(port: int, pid: int) -> list[Figure]:
    if not peer.installed("wrk", "wrk"):
        return []
    url = f"http://127.0.0.1:{port}/api/v1/latest"
    command = ["wrk", "-t1", "-c8", f"-d{_SECONDS}", url]
    used = _cpu(pid)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = _cpu(pid) - used
    found = re.search(r"(\d+) requests in", said)
    assert found is not None
    assert "Non-2xx" not in said
    # Other processes may want the core, too: what counts is what one request takes of it.
    each = used / int(found[1])
    return [
        Figure(f"`latest` of {SERIES} series, by the clock", int(found[1]) / _SECONDS, "/s"),
        Figure(f"`latest` of {SERIES} series, CPU of a request", each * 1e6, "µs", 333),
    ]


def _range(port: int, pid: int) -> list[Figure]:
    import urllib.request

    names = ["voltage.l1", "voltage.l2", "voltage.l3"]
    query = "&".join(f"quantity={name}" for name in names)
    url = f"http://127.0.0.1:{port}/api/v1/range?{query}&start=now-24h&step=1m"
    size = len(urllib.request.urlopen(url).read())
    used, began = _cpu(pid), time.perf_counter()
    for _ in range(_RUNS):
        urllib.request.urlopen(url).read()
    took = (time.perf_counter() - began) / _RUNS
    each = (_cpu(pid) - used) / _RUNS
    refused = f"http://127.0.0.1:{port}/api/v1/range?start=now-3650d&step=1s"
    thinned = f"{refused}&max_points=1000"
    return [
        Figure("`range` of 24 h at 1 min, 12 series: size", size / 1024, "KiB"),
        Figure("`range` of 24 h at 1 min, 12 series: CPU", each * 1000, "ms", 15),
        Figure("`range` of 24 h at 1 min, 12 series: by the clock", took * 1000, "ms"),
        Figure("10 years at 1 s, refused", _timed(refused), "ms", 50),
        Figure("10 years at 1 s, thinned, all 40 series", _timed(thinned), "ms", 50),
    ]


def _timed(url: str) -> float:
    """The median of some requests in ms, whatever the status."""
    import urllib.error
    import urllib.request

    taken = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        try:
            urllib.request.urlopen(url).read()
        except urllib.error.HTTPError as error:
            error.read()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[len(taken) // 2]


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="meterd-bench-") as folder:
        command = [sys.executable, "-m", "bench.serve", folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            try:
                return [*_latest(port, server.pid), *_range(port, server.pid)]
            finally:
                server.communicate()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
