"""PromQL beside the real Prometheus: the same samples, the same question, over HTTP, CPU of both.

The samples of meterd come out of a real store: sealed blocks, decoded anew for every question.
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import prometheus
from bench.report import Figure, show
from meterd.model.sample import Layout, Poll
from meterd.store.writer import Writer

DEVICES = [f"meter-{n:02}" for n in range(25)]
QUANTITIES = ["active_energy.import", *(f"active_energy.import.l{n}" for n in (1, 2, 3))]
METRIC = "meterd_active_energy_import_watthours_total"
STEP = 10  # seconds between two samples
COUNT = 8_640  # samples a series: a day
POINTS = 1_000
RUNS = 10
_METERD = str(Path(sys.executable).with_name("meterd"))
_TICKS = os.sysconf("SC_CLK_TCK")
_CONFIG = """\
devices: {{none: {{driver: megatec, link: "serial:///dev/none", interval: 1h}}}}
store: {{url: "sqlite:///{store}"}}
api: {{listen: "127.0.0.1:{port}"}}
"""

Rows = list[list[float]]


def _values(seed: str) -> Rows:
    """A day of one device: a row for each poll, counters that rise by tenths of a watt-hour."""
    chance = random.Random(seed)
    counters = [chance.randrange(1_000_000) for _ in QUANTITIES]
    rows = []
    for _ in range(COUNT):
        counters = [one + chance.randrange(40) for one in counters]
        rows.append([one / 10 for one in counters])
    return rows


async def _fill(path: Path, start: int) -> None:
    """The store as meterd leaves it after that day."""
    layout = Layout.of([(name, "Wh") for name in QUANTITIES])
    writer = Writer(f"sqlite:///{path}", commit=1e9)
    await writer.open()
    days = {device: _values(device) for device in DEVICES}
    for place in range(COUNT):
        for device in DEVICES:
            row = tuple(days[device][place])
            writer.take(Poll(device, (start + place * STEP) * 1000, layout, row))
        if place % 360 == 359:
            await writer.flush()
    await writer.settle()
    await writer.close()


def _expose(path: Path, start: int) -> None:
    """The same samples as OpenMetrics."""
    with path.open("w") as file:
        file.write(f"# TYPE {METRIC.removesuffix('_total')} counter\n")
        for device in DEVICES:
            rows = _values(device)
            for number in range(len(QUANTITIES)):
                phase = f',phase="l{number}"' if number else ""
                head = f'{METRIC}{{device="{device}"{phase}}}'
                file.writelines(
                    f"{head} {row[number]} {start + place * STEP}\n"
                    for place, row in enumerate(rows)
                )
        file.write("# EOF\n")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _running(command: list[str], ready: str, log: Path) -> Iterator[int]:
    """A server's process id, from when it answers; ended whatever happens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _cpu(pid: int) -> float:
    """Seconds that a process has worked so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _ask(url: str, query: str, start: int) -> list[object]:
    span = COUNT * STEP
    form = {"query": query, "start": start, "end": start + span - 1, "step": span / POINTS}
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query_range", body, timeout=60) as reply:
        return list(json.load(reply)["data"]["result"])


def _measured(pid: int, url: str, query: str, start: int) -> float:
    """CPU milliseconds of the server for one answer, the first one apart."""
    _need_whole(_ask(url, query, start))
    before = _cpu(pid)
    for _ in range(RUNS):
        _ask(url, query, start)
    return (_cpu(pid) - before) * 1000 / RUNS


def _need_whole(result: list[object]) -> None:
    if len(result) != len(DEVICES) * len(QUANTITIES):
        raise RuntimeError(f"{len(result)} series were answered")


def _prometheus(folder: Path, start: int, query: str) -> float:
    exposed = folder / "samples.txt"
    _expose(exposed, start)
    data = folder / "data"
    made = ("promtool", "tsdb", "create-blocks-from", "openmetrics", str(exposed), str(data))
    subprocess.run(made, check=True, capture_output=True)
    config, port = folder / "prometheus.yml", _free_port()
    config.write_text("scrape_configs: []\n")
    url = f"http://127.0.0.1:{port}"
    command = [
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y"),
    ]
    with _running(command, f"{url}/-/ready", folder / "prometheus.log") as pid:
        return _measured(pid, url, query, start)


def _meterd(folder: Path, start: int, query: str) -> float:
    asyncio.run(_fill(folder / "meterd.db", start))
    config, port = folder / "meterd.yaml", _free_port()
    config.write_text(_CONFIG.format(store=folder / "meterd.db", port=port))
    url = f"http://127.0.0.1:{port}"
    command = [_METERD, "run", "-c", str(config)]
    with _running(command, f"{url}/healthz", folder / "meterd.log") as pid:
        return _measured(pid, f"{url}/prometheus", query, start)


def measure() -> list[Figure]:
    if not prometheus.there():
        return []
    # A day that is over: two days ago, from midnight on.
    start = (int(time.time()) // 86_400 - 2) * 86_400
    query = f"rate({METRIC}[5m])"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = _meterd(folder, start, query)
        theirs = _prometheus(folder, start, query)
    what = f"query_range of rate(), {len(DEVICES) * len(QUANTITIES)} series x {POINTS:,} steps"
    return [
        Figure(f"{what}, CPU of meterd", ours, "ms"),
        Figure(f"{what}, CPU of Prometheus", theirs, "ms"),
        Figure(f"{what}, meterd to Prometheus", ours / theirs, "x", 2),
    ]


def main() -> None:
    show(measure())


if __name__ == "__main__":
    main()
