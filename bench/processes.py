"""Whole processes as a user meets them: `meterd poll` once, and the memory of `meterd demo`."""

import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from bench.report import Figure

RUNS = 7
_SETTLED = 20.0
_METERD = str(Path(sys.executable).with_name("meterd"))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _poll() -> list[float]:
    """Wall seconds of `meterd poll` of one simulated SDM630, start to exit."""
    listen = f"127.0.0.1:{_free_port()}"
    command = [_METERD, "simulate", "eastron_sdm630", "--listen", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        url = simulator.stdout.readline().strip()
        taken = []
        for _ in range(RUNS):
            started = time.perf_counter()
            target = f"eastron_sdm630@{url}/1"
            subprocess.run([_METERD, "poll", target], check=True, capture_output=True)
            taken.append(time.perf_counter() - started)
        simulator.terminate()
    return taken


def _demo_memory() -> float:
    """MiB resident after twenty seconds of polling and some requests."""
    listen = f"127.0.0.1:{_free_port()}"
    with subprocess.Popen([_METERD, "demo", "--listen", listen], stderr=subprocess.DEVNULL) as demo:
        ends = time.monotonic() + _SETTLED
        while time.monotonic() < ends:
            time.sleep(1)
            for path in ("/", "/api/v1/latest", "/api/v1/range?device=main", "/metrics"):
                try:
                    urllib.request.urlopen(f"http://{listen}{path}", timeout=5).read()
                except OSError:
                    continue
        status = Path(f"/proc/{demo.pid}/status").read_text()
        demo.terminate()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def measure() -> list[Figure]:
    return [
        Figure("`meterd poll` of one SDM630, whole process", statistics.median(_poll()), "s", 0.6),
        Figure("`meterd demo`, resident memory", _demo_memory(), "MiB", 90),
    ]
