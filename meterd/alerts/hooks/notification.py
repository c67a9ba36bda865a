"""The Notification that hooks deliver, and the Hook protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meterd.model.alert import Alert


@dataclass(frozen=True, slots=True)
class Notification:
    """A firing or resolved alert, with the site's name, a message and the device's labels."""

    alert: Alert
    site: str = ""
    text: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for each attempt to deliver it, so that a receiver can drop duplicates."""
        return f"{self.alert.id}.{self.alert.state}"


class Hook(Protocol):
    """A notification channel with its own queue."""

    async def start(self) -> None:
        """Starts to deliver."""

    def post(self, notice: Notification) -> None:
        """Queues a notification; never waits, never raises."""

    def undelivered(self) -> Sequence[Notification]:
        """The queue, oldest first; also after `close`."""

    def forget(self) -> None:
        """Empties the queue: another hook delivers it."""

    async def close(self, grace: float) -> None:
        """Tries for at most `grace` seconds to deliver the queue, then stops."""
