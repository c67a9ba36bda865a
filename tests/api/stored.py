"""A made-up site over a real store, for resources that need more of a reader than `range`."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from meterd.daemon.counter_state import CounterState
from meterd.daemon.replacing import Replaced, replace_meter
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.db.replacements import Replacement
from meterd.store.reader import Reader
from meterd.store.tools.correct import Corrections
from meterd.store.writer import Writer
from tests.api.fake import NOW, FakeSite

HOUR = 3_600_000
LAYOUT = Layout.of([("voltage.l1", "V"), ("active_power", "W"), ("device.up", "1")])


@dataclass
class StoredSite(FakeSite):
    """`writer` has to be flushed by whoever wants a commit."""

    url: str = ""
    writer: Writer | None = None

    @property
    def former(self) -> Mapping[str, str]:
        assert self.writer is not None
        return self.writer.memory.catalog.renamed

    async def rename(self, old: str, new: str, who: str = "", *, merge: bool = False) -> None:
        """As the daemon does, without what it polls."""
        assert self.writer is not None
        await self.writer.rename(old, new, who=who, now=NOW)

    async def replace(self, device: str, at: int, who: str = "", *, undo: bool = False) -> Replaced:
        assert self.writer is not None
        reader, still = Reader(self.url, self.writer.memory), contextlib.nullcontext()
        try:
            one = Replacement(at, NOW, who)
            return await replace_meter(
                self.writer, reader, CounterState(), device, one, still=still, undo=undo
            )
        finally:
            reader.close()


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
            doubts = {} if volts else {0: QualityFlag(Quality.INVALID, "not, available")}
            writer.take(Poll(device, time, LAYOUT, (volts, float(number), 1.0), doubts))
    await writer.flush()
    site = StoredSite(corrections=Corrections(writer, reader), writer=writer, url=url)
    site.reader = reader  # type: ignore[assignment]
    try:
        yield site
    finally:
        await writer.close()
        reader.close()
