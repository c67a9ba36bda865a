"""A made-up site over a real store, for resources that need more of a reader than `range`."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from meterd.model.sample import Doubt, Layout, Poll, Quality
from meterd.store.reader import Reader
from meterd.store.tools.correct import Corrections
from meterd.store.writer import Writer
from tests.api.fake import NOW, FakeSite

HOUR = 3_600_000
LAYOUT = Layout.of([("voltage.l1", "V"), ("active_power", "W"), ("device.up", "1")])


@dataclass
class StoredSite(FakeSite):
    """`writer` has to be flushed by whoever wants a commit."""

    writer: Writer | None = None


@contextlib.asynccontextmanager
async def stored_site(path: Path, hours: int = 2) -> AsyncIterator[StoredSite]:
    """Two devices polled every minute until NOW; each tenth voltage is a null."""
    url = f"sqlite:///{path}"
    writer = Writer(url, commit=1e9)
    await writer.open()
    reader = Reader(url, writer.memory)
    for number in range(hours * 60):
        for device in ("main", "solar"):
            time = NOW - hours * HOUR + number * 60_000
            volts = None if number % 10 == 3 else 230.0 + number / 10
            doubts = {} if volts else {0: Doubt(Quality.INVALID, "not, available")}
            writer.take(Poll(device, time, LAYOUT, (volts, float(number), 1.0), doubts))
    await writer.flush()
    site = StoredSite(corrections=Corrections(writer, reader), writer=writer)
    site.reader = reader  # type: ignore[assignment]
    try:
        yield site
    finally:
        await writer.close()
        reader.close()
