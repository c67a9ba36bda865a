"""The state machine of rules: inactive → pending → firing → resolved. Pure: times are arguments.

Durations are measured on the monotonic clock, so a clock step does not affect them; timestamps
are Unix ms UTC. A missing or untrusted value changes no state and fires no pending alert.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from meterd.alerts.active_alert import ActiveAlert, restore_alert
from meterd.alerts.rule import Rule
from meterd.alerts.silences import new_uuid
from meterd.errors import ConfigError
from meterd.model.alert import Alert, AlertState
from meterd.model.sample import Poll, Quality

# How long, and how many, resolved alerts stay in `active`.
RESOLVED_KEEP_S = 15 * 60.0
RESOLVED_KEEP_MAX = 1000

_TRUSTED_QUALITIES = (Quality.GOOD, Quality.ESTIMATED)


class RuleStates:
    """The state of every rule on every device.

    `Alert.since` is the time of the first poll at which the condition held, `updated` that of the
    last value or state change. A pending alert whose condition ends becomes `inactive`.
    """

    def __init__(self, rules: Iterable[Rule], *, new_id: Callable[[], str] = new_uuid) -> None:
        self._rules = _by_name(rules)
        self._new_id = new_id
        self._active: dict[tuple[str, str], ActiveAlert] = {}
        self._resolved: deque[ActiveAlert] = deque(maxlen=RESOLVED_KEEP_MAX)
        self._rules_by_device: dict[str, tuple[Rule, ...]] = {}

    def take(self, poll: Poll, now: float) -> list[Alert]:
        """Evaluates the rules on a poll received at `now` (monotonic s); returns state changes."""
        changes: list[Alert] = []
        for rule in self._rules_for(poll.device):
            column = poll.layout.index.get(rule.quantity)
            if column is None and poll.up:
                continue  # not part of each poll: its last value is still valid
            value = _trusted_value(poll, column)
            if column is None or value is None:
                self._mark_unknown(rule, poll.device)
            else:
                unit = poll.layout.units[column]
                changes += self._evaluate(rule, poll, value, unit, now)
        return changes

    def tick(self, now: float, now_ms: int) -> list[Alert]:
        """State changes by time alone: elapsed `for` and `clear_for`; forgets old resolved ones."""
        while self._resolved and now - self._resolved[0].state_changed_at > RESOLVED_KEEP_S:
            self._resolved.popleft()
        cleared = [key for key, alert in self._active.items() if alert.clear_elapsed(now)]
        ended = [self._end(key, now, now_ms) for key in cleared]
        firing = [alert for alert in self._active.values() if alert.hold_elapsed(now)]
        return ended + [alert.transition(AlertState.FIRING, now, now_ms) for alert in firing]

    def active(self) -> list[Alert]:
        """Pending, firing, and recently resolved alerts, the latest state change first."""
        alerts = sorted(
            (*self._resolved, *self._active.values()),
            key=lambda active: active.state_changed_at,
            reverse=True,
        )
        return [active.alert() for active in alerts]

    def replace(
        self,
        rules: Iterable[Rule],
        now: float,
        now_ms: int,
        devices: Collection[str] | None = None,
    ) -> list[Alert]:
        """Replaces the rules on a reload; `devices` are those that still exist (None: any).

        A rule with the same condition keeps its alerts. Alerts without their rule or device end:
        firing ones are resolved, since a notified receiver waits for that; pending ones become
        inactive.
        """
        self._rules = _by_name(rules)
        self._rules_by_device.clear()
        changes = []
        for key, alert in list(self._active.items()):
            rule = self._rules.get(alert.rule.name)
            gone = devices is not None and alert.device not in devices
            same = rule is not None and rule.condition == alert.rule.condition
            if rule is not None and same and not gone and rule.watches(alert.device):
                alert.rule = rule
            else:
                changes.append(self._end(key, now, now_ms))
        return changes

    def rename(self, old: str, new: str) -> dict[str, Rule]:
        """Renames a device in rules and alerts; returns the rules by name."""
        self._rules = {
            name: rule.with_renamed_device(old, new) for name, rule in self._rules.items()
        }
        self._rules_by_device.clear()
        for alert in (*self._resolved, *self._active.values()):
            alert.rule = self._rules.get(alert.rule.name, alert.rule)
            if alert.device == old:
                alert.device = new
        self._active = {(alert.rule.name, alert.device): alert for alert in self._active.values()}
        return dict(self._rules)

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """Pending and firing alerts, JSON-serialisable, for `restore` after a restart."""
        return [alert.snapshot(now) for alert in self._active.values()]

    def snapshot_resolved(self, now: float) -> list[dict[str, Any]]:
        """The same for recently resolved alerts, at most RESOLVED_KEEP_MAX."""
        return [alert.snapshot(now) for alert in self._resolved]

    def restore(self, saved: Iterable[Mapping[str, Any]], now: float) -> None:
        """Restores alerts from snapshots, except those whose rule is gone or has changed.

        Raises ValueError, TypeError or KeyError for other data, and then changes nothing.
        """
        alerts = []
        for snapshot in saved:
            rule = self._rules.get(str(snapshot["rule"]))
            same = rule is not None and list(rule.condition) == snapshot["condition"]
            if rule is not None and same and rule.watches(str(snapshot["device"])):
                alerts.append(restore_alert(snapshot, rule, now))
        for alert in alerts:
            if alert.state is AlertState.RESOLVED:
                self._resolved.append(alert)
            else:
                self._active[alert.rule.name, alert.device] = alert

    def _rules_for(self, device: str) -> tuple[Rule, ...]:
        rules = self._rules_by_device.get(device)
        if rules is None:
            rules = tuple(rule for rule in self._rules.values() if rule.watches(device))
            self._rules_by_device[device] = rules
        return rules

    def _mark_unknown(self, rule: Rule, device: str) -> None:
        alert = self._active.get((rule.name, device))
        if alert is not None:
            alert.value_known = False

    def _evaluate(
        self, rule: Rule, poll: Poll, value: float, unit: str, now: float
    ) -> Iterable[Alert]:
        key = (rule.name, poll.device)
        alert = self._active.get(key)
        if alert is None:
            return self._begin(rule, poll, value, unit, now) if rule.holds(value) else ()
        alert.value, alert.updated, alert.value_known = value, poll.time, True
        if alert.state is AlertState.FIRING:
            if not rule.clears(value):
                alert.cleared_at = None
            elif alert.cleared_at is None:
                alert.cleared_at = now
            return (self._end(key, now, poll.time),) if alert.clear_elapsed(now) else ()
        if not rule.holds(value):
            return (self._end(key, now, poll.time),)
        return (
            (alert.transition(AlertState.FIRING, now, poll.time),)
            if alert.hold_elapsed(now)
            else ()
        )

    def _begin(
        self, rule: Rule, poll: Poll, value: float, unit: str, now: float
    ) -> tuple[Alert, ...]:
        alert = ActiveAlert(
            rule, self._new_id(), poll.device, unit, value, poll.time, poll.time, now, now
        )
        self._active[rule.name, poll.device] = alert
        if alert.hold_elapsed(now):
            return (alert.transition(AlertState.FIRING, now, poll.time),)
        return (alert.alert(),)

    def _end(self, key: tuple[str, str], now: float, now_ms: int) -> Alert:
        alert = self._active.pop(key)
        if alert.state is not AlertState.FIRING:
            return alert.transition(AlertState.INACTIVE, now, now_ms)
        self._resolved.append(alert)
        return alert.transition(AlertState.RESOLVED, now, now_ms)


def _by_name(rules: Iterable[Rule]) -> dict[str, Rule]:
    rules_by_name: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in rules_by_name:
            raise ConfigError(f"rule {rule.name} is there twice: give each its own name")
        rules_by_name[rule.name] = rule
    return rules_by_name


def _trusted_value(poll: Poll, column: int | None) -> float | None:
    """The value if it is finite and of good or estimated quality, else None."""
    value = None if column is None else poll.values[column]
    if column is None or value is None or not math.isfinite(value):
        return None
    doubt = poll.doubts.get(column)
    return value if doubt is None or doubt.quality in _TRUSTED_QUALITIES else None
