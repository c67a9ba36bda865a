"""The alert engine: a sink that evaluates rules on polls and posts notifications to hooks."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from meterd.alerts import undelivered
from meterd.alerts.hooks.notification import Hook, Notification
from meterd.alerts.rule import Rule
from meterd.alerts.rule_states import RuleStates
from meterd.alerts.silences import Ack, ActiveSilences, Silence
from meterd.errors import ConfigError
from meterd.model.alert import Alert, AlertState
from meterd.model.clock import Clock
from meterd.model.sample import Poll

log = logging.getLogger(__name__)

# Seconds between checks of elapsed `for` and `clear_for` without a poll.
TICK_S = 1.0

_NOTIFIED_STATES = (AlertState.FIRING, AlertState.RESOLVED)


class Alerts:
    """Rule states, acknowledgements and silences of a site; `take` never waits.

    The caller starts and closes the hooks. `labels` are the devices' labels by device id.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        hooks: Mapping[str, Hook],
        *,
        clock: Clock,
        site: str = "",
        labels: Mapping[str, Mapping[str, str]] | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        rules = tuple(rules)
        _check_hooks(rules, hooks)
        self._rules = RuleStates(rules, new_id=new_id) if new_id else RuleStates(rules)
        self._rules_by_name = {rule.name: rule for rule in rules}
        self._hooks = hooks
        self._clock = clock
        self._site = site
        self._labels = labels or {}
        self._silences = ActiveSilences(new_id) if new_id else ActiveSilences()
        self._acks: dict[str, Ack] = {}
        # Ids of alerts that fired under a silence: no hook was notified.
        self._suppressed: set[str] = set()
        # Incremented with each change of what `snapshot` returns.
        self.version = 0

    @property
    def rule_names(self) -> list[str]:
        """The names of all rules, meterd's own among them."""
        return list(self._rules_by_name)

    def take(self, poll: Poll) -> None:
        self._notify_changes(self._rules.take(poll, self._clock.monotonic()))

    async def run(self) -> None:
        """Calls `tick` every TICK_S seconds; never returns."""
        while True:
            await self._clock.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """State changes by time alone; notifies of alerts whose silence has ended."""
        now = self._clock.now_ms()
        self._notify_changes(self._rules.tick(self._clock.monotonic(), now))
        if self._silences.prune(now):
            self.version += 1
        for alert in self.active() if self._suppressed else ():
            if alert.id in self._suppressed and self._is_due(alert, now):
                self._suppressed.discard(alert.id)
                self._notify(alert, self._rules_by_name[alert.rule])
                self.version += 1

    def _is_due(self, alert: Alert, now: int) -> bool:
        """Whether a suppressed alert still fires, unacknowledged and no longer silenced."""
        is_open = alert.state is AlertState.FIRING and alert.id not in self._acks
        return is_open and not self._silences.covers(alert, now)

    # -- acknowledgements and silences ---------------------------------------------------------

    def ack(self, alert: str, by: str, comment: str) -> Ack:
        """Acknowledges an alert by its id. Raises LookupError where there is none."""
        alerts = {active.id: active for active in self.active()}
        if alert not in alerts:
            raise LookupError(alert)
        ack = Ack(alert, by, comment, self._clock.now_ms())
        self._acks = {key: old for key, old in self._acks.items() if key in alerts} | {alert: ack}
        self.version += 1
        return ack

    def ack_of(self, alert: str) -> Ack | None:
        return self._acks.get(alert)

    def silence(self, silence: Silence) -> Silence:
        """Adds a silence under a new id. Raises ValueError at MAX_SILENCES."""
        created = replace(silence, id=self._silences.next_id())
        self._silences.add(created)
        self.version += 1
        return created

    def unsilence(self, silence: str) -> bool:
        """Removes a silence before its end; False where there is none of that id."""
        was_active = self._silences.remove(silence)
        self.version += was_active
        return was_active

    def silences(self) -> list[Silence]:
        """The silences that have not ended, ordered by their end."""
        return self._silences.listed()

    def silenced_by(self, alert: Alert) -> list[str]:
        """The ids of the silences that cover the alert now."""
        return self._silences.covering(alert, self._clock.now_ms())

    # -- state across a restart ----------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        """Whether any alert is pending: its age in `snapshot` changes with time."""
        return any(alert.state is AlertState.PENDING for alert in self.active())

    @property
    def undelivered_count(self) -> int:
        """Notifications not yet delivered, over all hooks."""
        return undelivered.count(self._hooks)

    def snapshot_resolved(self) -> list[dict[str, Any]]:
        """The recently resolved alerts, JSON-serialisable."""
        return self._rules.snapshot_resolved(self._clock.monotonic())

    def snapshot(self) -> dict[str, Any]:
        """All other state that outlives the process, JSON-serialisable."""
        return {
            "alerts": self._rules.snapshot(self._clock.monotonic()),
            "acks": [asdict(ack) for ack in self._acks.values()],
            "silences": [asdict(silence) for silence in self.silences()],
            "untold": sorted(self._suppressed),
            "owed": undelivered.snapshot(self._hooks),
        }

    def restore(self, saved: Mapping[str, Any], past: Iterable[Mapping[str, Any]] = ()) -> None:
        """Restores the state of `snapshot` and `snapshot_resolved` (`past`).

        Raises ValueError, TypeError or KeyError for other data.
        """
        acks = [Ack(**fields) for fields in saved["acks"]]
        silences = [Silence(**fields) for fields in saved["silences"]]
        notices_by_hook = undelivered.restore(saved.get("owed", {}))  # older snapshots have none
        self._rules.restore([*past, *saved["alerts"]], self._clock.monotonic())
        self._acks = {ack.alert: ack for ack in acks}
        self._silences.restore(silences)
        self._suppressed = set(saved["untold"])
        for name, notices in notices_by_hook.items():
            for notice in notices if name in self._hooks else ():
                self._hooks[name].post(notice)

    def active(self) -> list[Alert]:
        """Pending, firing and just resolved alerts, newest first."""
        return self._rules.active()

    def text_of(self, alert: Alert) -> str:
        """The alert's message: the rule's `text`, else the quantity and its value."""
        rule = self._rules_by_name.get(alert.rule)
        return (rule.text if rule is not None else "") or _default_text(alert)

    def replace(
        self,
        rules: Iterable[Rule],
        hooks: Mapping[str, Hook],
        *,
        site: str = "",
        labels: Mapping[str, Mapping[str, str]] | None = None,
        devices: Collection[str] | None = None,
    ) -> None:
        """Replaces rules, hooks and labels on a reload (see RuleStates.replace for the alerts).

        Raises ConfigError before anything changes. Resolved notifications and those that the old
        hooks have not delivered go to the new hooks of the same name: start the new hooks before
        this call, close the old ones after it.
        """
        rules = tuple(rules)
        _check_hooks(rules, hooks)
        changes = self._rules.replace(rules, self._clock.monotonic(), self._clock.now_ms(), devices)
        undelivered.hand_over(self._hooks, hooks)
        self._hooks, self._site, self._labels = hooks, site, labels or {}
        self._notify_changes(changes)
        self._rules_by_name = {rule.name: rule for rule in rules}

    @staticmethod
    def check(rules: Iterable[Rule], hooks: Collection[str]) -> None:
        """Raises ConfigError where `replace` would."""
        rules = tuple(rules)
        _check_hooks(rules, hooks)
        RuleStates(rules)

    def rename(self, old: str, new: str) -> None:
        """Renames a device in its alerts, silences and labels."""
        self._rules_by_name = self._rules.rename(old, new)
        self._silences.rename(old, new)
        self._labels = {
            new if name == old else name: labels for name, labels in self._labels.items()
        }
        self.version += 1

    def _notify_changes(self, changes: Iterable[Alert]) -> None:
        for alert in changes:
            self.version += 1
            if alert.state in _NOTIFIED_STATES and self._may_notify(alert):
                self._notify(alert, self._rules_by_name[alert.rule])

    def _may_notify(self, alert: Alert) -> bool:
        """Whether hooks are notified: not of a silenced alert, nor of its resolution."""
        if alert.state is AlertState.RESOLVED:
            was_notified = alert.id not in self._suppressed
            self._suppressed.discard(alert.id)
            return was_notified
        if not (silenced := self._silences.covering(alert, self._clock.now_ms())):
            return True
        log.info("alert %s on %s is silenced by %s", alert.rule, alert.device, silenced[0])
        self._suppressed.add(alert.id)
        return False

    def _notify(self, alert: Alert, rule: Rule) -> None:
        text = self.text_of(alert)
        log.warning("alert %s %s on %s: %s", alert.rule, alert.state, alert.device, text)
        notice = Notification(alert, self._site, text, self._labels.get(alert.device, {}))
        for name in rule.notify:
            if (hook := self._hooks.get(name)) is not None:
                hook.post(notice)


def _default_text(alert: Alert) -> str:
    value = "unknown" if alert.value is None else f"{alert.value:g}"
    unit = "" if alert.unit == "1" else f" {alert.unit}"
    return f"{alert.quantity} is {value}{unit}"


def _check_hooks(rules: Iterable[Rule], hooks: Collection[str]) -> None:
    for rule in rules:
        for name in rule.notify:
            if name not in hooks:
                names = ", ".join(sorted(hooks)) or "none"
                raise ConfigError(f"rule {rule.name} notifies {name}, but the hooks are {names}")
