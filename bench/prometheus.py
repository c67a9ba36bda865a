"""Prometheus beside meterd: the same samples in its blocks, and what a question costs it."""

import json
import subprocess
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import peer
from bench.answers import Means, Window
from bench.peer import Peer
from meterd.store.query.series_array import SeriesArray

_BLOCK = 486 * 3_600_000  # ms; what a year's blocks grow to, as far as it merges them
_CONFIG = "global: {scrape_interval: 10s}\n"


def there() -> bool:
    return peer.installed("Prometheus", "prometheus", "promtool")


def fill(folder: Path, series: Sequence[tuple[str, SeriesArray]]) -> None:
    """Blocks of these series, as Prometheus would have merged them."""
    folder.mkdir(parents=True, exist_ok=True)
    first = min(int(track.times[0]) for _, track in series)
    last = max(int(track.times[-1]) for _, track in series)
    text = folder.parent / "openmetrics.txt"
    for start in range(first // _BLOCK * _BLOCK, last + 1, _BLOCK):
        _write(text, [(name, track.within(start, start + _BLOCK)) for name, track in series])
        make_blocks(text, folder)
    text.unlink()


def make_blocks(text: Path, folder: Path) -> None:
    """Blocks of an OpenMetrics file, as large as Prometheus merges them by itself."""
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
    command += ["--max-block-duration=486h", str(text), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _write(path: Path, series: Sequence[tuple[str, SeriesArray]]) -> None:
    with path.open("w") as file:
        file.write("# TYPE house gauge\n")
        for name, track in series:
            head = f'house{{q="{name}"}} '
            times, values = (track.times / 1000).tolist(), track.values.tolist()
            pairs = zip(values, times, strict=True)
            file.writelines(f"{head}{value!r} {at:.3f}\n" for value, at in pairs)
        file.write("# EOF\n")


@contextmanager
def server(folder: Path, *more: str) -> Iterator[Peer]:
    """Serves the blocks of a folder."""
    config = folder.parent / "prometheus.yml"
    config.write_text(_CONFIG)
    (port,) = peer.ports(1)
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=10y"]
    with peer.running([*command, *more], port, "/-/ready") as found:
        yield found


class Side:
    """Asks one that holds what `fill` wrote."""

    def __init__(self, server: Peer) -> None:
        self.cpu = server.cpu
        self._server = server

    def ask(self, names: Sequence[str], window: Window) -> bytes:
        """A range has both its ends, so it is asked for at the last ms of each bucket."""
        start, end, step = window
        chosen = f'house{{q=~"{"|".join(names)}"}}'.replace(".", "[.]")
        query = f"avg_over_time({chosen}[{step - 1}ms])"
        asked = {
            "query": query,
            "start": (start + step - 1) / 1000,
            "end": (end - 1) / 1000,
            "step": step / 1000,
        }
        return self._server.get("/api/v1/query_range?" + urllib.parse.urlencode(asked))

    def means(self, answer: object) -> Means:
        """Its times are the last ms of buckets, whose starts follow from their distance."""
        assert isinstance(answer, bytes)
        found = json.loads(answer)["data"]["result"]
        times = [round(1000 * at) for at, _ in found[0]["values"][:2]]
        step = times[1] - times[0]
        return {
            one["metric"]["q"]: [
                (round(1000 * at) + 1 - step, float(mean)) for at, mean in one["values"]
            ]
            for one in found
        }
