"""One alert from pending to resolved, and how it outlives a restart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meterd.alerts.rule import Rule
from meterd.model.alert import Alert, AlertState


@dataclass(slots=True)
class ActiveAlert:
    """`began`, `changed` and `cleared` (None while it holds) are monotonic seconds."""

    rule: Rule
    id: str
    device: str
    unit: str
    value: float
    since: int
    updated: int
    began: float
    changed: float
    state: AlertState = AlertState.PENDING
    known: bool = True
    cleared: float | None = None

    def ripe(self, now: float) -> bool:
        pending = self.state is AlertState.PENDING
        return pending and self.known and now - self.began >= self.rule.hold

    def over(self, now: float) -> bool:
        """Whether it fires, and has been clear for long enough."""
        clear = self.cleared if self.known and self.state is AlertState.FIRING else None
        return clear is not None and now - clear >= self.rule.clear_hold

    def become(self, state: AlertState, now: float, now_ms: int) -> Alert:
        self.state, self.changed, self.updated = state, now, now_ms
        return self.alert()

    def alert(self) -> Alert:
        return Alert(
            id=self.id,
            rule=self.rule.name,
            device=self.device,
            quantity=self.rule.quantity,
            state=self.state,
            severity=self.rule.severity,
            value=self.value,
            unit=self.unit,
            since=self.since,
            updated=self.updated,
        )

    def saved(self, now: float) -> dict[str, Any]:
        """As plain data: durations instead of moments of a clock that starts anew."""
        return {
            "rule": self.rule.name,
            "condition": list(self.rule.condition),
            "id": self.id,
            "device": self.device,
            "unit": self.unit,
            "value": self.value,
            "since": self.since,
            "updated": self.updated,
            "held": now - self.began,
            "settled": now - self.changed,
            "clear": None if self.cleared is None else now - self.cleared,
            "state": str(self.state),
        }


def restored(saved: Mapping[str, Any], rule: Rule, now: float) -> ActiveAlert:
    """As it was before the restart; nothing is known of its value until the next poll.

    Raises ValueError, TypeError or KeyError for what is no saved episode.
    """
    clear = saved.get("clear")  # older notes have none
    return ActiveAlert(
        rule=rule,
        id=str(saved["id"]),
        device=str(saved["device"]),
        unit=str(saved["unit"]),
        value=float(saved["value"]),
        since=int(saved["since"]),
        updated=int(saved["updated"]),
        began=now - max(0.0, float(saved["held"])),
        changed=now - max(0.0, float(saved["settled"])),
        state=AlertState(saved["state"]),
        known=False,
        cleared=None if clear is None else now - max(0.0, float(clear)),
    )
