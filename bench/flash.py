"""Bytes that reach the device for each sample, counted on an ext4 of its own on a loop device.

meterd's whole way to the disk; Prometheus' by remote write, which it does not sync by itself; and
InfluxDB's by line protocol, which it syncs with each write. All from 16:00 to 01:30, so that a day
ends; each 30 s of the stream everything is synced, as the kernel does it. Needs root and a loop
device: elsewhere nothing is measured.
"""

import asyncio
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench import house, influx, phases, prometheus
from bench.remote import sender
from bench.report import Figure, show
from meterd.model.sample import Poll
from meterd.store.writer import Writer

COMMIT = 30  # s
WRITE = 10  # s; how often a collector writes to InfluxDB unless told otherwise
HOURS = 9.5
_START = house.FIRST_DAY * house.DAY_MS + 16 * 3_600_000
_SIZE_MB = 2048
_SECTOR = 512
_PAUSES = 0.2  # s; longer than those between two pieces of a chore
_COMPACTING = 5.0  # s; a compaction may be under way at the end

Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """So many meters of forty series, each polled every `step` s."""

    name: str
    devices: int
    step: int

    @property
    def samples(self) -> int:
        return self.devices * len(house.NAMES) * self.ticks

    @property
    def ticks(self) -> int:
        return int(HOURS * 3600) // self.step

    def rows(self, data: Path) -> list[Row]:
        """A day of one meter; the others are somewhere else in it."""
        rows = phases.minutes(data, 100 * 1440, 1441)
        return list(zip(*phases.series(rows, 1, self.step), strict=True))


FLEET = Stream("4000 series at 10 s", 100, 10)
ONE = Stream("40 series at 1 s", 1, 1)


class Stepped:
    """The time of the stream."""

    def __init__(self) -> None:
        self.now = _START

    def monotonic(self) -> float:
        return self.now / 1000

    def now_ms(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


class Paced(Stepped):
    """The stream's time; and the machine's beside it, for chores that pause between pieces."""

    def monotonic(self) -> float:
        return super().monotonic() + time.monotonic()


class Device:
    """A file system of its own, and what was written to its device."""

    def __init__(self, mount: Path, loop: str) -> None:
        self.mount = mount
        self._stat = Path("/sys/block", Path(loop).name, "stat")
        self._file = os.open(mount, os.O_RDONLY)

    def sync(self) -> None:
        ctypes.CDLL(None).syncfs(self._file)

    def written(self) -> int:
        """Bytes."""
        self.sync()
        return int(self._stat.read_text().split()[6]) * _SECTOR

    def close(self) -> None:
        os.close(self._file)


@contextmanager
def device() -> Iterator[Device]:
    """Raises OSError or CalledProcessError where there are no loop devices."""
    with tempfile.TemporaryDirectory() as folder:
        image, mount = Path(folder, "image"), Path(folder, "mount")
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(_SIZE_MB << 20)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        loop = _run("losetup", "-f", "--show", str(image)).strip()
        try:
            _run("mount", loop, str(mount))
            found = Device(mount, loop)
            try:
                yield found
            finally:
                found.close()
                _run("umount", str(mount))
        finally:
            _run("losetup", "-d", loop)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def _idle(writer: Writer, clock: Paced) -> None:
    """Once what is due is sealed and closed: in the stream's time that takes no time."""
    await asyncio.to_thread(_wait, writer, clock)


def _wait(writer: Writer, clock: Paced) -> None:
    while writer.status.due < clock.monotonic() + _PAUSES:
        time.sleep(_PAUSES / 10)


async def meterd(stream: Stream, rows: Sequence[Row], *, to_file: bool) -> float:
    """Bytes a sample."""
    with device() as target:
        clock = Paced()
        url = f"sqlite:///{target.mount}/meterd.db"
        writer = Writer(url, commit=1e9, clock=clock, to_file=to_file)
        await writer.open()
        before = 0
        for tick in range(stream.ticks):
            for meter, row in enumerate(_at(stream, rows, tick)):
                writer.take(Poll(f"m{meter}", clock.now, house.LAYOUT, row))
            clock.now += 1000 * stream.step
            if tick == 0:
                # Once for all: the series, and the 16 MiB that a journal file is made with.
                await writer.flush()
                before = target.written()
            if clock.now // 1000 % COMMIT == 0:
                await writer.flush()
                await _idle(writer, clock)
                target.sync()
        await writer.flush()
        written = target.written() - before
        await writer.close()
    return written / stream.samples


def beside(stream: Stream, rows: Sequence[Row]) -> float:
    """Prometheus' bytes a sample."""
    labels = [(f"m{meter}", name) for meter in range(stream.devices) for name in house.NAMES]
    with device() as target:
        folder = target.mount / "data"
        with prometheus.server(folder, "--web.enable-remote-write-receiver") as server:
            send = sender(server, labels)
            before = target.written()
            now = _START
            for tick in range(stream.ticks):
                send(now, chain.from_iterable(_at(stream, rows, tick)))
                now += 1000 * stream.step
                if now // 1000 % COMMIT == 0:
                    target.sync()
            time.sleep(_COMPACTING)
            written = target.written() - before
    return written / stream.samples


def influxdb(stream: Stream, rows: Sequence[Row]) -> float:
    """InfluxDB's bytes a sample, as it is set up by default. What it still holds isn't counted."""
    fields = influx.fields(house.NAMES)
    lines = [influx.head(f"m{meter}") + fields for meter in range(stream.devices)]
    with device() as target, influx.server(target.mount / "data", merged=False) as server:
        now, waiting, before = _START, "", 0
        for tick in range(stream.ticks):
            polls = zip(lines, _at(stream, rows, tick), strict=True)
            waiting += "".join([line % (*row, now) for line, row in polls])
            now += 1000 * stream.step
            if now // 1000 % WRITE == 0:
                influx.write(server, waiting)
                waiting = ""
                # The first one makes its list of series, 32 MiB, once for all.
                before = before or target.written()
            if now // 1000 % COMMIT == 0:
                target.sync()
        time.sleep(_COMPACTING)
        written = target.written() - before
    return written / stream.samples


def _at(stream: Stream, rows: Sequence[Row], tick: int) -> Iterator[Row]:
    return (rows[(tick + 83 * meter) % len(rows)] for meter in range(stream.devices))


def measure() -> list[Figure]:
    data = house.data()
    if data is None:
        print("no data for the flash figures: METERD_BENCH_DATA names its folder", file=sys.stderr)
        return []
    try:
        with device():
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no device to count writes on: {error}", file=sys.stderr)
        return []
    return [figure for stream in (FLEET, ONE) for figure in _figures(stream, data)]


def _figures(stream: Stream, data: Path) -> Iterator[Figure]:
    rows = stream.rows(data)
    table = asyncio.run(meterd(stream, rows, to_file=False))
    file = asyncio.run(meterd(stream, rows, to_file=True))
    others = _others(stream, rows)
    most = 0.65 if stream is FLEET else 0.9
    what = f"device bytes, {stream.name}: journal in a table"
    yield Figure(what, table, "B/sample", beside=others)
    yield Figure("  in a file", file, "B/sample", beside=others)
    if other := others.get("Prometheus"):
        yield Figure("  table / Prometheus", table / other, "", most)
        yield Figure("  file / Prometheus", file / other, "", 0.3)


def _others(stream: Stream, rows: Sequence[Row]) -> dict[str, float]:
    found = {}
    if prometheus.there():
        found["Prometheus"] = beside(stream, rows)
    if influx.there():
        found["InfluxDB"] = influxdb(stream, rows)
    return found


if __name__ == "__main__":
    show(measure())
