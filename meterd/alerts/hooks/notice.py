"""What a hook is told, and what a hook is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from meterd.model.alert import Alert


@dataclass(frozen=True, slots=True)
class Notice:
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

    def post(self, notice: Notice) -> None:
        """Take a notice; never waits, never fails."""

    async def close(self, grace: float) -> None:
        """Try for `grace` seconds to deliver what is left, then stop."""
