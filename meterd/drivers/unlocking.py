"""Unlocking of meters: sends the writes of a map's `wake`, where the device has `allow_wake`."""

from collections.abc import Sequence

from meterd.drivers.registers import WakeWrite
from meterd.errors import DeviceError
from meterd.model.event import EventKind, Notice
from meterd.wire.link import Link
from meterd.wire.write import write

_NO_EPOCH = -1


class Unlocking:
    """The unlock writes of one meter: sent on each connection, and again after a refused read."""

    __slots__ = ("_epoch", "_link", "_notices", "_reported", "_retried", "_unit", "_writes")

    def __init__(
        self, link: Link, unit: int, writes: Sequence[WakeWrite], notices: list[Notice]
    ) -> None:
        """`writes` is empty where the map has none, or the device does not allow them."""
        self._link = link
        self._unit = unit
        self._writes = writes
        self._notices = notices
        self._epoch = _NO_EPOCH
        self._retried = False
        self._reported = False

    async def begin(self) -> None:
        """Start of a poll: unlock if the link was reopened. Raises LinkError."""
        self._retried = False
        if not self._writes:
            return
        # A link that is closed after each poll is about to be reopened; its epoch is still the old.
        if self._epoch != self._link.epoch or not getattr(self._link, "is_open", True):
            await self._send()

    async def again(self) -> bool:
        """A read was refused: unlock again, once per poll; returns whether that succeeded."""
        if not self._writes or self._retried:
            return False
        self._retried = True
        return await self._send()

    async def _send(self) -> bool:
        """Send all writes; a refusal gives one notice only, as the meter may be readable anyway."""
        try:
            for wake in self._writes:
                await write(self._link, self._unit, wake.function, wake.address, wake.values)
        except DeviceError as error:
            if not self._reported:
                text = f"the meter refuses to be unlocked at register {wake.address}: {error}"
                self._notices.append(
                    Notice(EventKind.WAKE_REFUSED, text, {"register": wake.address})
                )
            self._reported = True
            # Not again on this connection.
            self._epoch = self._link.epoch
            return False
        self._reported = False
        self._epoch = self._link.epoch
        return True
