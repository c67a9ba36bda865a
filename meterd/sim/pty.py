"""A serial port on a pseudo terminal, which can be removed and return like a USB adapter."""

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path

from meterd.errors import ConfigError

_READ_BYTES = 4096


class PtyPort:
    """The device's end of a pseudo terminal in raw mode.

    `receive` is called with the bytes that the client writes. `link_path` is a symbolic link to
    the port, as udev makes below /dev/serial/by-id: the port's own name may change when it
    returns. The client's end is held open, too, so that clients can close and open it again.
    """

    def __init__(self, receive: Callable[[bytes], None], link_path: Path | None = None) -> None:
        self._receive = receive
        self._link = link_path
        self._master = self._slave = -1
        self._return_timer: asyncio.TimerHandle | None = None
        self.path = ""

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    @property
    def name(self) -> str:
        """The path for a client to open."""
        return str(self._link) if self._link else self.path

    def open(self) -> None:
        """Open the pty and make the link. Raises ConfigError where its path is no link."""
        if self._link is not None and self._link.exists() and not self._link.is_symlink():
            raise ConfigError(f"{self._link} is there already and no link; choose another path")
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        if self._link is not None:
            self._make_link(self._link)
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def _make_link(self, link: Path) -> None:
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
        """Remove the port: clients get a hang-up."""
        if self._return_timer is not None:
            self._return_timer.cancel()
            self._return_timer = None
        if not self.plugged:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def unplug(self, seconds: float) -> None:
        """Remove the port; it returns after `seconds`, perhaps under another name."""
        self.close()
        self._return_timer = asyncio.get_running_loop().call_later(seconds, self.open)

    def write(self, data: bytes) -> None:
        """Send to the client. Bytes beyond the pty's buffer are lost, as on a serial line."""
        if self.plugged:
            try:
                os.write(self._master, data)
            except BlockingIOError:
                return

    def _readable(self) -> None:
        try:
            data = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return
        self._receive(data)
