"""Unlocking a meter: the writes of its map, sent before it is read, where its device allows it."""

from collections.abc import Sequence

from meterd.drivers.registers import WakeWrite
from meterd.errors import DeviceError
from meterd.model.event import EventKind, Notice
from meterd.wire.link import Link
from meterd.wire.write import write

_NEVER = -1


class Unlocking:
    """Of one meter. Each connection begins with the writes; a refused read sends them once more."""

    __slots__ = ("_epoch", "_link", "_notices", "_told", "_tried", "_unit", "_writes")

    def __init__(
        self, link: Link, unit: int, writes: Sequence[WakeWrite], notices: list[Notice]
    ) -> None:
        """`writes` is empty where there is nothing to send, or it is not allowed."""
        self._link = link
        self._unit = unit
        self._writes = writes
        self._notices = notices
        self._epoch = _NEVER
        self._tried = False
        self._told = False

    async def begin(self) -> None:
        """At the beginning of a poll: after the link was opened, unlock. Raises LinkError."""
        self._tried = False
        if not self._writes:
            return
        # A link that is closed after each poll is not open yet though its epoch is the last one.
        if self._epoch != self._link.epoch or not getattr(self._link, "is_open", True):
            await self._send()

    async def again(self) -> bool:
        """After a read was refused: whether the meter was unlocked anew, once in each poll."""
        if not self._writes or self._tried:
            return False
        self._tried = True
        return await self._send()

    async def _send(self) -> bool:
        """A no is told once, until it is taken again: the meter may be readable all the same."""
        try:
            for one in self._writes:
                await write(self._link, self._unit, one.function, one.address, one.values)
        except DeviceError as error:
            if not self._told:
                text = f"the meter refuses to be unlocked at register {one.address}: {error}"
                self._notices.append(
                    Notice(EventKind.WAKE_REFUSED, text, {"register": one.address})
                )
            self._told = True
            # The link is open now: at its next opening it is tried again.
            self._epoch = self._link.epoch
            return False
        self._told = False
        self._epoch = self._link.epoch
        return True
