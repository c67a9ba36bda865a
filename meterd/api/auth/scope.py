"""What somebody may do, and who it is."""

from dataclasses import dataclass

SCOPES = ("read", "admin", "command")
"""Look; acknowledge, silence and correct; send commands to devices. All may read."""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who logged in; `name` is "" for one who did not have to."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        return scope in ("open", "read") or scope in self.scopes


LOCAL = Who("", frozenset({"admin"}))
"""On this machine, where no login is asked: everything but commands to devices."""

ANYBODY = Who("", frozenset())
"""On a network that was declared to be trusted: only looking."""
