"""Meterds of one cluster, as tests drive them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from meterd.store.cluster.leases import Leases
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.store.rigs import METER, NEVER, Hands, opened, poll

PERIOD = 10.0  # seconds; beats come when the test says so


@dataclass(slots=True)
class One:
    """One meterd of the cluster."""

    leases: Leases
    writer: Writer
    reader: Reader

    async def beat(self, *wanted: str) -> frozenset[str]:
        await self.leases.beat(wanted)
        return self.leases.held

    async def turn(self, *wanted: str) -> frozenset[str]:
        """A beat, and what is too much is handed over."""
        await self.leases.beat(wanted)
        await self.leases.hand_over()
        return self.leases.held

    def take(self, device: str, times: range) -> None:
        for time in times:
            values = (float(time), -float(time), time * 10.0)
            self.writer.take(poll(time, *values, device=device, layout=METER))

    async def tell(self, device: str, times: range) -> None:
        self.take(device, times)
        await self.writer.flush()

    async def sees(self, device: str) -> list[int]:
        """The times of the voltage that readers of this meterd are told."""
        found = await self.reader.range([device], ["voltage.l1"], 0, 1 << 50, 0, "avg")
        return [time for time, _ in found[0].points] if found else []


@asynccontextmanager
async def meterd(
    urls: list[str], name: str, hands: Hands | None = None, **more: object
) -> AsyncIterator[One]:
    # On a cluster of databases each prefers another node.
    turn = ord(name) % len(urls)
    urls = [*urls[turn:], *urls[:turn]]
    leases = Leases(urls, name=name, period=PERIOD)
    writer = Writer(urls, commit=NEVER, share=leases.share, clock=hands, **more)  # type: ignore[arg-type]
    reader = Reader(urls, writer.memory)
    try:
        async with opened(writer):
            yield One(leases, writer, reader)
    finally:
        reader.close()
    await leases.close()
