"""What somebody may do, and who it is."""

from collections.abc import Callable
from dataclasses import dataclass, field

SCOPES = ("read", "admin", "command")
"""Look; acknowledge, silence and correct; send commands to devices. All may read."""


@dataclass(frozen=True, slots=True)
class Who:
    """A user who is logged in; `name` is "" for the anonymous one.

    `is_welcome` tells at any later time whether that still holds: an answer may take hours.
    """

    name: str
    scopes: frozenset[str]
    is_welcome: Callable[[], bool] = field(default=lambda: True, compare=False, repr=False)

    def may(self, scope: str) -> bool:
        return scope in ("open", "read") or scope in self.scopes


LOCAL = Who("", frozenset({"admin"}))
"""On this machine, where no login is asked: everything but commands to devices."""

ANYBODY = Who("", frozenset())
"""On a network that was declared to be trusted: only looking."""
