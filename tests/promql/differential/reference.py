"""A real Prometheus on loopback, fed by remote write: it takes stale marks as they are."""

import contextlib
import json
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.promql.differential.samples import END, START, Series

_CONFIG = "global: {scrape_interval: 1h, evaluation_interval: 1m}\n"
# Prometheus takes samples of the last hour before its newest one: so time goes on in slices.
_SLICE = 1_800_000
_LITERAL = 65_536


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _label(name: str, value: str) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, value.encode()))


def _sample(time: int, value: bytes) -> bytes:
    return _field(2, b"\x09" + value + b"\x10" + _varint(time))


def _time_series(series: Series, start: int, end: int) -> bytes:
    chosen = (series.times >= start) & (series.times < end)
    if not chosen.any():
        return b""
    labels = b"".join(_label(*pair) for pair in sorted(series.labels.items()))
    bits = series.values[chosen].view("uint64").tolist()
    times = series.times[chosen].tolist()
    samples = (_sample(t, struct.pack("<Q", b)) for t, b in zip(times, bits, strict=True))
    return _field(1, labels + b"".join(samples))


def _snappy(body: bytes) -> bytes:
    """Snappy's block format with literals only."""
    parts = [_varint(len(body))]
    for place in range(0, len(body), _LITERAL):
        piece = body[place : place + _LITERAL]
        parts += [b"\xf4", struct.pack("<H", len(piece) - 1), piece]
    return b"".join(parts)


class Reference:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, series: Sequence[Series]) -> None:
        for start in range(START - _SLICE, END + _SLICE, _SLICE):
            body = b"".join(_time_series(one, start, start + _SLICE) for one in series)
            if body:
                self._post("/api/v1/write", _snappy(body), "application/x-protobuf")

    def ask(self, endpoint: str, parameters: Mapping[str, object]) -> Any:
        """The JSON of an answer, errors included."""
        form = urllib.parse.urlencode({k: str(v) for k, v in parameters.items()}).encode()
        try:
            body = self._post(f"/api/v1/{endpoint}", form, "application/x-www-form-urlencoded")
        except urllib.error.HTTPError as error:
            body = error.read()
        return json.loads(body)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def _post(self, path: str, body: bytes, media: str) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": media})
        if media.endswith("protobuf"):
            request.add_header("Content-Encoding", "snappy")
            request.add_header("X-Prometheus-Remote-Write-Version", "0.1.0")
        with urllib.request.urlopen(request, timeout=60) as reply:
            return bytes(reply.read())


@contextlib.contextmanager
def running(folder: Path, settings: str = _CONFIG) -> Iterator[Reference]:
    """A Prometheus with its data in `folder`, ended whatever happens."""
    config = folder / "prometheus.yml"
    config.write_text(settings)
    port = free_port()
    command = [
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"),
        *("--log.level=error", "--storage.tsdb.retention.time=100y"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        reference = Reference(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while not reference.is_ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "prometheus did not start"
            time.sleep(0.1)
        yield reference
    finally:
        process.terminate()
        process.wait(60)
