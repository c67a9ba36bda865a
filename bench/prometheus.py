"""Prometheus beside meterd: the same samples in its blocks, and what a question costs it."""

import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from meterd.store.tracks import Track

_BLOCK = 486 * 3_600_000  # ms; what a year's blocks grow to, as far as it merges them
_CONFIG = "global: {scrape_interval: 10s}\n"
_PATIENCE = 60.0


def there() -> bool:
    return bool(which("prometheus") and which("promtool"))


def fill(folder: Path, series: Sequence[tuple[str, Track]]) -> None:
    """Blocks of these series, as Prometheus would have merged them."""
    folder.mkdir(parents=True, exist_ok=True)
    first = min(int(track.times[0]) for _, track in series)
    last = max(int(track.times[-1]) for _, track in series)
    text = folder.parent / "openmetrics.txt"
    for start in range(first // _BLOCK * _BLOCK, last + 1, _BLOCK):
        _write(text, [(name, track.within(start, start + _BLOCK)) for name, track in series])
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
        command += ["--max-block-duration=486h", str(text), str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text.unlink()


def _write(path: Path, series: Sequence[tuple[str, Track]]) -> None:
    with path.open("w") as file:
        file.write("# TYPE house gauge\n")
        for name, track in series:
            head = f'house{{q="{name}"}} '
            times, values = (track.times / 1000).tolist(), track.values.tolist()
            pairs = zip(values, times, strict=True)
            file.writelines(f"{head}{value!r} {at:.3f}\n" for value, at in pairs)
        file.write("# EOF\n")


def size(folder: Path) -> int:
    """Bytes of its files."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


class Server:
    """One that runs, on loopback."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    def cpu(self) -> float:
        """User and system seconds so far; the kernel counts hundredths."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """MiB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def range(self, query: str, start: int, end: int, step: int) -> bytes:
        """Unix seconds, and seconds."""
        asked = {"query": query, "start": start, "end": end, "step": step}
        return self.get("/api/v1/query_range?" + urllib.parse.urlencode(asked))

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=_PATIENCE) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def server(folder: Path, *more: str) -> Iterator[Server]:
    """Serves the blocks of a folder."""
    config = folder.parent / "prometheus.yml"
    config.write_text(_CONFIG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=10y"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, *more], stdout=quiet, stderr=quiet)
    try:
        found = Server(process, port)
        _wait(found)
        yield found
    finally:
        process.terminate()
        process.wait(30)


def _wait(found: Server) -> None:
    limit = time.monotonic() + _PATIENCE
    while True:
        try:
            found.get("/-/ready")
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)
        else:
            return
