"""InfluxDB 1.x beside meterd: a folder and ports of its own, written by line protocol.

One measurement with a field for each quantity, as its own guide has it; the default retention
policy, whose shards are a week.
"""

import json
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import peer
from bench.answers import Means, Window
from bench.peer import Peer
from meterd.store.query.series_array import SeriesArray

_DATABASE = "bench"
_LINES = 5000  # what its guide has in one write
_WRITE = f"/write?db={_DATABASE}&precision=ms"
_QUIET = 4.0  # s without work: it has merged what it wants to
_IDLE = 0.05  # of a core
_PATIENCE = 600.0
# As after hours without a write: everything out of the log, and each shard in one file.
_MERGED = """
  cache-snapshot-write-cold-duration = "1s"
  compact-full-write-cold-duration = "1s"
"""
_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false{merged}
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


def there() -> bool:
    return peer.installed("InfluxDB", "influxd")


@contextmanager
def server(folder: Path, *, merged: bool) -> Iterator[Peer]:
    """`merged`: each shard is brought to its final form at once, not after hours."""
    folder.mkdir(parents=True, exist_ok=True)
    port, rpc = peer.ports(2)
    config = folder / "influxdb.conf"
    final = _MERGED if merged else ""
    config.write_text(_CONFIG.format(folder=folder, port=port, rpc=rpc, merged=final))
    with peer.running(["influxd", "run", "-config", str(config)], port, "/ping") as found:
        _query(found, f"CREATE DATABASE {_DATABASE}")
        yield found


def head(meter: str) -> str:
    return f"house,meter={meter} "


def fields(names: Sequence[str]) -> str:
    """What a line has after its head: to be filled with the values and Unix ms."""
    return ",".join(f"{name}=%r" for name in names) + " %d\n"


def write(server: Peer, lines: str) -> None:
    """Raises OSError for lines that it does not take."""
    server.post(_WRITE, lines.encode())


def fill(server: Peer, folder: Path, series: Sequence[tuple[str, SeriesArray]]) -> None:
    """Writes series that have the same times, and waits until they are merged."""
    line = head("house") + fields([name for name, _ in series])
    times = series[0][1].times
    for start in range(0, len(times), _LINES):
        part = slice(start, start + _LINES)
        columns = [track.values[part].tolist() for _, track in series]
        rows = zip(*columns, times[part].tolist(), strict=True)
        write(server, "".join([line % row for row in rows]))
    _settle(server, folder)


def _settle(server: Peer, folder: Path) -> None:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        before = server.cpu()
        time.sleep(_QUIET)
        if server.cpu() - before < _IDLE * _QUIET and not peer.size(folder / "wal"):
            return
    raise RuntimeError("InfluxDB did not come to rest")


def size(folder: Path) -> int:
    """Bytes of its shards; its list of series is made with 32 MiB, and left out."""
    return peer.size(folder / "data" / _DATABASE / "autogen")


class Side:
    """Asks one that holds what `fill` wrote."""

    def __init__(self, server: Peer) -> None:
        self.cpu = server.cpu
        self._server = server

    def ask(self, names: Sequence[str], window: Window) -> bytes:
        chosen = ",".join(f'mean("{name}") AS "{name}"' for name in names)
        start, end, step = window
        where = f"time >= {start}ms AND time < {end}ms"
        by = f"time({step}ms) fill(none)"
        return _query(self._server, f"SELECT {chosen} FROM house WHERE {where} GROUP BY {by}")

    def means(self, answer: object) -> Means:
        assert isinstance(answer, bytes)
        (result,) = json.loads(answer)["results"]
        (found,) = result["series"]
        times, *columns = zip(*found["values"], strict=True)
        return {
            name: list(zip(times, column, strict=True))
            for name, column in zip(found["columns"][1:], columns, strict=True)
        }


def _query(server: Peer, text: str) -> bytes:
    asked = urllib.parse.urlencode({"db": _DATABASE, "epoch": "ms", "q": text})
    return server.post("/query", asked.encode())
