"""A serial port of our own: a pty whose other end anybody may open, and that can be pulled out."""

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path

from meterd.errors import ConfigError

_CHUNK = 4096


class PtyPort:
    """The device's end of a pseudo terminal in raw mode.

    `receive` gets what the client writes. With `link_path` a symbolic link to the port is kept
    there, as udev does below /dev/serial/by-id: the port's own name may change when it comes
    back. We hold the client's end open as well, so that a client may come and go.
    """

    def __init__(self, receive: Callable[[bytes], None], link_path: Path | None = None) -> None:
        self._receive = receive
        self._link = link_path
        self._master = self._slave = -1
        self._return: asyncio.TimerHandle | None = None
        self.path = ""

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    @property
    def name(self) -> str:
        """What a client should open."""
        return str(self._link) if self._link else self.path

    def open(self) -> None:
        """Raises ConfigError where the link's place is taken by something else."""
        if self._link is not None and self._link.exists() and not self._link.is_symlink():
            raise ConfigError(f"{self._link} is there already and no link; choose another path")
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        if self._link is not None:
            self._point(self._link)
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def _point(self, link: Path) -> None:
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
        except OSError as error:
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            text = f"{link} cannot be made a link: {error.strerror}; choose another path"
            raise ConfigError(text) from error

    def close(self) -> None:
        """The port is gone: clients see a hang-up."""
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if not self.plugged:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def unplug(self, seconds: float) -> None:
        """Gone now, back after `seconds`, perhaps under another name."""
        self.close()
        self._return = asyncio.get_running_loop().call_later(seconds, self.open)

    def write(self, data: bytes) -> None:
        """To the client. What does not fit is lost, as on a line where nobody listens."""
        if self.plugged:
            try:
                os.write(self._master, data)
            except BlockingIOError:
                return

    def _readable(self) -> None:
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        self._receive(data)
