"""The state of one alert from pending to resolved, and its snapshot for a restart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meterd.alerts.rule import Rule
from meterd.model.alert import Alert, AlertState


@dataclass(slots=True)
class ActiveAlert:
    """A rule whose condition holds, or held until lately, on one device.

    `since` and `updated` are Unix ms. `active_at`, `state_changed_at` and `cleared_at` (None
    while the condition holds) are monotonic seconds. `value_known` is False while the quantity
    has no trusted value: the state stays as it is.
    """

    rule: Rule
    id: str
    device: str
    unit: str
    value: float
    since: int
    updated: int
    active_at: float
    state_changed_at: float
    state: AlertState = AlertState.PENDING
    value_known: bool = True
    cleared_at: float | None = None

    def hold_elapsed(self, now: float) -> bool:
        """Whether a pending alert has held for the rule's `for`."""
        is_pending = self.state is AlertState.PENDING
        return is_pending and self.value_known and now - self.active_at >= self.rule.hold

    def clear_elapsed(self, now: float) -> bool:
        """Whether a firing alert has been clear for the rule's `clear_for`."""
        cleared_at = (
            self.cleared_at if self.value_known and self.state is AlertState.FIRING else None
        )
        return cleared_at is not None and now - cleared_at >= self.rule.clear_hold

    def transition(self, state: AlertState, now: float, now_ms: int) -> Alert:
        self.state, self.state_changed_at, self.updated = state, now, now_ms
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

    def snapshot(self, now: float) -> dict[str, Any]:
        """A JSON-serialisable dict; monotonic times become ages, as that clock restarts."""
        return {
            "rule": self.rule.name,
            "condition": list(self.rule.condition),
            "id": self.id,
            "device": self.device,
            "unit": self.unit,
            "value": self.value,
            "since": self.since,
            "updated": self.updated,
            "held": now - self.active_at,
            "settled": now - self.state_changed_at,
            "clear": None if self.cleared_at is None else now - self.cleared_at,
            "state": str(self.state),
        }


def restore_alert(saved: Mapping[str, Any], rule: Rule, now: float) -> ActiveAlert:
    """The alert of a snapshot; its value is unknown until the next poll.

    Raises ValueError, TypeError or KeyError for any other data.
    """
    clear = saved.get("clear")  # snapshots before `clear_for` have none
    return ActiveAlert(
        rule=rule,
        id=str(saved["id"]),
        device=str(saved["device"]),
        unit=str(saved["unit"]),
        value=float(saved["value"]),
        since=int(saved["since"]),
        updated=int(saved["updated"]),
        active_at=now - max(0.0, float(saved["held"])),
        state_changed_at=now - max(0.0, float(saved["settled"])),
        state=AlertState(saved["state"]),
        value_known=False,
        cleared_at=None if clear is None else now - max(0.0, float(clear)),
    )
