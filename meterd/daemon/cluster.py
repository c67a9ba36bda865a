"""Which devices of the settings are polled here, where several meterds share a store."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from meterd.config.cluster import ClusterSettings
from meterd.config.settings import Settings
from meterd.daemon.service import forever
from meterd.model.clock import Clock
from meterd.store.cluster import Leases
from meterd.store.share import Share


class Cluster:
    """The leases of one site; without a `cluster:` section every device is its own."""

    def __init__(
        self,
        wanted: Callable[[], Sequence[str]],
        changed: Callable[[frozenset[str]], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """`changed` is told what is held whenever that differs."""
        self.settings: ClusterSettings | None = None
        self._wanted = wanted
        self._changed = changed
        self._clock = clock
        self._leases: Leases | None = None
        self._task: asyncio.Task[None] | None = None

    def mine(self, settings: Settings) -> Settings:
        """The same with the devices that are polled here."""
        if settings.cluster is None:
            return settings
        held = self._leases.held if self._leases is not None else frozenset()
        devices = {name: one for name, one in settings.devices.items() if name in held}
        return settings.model_copy(update={"devices": devices})

    def prepare(self, settings: Settings) -> Leases | None:
        """For `start`, and its share for the writer. Raises StoreError."""
        wanted = settings.cluster
        if wanted is None:
            return None
        return Leases(
            settings.store.url,
            name=wanted.name,
            period=wanted.lease,
            alone=wanted.alone,
            clock=self._clock,
        )

    async def start(self, leases: Leases | None, settings: ClusterSettings | None) -> None:
        """In the place of those before, which are given back."""
        await self.close()
        self.settings = settings
        self._leases = leases
        if leases is not None:
            run = partial(leases.run, self._wanted, self._changed)
            self._task = asyncio.create_task(forever("leases", run))

    async def stop(self) -> None:
        """No lease is renewed or taken from now on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def close(self) -> None:
        """Gives every lease back; the writer is closed already."""
        await self.stop()
        if self._leases is not None:
            await self._leases.close()
            self._leases = None


def share_of(leases: Leases | None) -> Share | None:
    return None if leases is None else leases.share
