"""Which devices of the settings are polled here, where several meterds share a store."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from meterd.config.cluster import ClusterSettings
from meterd.config.settings import Settings
from meterd.daemon.service import forever
from meterd.errors import DeviceCode
from meterd.model.clock import Clock
from meterd.model.quantity import DEVICE_UP
from meterd.model.sample import Fault, Poll, failed
from meterd.poll.latest import Latest
from meterd.store.cluster.lease_state import LeaseState
from meterd.store.cluster.leases import Leases


class Cluster:
    """The leases of one site; without a `cluster:` section every device is its own."""

    def __init__(
        self,
        wanted: Callable[[], Sequence[str]],
        changed: Callable[[frozenset[str]], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """`changed` gets the devices held, whenever they differ.

        `elsewhere` is what other meterds committed last of the devices that they poll.
        """
        self.elsewhere = Latest()
        self.settings: ClusterSettings | None = None
        self._wanted = wanted
        self._changed = changed
        self._clock = clock
        self._leases: Leases | None = None
        self._task: asyncio.Task[None] | None = None

    def mine(self, settings: Settings) -> Settings:
        """The same with the devices that are polled here.

        None yet where these settings need other leases than those in use.
        """
        wanted, leases = settings.cluster, self._leases
        if wanted is None:
            return settings
        is_ours = leases is not None and leases.is_for(settings.store.url, wanted.name)
        held = leases.held if leases is not None and is_ours else frozenset()
        devices = {name: one for name, one in settings.devices.items() if name in held}
        return settings.model_copy(update={"devices": devices})

    def prepare(self, settings: Settings) -> Leases | None:
        """For `start`, and its share for the writer. Raises StoreError.

        Those in use where they are about the same store under the same name: see `tune`.
        """
        wanted = settings.cluster
        if wanted is None:
            return None
        if self._leases is not None and self._leases.is_for(settings.store.url, wanted.name):
            return self._leases
        return Leases(
            settings.store.url,
            name=wanted.name,
            period=wanted.lease,
            alone=wanted.alone,
            clock=self._clock,
        )

    async def start(self, leases: Leases | None, settings: ClusterSettings | None) -> None:
        """In the place of those before, which are given back."""
        if leases is not None and leases is self._leases:
            self.tune(settings)
            return
        await self.close()
        self.settings = settings
        self._leases = leases
        self.elsewhere.keep_only(())
        if leases is not None:
            leases.heard = self._take_peer_polls
            run = partial(leases.run, self._wanted, self._changed)
            self._task = asyncio.create_task(forever("leases", run))

    def tune(self, settings: ClusterSettings | None) -> None:
        """Other terms of the leases in use."""
        self.settings = settings
        if self._leases is not None and settings is not None:
            self._leases.tune(settings.lease, settings.alone)

    def _take_peer_polls(self, polls: Sequence[Poll]) -> None:
        self.elsewhere.keep_only({poll.device for poll in polls})
        for poll in polls:
            last = self.elsewhere.states[poll.device].last
            if last is not None and poll.time <= last.time:
                continue
            # The store keeps that a device was down, but not why.
            self.elsewhere.take(poll if poll.value(DEVICE_UP) != 0 else _down(poll))

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


def share_of(leases: Leases | None) -> LeaseState | None:
    return None if leases is None else leases.share


def _down(poll: Poll) -> Poll:
    return failed(
        poll.device, poll.time, Fault(str(DeviceCode.ELSEWHERE), "another meterd could not read it")
    )
