"""A site that runs in the test's own event loop: links, drivers, polls, store and events."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from meterd.model.sample import Poll

if TYPE_CHECKING:
    from meterd.daemon.site import Site
    from meterd.model.event import Event

# Seconds that a test waits for a poll; only ever reached where none comes.
PATIENCE_S = 30.0
# Polls of a device that nobody asked for, the newest of them.
_WAITING_POLLS = 1000
_END_MS = 1 << 50  # later than any poll, as Unix milliseconds


class RunningSite:
    """What a test asks of a running site. `site` is the daemon's own object, and no public one."""

    def __init__(self, site: "Site") -> None:
        self.site = site
        self._polls: dict[str, deque[Poll]] = {}
        self._arrived = asyncio.Event()

    def take(self, poll: Poll) -> None:
        """A poll was made."""
        self._polls.setdefault(poll.device, deque(maxlen=_WAITING_POLLS)).append(poll)
        self._arrived.set()

    async def poll(self, device: str, *, patience: float = PATIENCE_S) -> Poll:
        """The next poll of a device, good or failed: the first, then the second, and so on.

        Raises AssertionError where there is none within `patience` seconds.
        """
        try:
            async with asyncio.timeout(patience):
                while not self._polls.get(device):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError as error:
            devices = ", ".join(self.site.settings.devices)
            text = f"{device} was not polled within {patience:g} s; devices: {devices}"
            raise AssertionError(text) from error
        return self._polls[device].popleft()

    @property
    def events(self) -> "Sequence[Event]":
        """What was noticed so far, oldest first: what a driver gives that cannot be kept, too."""
        return self.site.events()[::-1]

    async def command(self, device: str, command: str) -> None:
        """As a client of the API would send it.

        Raises LookupError where the driver has no such command, LinkError, DeviceError.
        """
        await self.site.command(device, command)

    async def stored(self, device: str, quantity: str) -> list[float | None]:
        """All values of a series, oldest first, whether they are committed or not."""
        reader = self.site.reader

        def read() -> list[float | None]:
            series = [info for info in reader.names() if (info.device, info.quantity) == name]
            names = [(info.device, info.quantity, info.unit) for info in series]
            return [
                None if math.isnan(value) else float(value)
                for column in reader.columns(names, 0, _END_MS)
                for value in column.values
            ]

        name = (device, quantity)
        return await asyncio.to_thread(read)


@asynccontextmanager
async def running_site(
    text: str, folder: Path, *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[RunningSite]:
    """A site that runs as `text`, a meterd.yaml, says; its store is a new one in `folder`,
    an absolute path.

    There is no API and no signal handler. Raises ConfigError, as `meterd check` would tell it.
    """
    from meterd.config.load import parse
    from meterd.daemon.site import Site
    from meterd.drivers import registry
    from meterd.model.clock import SystemClock

    settings = parse(
        text,
        "meterd.yaml",
        options_of=registry.options_of,
        driver_names=registry.names(),
        environ=environ or {},
        folder=folder,
    )
    # No ballast file: a test's disk is not to be filled.
    here = {"url": f"sqlite:///{folder / 'meterd.db'}", "reserve": 0}
    store = settings.store.model_copy(update=here)
    site = Site(SystemClock())
    running = RunningSite(site)
    leave = site.subscribe(running)
    try:
        await site.apply(settings.model_copy(update={"store": store}))
        yield running
    finally:
        leave()
        await site.close()
