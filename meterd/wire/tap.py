"""What a link tells whoever watches it: every byte, and how exchanges fail."""

from typing import Protocol

CANCELLED = "cancelled"


class LinkTap(Protocol):
    """Watches one link. It is called on the event loop while bytes pass, so it must be quick."""

    def sent(self, data: bytes) -> None:
        """A request, just before it is written."""

    def received(self, data: bytes | memoryview) -> None:
        """Bytes as they arrive, also those that the link throws away.

        A memoryview holds them during the call only.
        """

    def closed(self) -> None:
        """The connection ended, and not by the link itself."""

    def failed(self, code: str) -> None:
        """An exchange got no answer: the code of its LinkError, or CANCELLED."""
