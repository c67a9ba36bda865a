"""The daemon for hours: 50 meters at 1 s, sealed each hour; its memory each minute, as a CSV.

    python -m bench.soak [--minutes 130] [--meters 50] [--csv soak.csv] [--check]

What was polled since the last full hour stands in memory until it is sealed, so the memory rises
through each hour of the clock and is judged by its highest of a whole one: flat means that no
later hour is more than 5 % above the first whole one. Begin shortly before a full hour: 130
minutes then hold two whole ones. `--check` runs three minutes, and judges only that all works.
"""

import argparse
import asyncio
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import meter_bank

MODEL = "eastron_sdm630"
MINUTE = 60.0
FLAT = 1.05
_HOUR = 3600
_PAGE = os.sysconf("SC_PAGE_SIZE")
_COLUMNS = ("time", "minute", "rss_mib", "cpu_s", "committed", "queued", "dropped")
# Of /metrics, in the order of the last columns.
_METRICS = (
    "meterd_store_committed_samples_total",
    "meterd_store_queued_samples",
    "meterd_store_dropped_samples_total",
)


async def meters(count: int) -> None:
    """Serves so many, each on a port of its own; tells their URLs in one line."""
    servers = [ModbusServer({1: meter_bank(MODEL)}) for _ in range(count)]
    for one in servers:
        await one.start_tcp()
    print(json.dumps([one.url for one in servers]), flush=True)
    await asyncio.Event().wait()


def configuration(urls: Sequence[str], folder: Path) -> Path:
    devices = "".join(
        f'  m{number}: {{driver: modbus, map: {MODEL}, link: "{url}", interval: 1s}}\n'
        for number, url in enumerate(urls)
    )
    file = folder / "meterd.yaml"
    store = f'store: {{url: "sqlite:///{folder}/meterd.db", commit: 10s}}\n'
    file.write_text(f'devices:\n{devices}{store}api: {{listen: "127.0.0.1:0"}}\n')
    return file


class Daemon:
    """A `meterd run`; `url` is its page."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.log = folder / "stderr.txt"
        self._stderr = self.log.open("wb")
        command = (sys.executable, "-m", "meterd", "run", "-c", str(file))
        self.process = subprocess.Popen(command, cwd=folder, stderr=self._stderr)
        self.url = self._told()

    def _told(self) -> str:
        end = time.monotonic() + MINUTE
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text()):
                return found[0]
            time.sleep(0.1)
        raise RuntimeError(self.log.read_text())

    def rss(self) -> float:
        """MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * _PAGE / (1 << 20)

    def cpu(self) -> float:
        """Seconds since the start."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> list[float]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=MINUTE) as reply:
            text = reply.read().decode()
        found = dict(re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE))
        return [float(found.get(name, "nan")) for name in _METRICS]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(MINUTE)
        self._stderr.close()
        return code


def rows(daemon: Daemon, minutes: int) -> Iterator[tuple[float, ...]]:
    """One a minute, from the first minute on."""
    began = time.monotonic()
    for minute in range(1, minutes + 1):
        time.sleep(max(0.0, began + minute * MINUTE - time.monotonic()))
        yield (time.time(), minute, daemon.rss(), daemon.cpu(), *daemon.metrics())


def peaks(found: Sequence[tuple[float, ...]]) -> dict[int, float]:
    """The most memory in MiB of each whole hour of the clock, by its number since 1970."""
    hours: dict[int, list[float]] = {}
    for row in found:
        hours.setdefault(int(row[0]) // _HOUR, []).append(row[2])
    whole = _HOUR / MINUTE - 1
    return {hour: max(some) for hour, some in hours.items() if len(some) >= whole}


def judge(found: Sequence[tuple[float, ...]]) -> str:
    """What the figures say; begins with "not flat" where the memory grew."""
    highest = list(peaks(found).values())
    if len(highest) < 2:
        return f"{found[-1][2]:.1f} MiB after {len(found)} min; too short to judge"
    first, last = highest[0], max(highest[1:])
    word = "flat" if last <= first * FLAT else "not flat"
    return f"{word}: {first:.1f} MiB in the first whole hour, {last:.1f} MiB at most in later ones"


def run(count: int, minutes: int, file: Path) -> int:
    """0 where nothing was lost, the daemon ended well, and its memory is flat."""
    serving = subprocess.Popen(
        (sys.executable, "-m", "bench.soak", "--serve", str(count)),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    found: list[tuple[float, ...]] = []
    try:
        assert serving.stdout is not None
        urls = json.loads(serving.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            daemon = Daemon(configuration(urls, Path(folder)), Path(folder))
            try:
                with file.open("w", newline="") as sheet:
                    writer = csv.writer(sheet)
                    writer.writerow(_COLUMNS)
                    for row in rows(daemon, minutes):
                        found.append(row)
                        writer.writerow([round(value, 2) for value in row])
                        sheet.flush()
            finally:
                code = daemon.stop()
    finally:
        serving.terminate()
        serving.wait(MINUTE)
    told = judge(found)
    print(told)
    lost = found[-1][-1]
    polled = found[-1][4] > 0
    return int(bool(code or lost or not polled or told.startswith("not flat")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=130)
    parser.add_argument("--meters", type=int, default=50)
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"))
    parser.add_argument("--check", action="store_true", help="three minutes, to see that it works")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        asyncio.run(meters(asked.serve))
    return run(asked.meters, 3 if asked.check else asked.minutes, asked.csv)


if __name__ == "__main__":
    sys.exit(main())
