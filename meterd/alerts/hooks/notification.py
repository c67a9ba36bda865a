"""What a hook is told, and what a hook is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meterd.model.alert import Alert


@dataclass(frozen=True, slots=True)
class Notification:
    """An alert that fires or is resolved, with what people know its site and device by."""

    alert: Alert
    site: str = ""
    text: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for each try to deliver it, so that a receiver can drop a second copy."""
        return f"{self.alert.id}.{self.alert.state}"


class Hook(Protocol):
    """One channel with its own queue."""

    async def start(self) -> None:
        """Begin to deliver."""

    def post(self, notice: Notification) -> None:
        """Take a notice; never waits, never fails."""

    def undelivered(self) -> Sequence[Notification]:
        """What waits, the oldest first; also after it was closed."""

    def forget(self) -> None:
        """Somebody else delivers what waits."""

    async def close(self, grace: float) -> None:
        """Try for `grace` seconds to deliver what is left, then stop."""
