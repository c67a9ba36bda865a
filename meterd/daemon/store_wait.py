"""Waits at the start while a tool (import, restore) holds the store's lock."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from meterd.config.settings import Settings
from meterd.daemon.events import EventLog
from meterd.daemon.service import notify
from meterd.errors import StoreCode, StoreError
from meterd.model.clock import Clock
from meterd.model.event import EventKind
from meterd.store.db import store_url
from meterd.store.db.lockfile import Holder, holder_of

LOOK_EVERY = 1.0  # seconds between two looks whether the store is free
_LATE_EVERY = 600.0  # seconds between two lines about a tool that takes longer than it said
# Seconds that systemd waits on for the next sign, each time it is asked to.
_EXTENSION = 60

log = logging.getLogger(__name__)


async def apply_when_free(
    apply: Callable[[], Awaitable[None]], settings: Settings, events: EventLog, clock: Clock
) -> None:
    """Calls `apply` again as long as a tool has the store, which ends by itself.

    Nothing is polled meanwhile: counters go on from what the store knows of them. Raises what
    `apply` raises, StoreError (already_running) where it is a daemon that has the store.
    """
    wait = _Wait(settings, events, clock)
    while True:
        try:
            await apply()
        except StoreError as error:
            if error.code != StoreCode.BUSY:
                raise
            wait.begin(str(error))
        else:
            wait.end()
            return
        await wait.free()


class _Wait:
    def __init__(self, settings: Settings, events: EventLog, clock: Clock) -> None:
        self._path = store_url.find(settings.store.url).path
        self._events = events
        self._clock = clock
        self._began: float | None = None
        self._told_late = 0.0

    def begin(self, text: str) -> None:
        """Once for all the time that it takes."""
        if self._began is None:
            self._began = self._clock.monotonic()
            self._events.note(EventKind.STORE_HELD, f"the start waits: {text}")

    async def free(self) -> None:
        """Returns once no tool holds the lock, or a daemon does."""
        while True:
            notify(f"EXTEND_TIMEOUT_USEC={_EXTENSION * 1_000_000}\nSTATUS=waiting for the store")
            await self._clock.sleep(LOOK_EVERY)
            holder = None if self._path is None else await asyncio.to_thread(holder_of, self._path)
            if holder is None or holder.is_daemon:
                return
            self._complain(holder)

    def _complain(self, holder: Holder) -> None:
        now = self._clock.monotonic()
        if holder.is_late(self._clock.now_ms() / 1000) and now >= self._told_late:
            self._told_late = now + _LATE_EVERY
            log.error("it takes longer than it said: %s; nothing is polled", holder)

    def end(self) -> None:
        if self._began is not None:
            waited = self._clock.monotonic() - self._began
            text = f"the store is free after {waited:.0f} s: polling begins"
            self._events.note(EventKind.STORE_FREE, text, {"seconds": round(waited, 1)})
            notify("STATUS=")
