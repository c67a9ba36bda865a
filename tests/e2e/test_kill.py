"""kill -9 of the whole daemon under load: what it had called stored is stored."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import MeterBank
from meterd.sim.serve import meter_bank
from tests.e2e.running import PATIENCE, Daemon, daemon
from tests.e2e.stored import Sample, shown, stored

KILLS = 3
# Samples that a later commit has confirmed, before each kill.
ENOUGH = 300
DEVICES = 10
MODEL = "eastron_sdm120"
# Seconds from then to the kill, at most; it commits every second.
LONGEST = 1.0
_LOOK = 0.05
COMMITTED = "meterd_store_committed_samples_total"
QUEUED = "meterd_store_queued_samples"
LAST_COMMIT = "meterd_store_last_commit_timestamp_seconds"


@asynccontextmanager
async def served(bank: MeterBank) -> AsyncIterator[str]:
    server = ModbusServer({1: bank})
    await server.start_tcp()
    try:
        yield server.url
    finally:
        await server.stop()


def configure(folder: Path, urls: list[str]) -> Path:
    lines = (
        f'  m{number}: {{driver: modbus, map: {MODEL}, link: "{url}", interval: 100ms}}\n'
        for number, url in enumerate(urls)
    )
    file = folder / "meterd.yaml"
    file.write_text(
        f"devices:\n{''.join(lines)}"
        f'store: {{url: "sqlite:///{folder / "store.db"}", commit: 1s}}\n'
        'api: {listen: "127.0.0.1:0"}\n'
    )
    return file


@dataclass(slots=True)
class Witness:
    """Collects what a daemon shows, and which of it a later commit confirmed."""

    confirmed: dict[Sample, float] = field(default_factory=dict)
    _open: list[tuple[float, float, dict[Sample, float]]] = field(default_factory=list)

    async def watch(self, running: Daemon) -> None:
        """Until cancelled.

        What `latest` shows has been handed to the writer, in order. It is safe after the
        commit with which the count reaches all that was committed or waited at that moment.
        A commit that ends between the two numbers could hide samples: so it is another one.
        """
        while True:
            seen = shown((await running.latest()).values())
            now = await running.metrics()
            committed, last = now[COMMITTED], now.get(LAST_COMMIT, 0.0)
            while self._open and last > self._open[0][0] and committed >= self._open[0][1]:
                self.confirmed |= self._open.pop(0)[2]
            self._open.append((last, committed + now[QUEUED], seen))
            await asyncio.sleep(_LOOK)


async def killed(file: Path, life: float) -> Witness:
    """A daemon's life, for so many seconds after enough was confirmed."""
    witness = Witness()
    async with daemon("run", "-c", file, folder=file.parent) as running:
        await running.ready()
        watching = asyncio.create_task(witness.watch(running))
        async with asyncio.timeout(PATIENCE):
            while len(witness.confirmed) < ENOUGH:
                await asyncio.sleep(_LOOK)
        await asyncio.sleep(life)
        watching.cancel()
        running.signal(signal.SIGKILL)
        await running.process.wait()
        with suppress(asyncio.CancelledError):
            await watching
    return witness


async def test_no_sample_that_was_called_committed_is_lost(tmp_path: Path) -> None:
    moments = random.Random(2)
    confirmed: dict[Sample, float] = {}
    async with AsyncExitStack() as servers:
        bank = meter_bank(MODEL)
        urls = [await servers.enter_async_context(served(bank)) for _ in range(DEVICES)]
        file = configure(tmp_path, urls)
        for _ in range(KILLS):
            witness = await killed(file, moments.uniform(0, LONGEST))
            confirmed |= witness.confirmed
            found = stored(tmp_path / "store.db")
            assert {sample: found.get(sample) for sample in confirmed} == confirmed
    assert {device for device, _, _ in confirmed} == {f"m{number}" for number in range(DEVICES)}
