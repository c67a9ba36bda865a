"""Alerts: the state of a rule on a device, as hooks and the API get it."""

from dataclasses import dataclass
from enum import StrEnum


class AlertState(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule on one device; times are Unix ms UTC, `id` is the same from firing to resolved."""

    id: str
    rule: str
    device: str
    quantity: str
    state: AlertState
    severity: str
    value: float | None
    unit: str
    since: int
    updated: int
