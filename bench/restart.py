"""The start after kill -9: CPU time of a daemon until it listens, by what its WAL holds."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench import house, peer
from bench.report import Figure, show
from meterd.model.sample import Poll
from meterd.store.writer import Writer

DEVICES = 100
MINUTES = 55
_STEP = 10  # seconds
_METERD = str(Path(sys.executable).with_name("meterd"))
_DEVICE = (
    '  m-{number:03}: {{driver: modbus, map: eastron_sdm630, link: "tcp://127.0.0.1:{port}", '
    "interval: 10s, enabled: false}}\n"
)


def _fill(path: Path, minutes: float) -> None:
    """Forty series of each device, of this hour; the process ends without closing the store."""
    if (child := os.fork()) == 0:
        asyncio.run(_write(path, minutes))
        os._exit(0)
    os.waitpid(child, 0)


async def _write(path: Path, minutes: float) -> None:
    writer = Writer(f"sqlite:///{path}", commit=1e9)
    await writer.open()
    start = int(time.time()) // 3600 * 3600 * 1000
    for number in range(int(minutes * 60 / _STEP)):
        now = start + number * _STEP * 1000
        for device in range(DEVICES):
            values = tuple((number * 7 + device + place) % 5000 / 10 for place in range(40))
            writer.take(Poll(f"m-{device:03}", now + device, house.LAYOUT, values))
        if number % 3 == 2:
            await writer.flush()
    await writer.flush()


def _started(folder: Path, store: Path) -> tuple[float, float]:
    """CPU seconds until it listens, and three seconds later, when the WAL is replayed."""
    (port,) = peer.ports(1)
    config = folder / "meterd.yaml"
    listed = "".join(_DEVICE.format(number=n, port=20_000 + n) for n in range(DEVICES))
    config.write_text(
        f'devices:\n{listed}store: {{url: "sqlite:///{store}"}}\n'
        f'api: {{listen: "127.0.0.1:{port}"}}\n'
    )
    command = [_METERD, "run", "-c", str(config)]
    with peer.running(command, port, "/healthz") as daemon:
        listening = daemon.cpu()
        time.sleep(3)
        return listening, daemon.cpu()


def measure() -> list[Figure]:
    figures: list[Figure] = []
    for minutes in (0.0, MINUTES):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            store = folder / "meterd.db"
            _fill(store, minutes)
            if not minutes:
                _started(folder, store)  # which makes the bytecode
            listening, settled = _started(folder, store)
        what = f"{DEVICES} devices, {minutes:.0f} min unsealed: CPU"
        figures.append(Figure(f"{what} until it answers", listening, "s"))
        figures.append(Figure(f"{what} 3 s later, WAL replayed", settled, "s"))
    return figures


def main() -> None:
    show(measure())


if __name__ == "__main__":
    main()
