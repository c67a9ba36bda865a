"""The sink that watches rules and tells hooks."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from meterd.alerts import undelivered
from meterd.alerts.hooks.notification import Hook, Notification
from meterd.alerts.rule import Rule
from meterd.alerts.rules import RuleStates
from meterd.alerts.silences import Ack, ActiveSilences, Silence
from meterd.errors import ConfigError
from meterd.model.alert import Alert, AlertState
from meterd.model.clock import Clock
from meterd.model.sample import Poll

log = logging.getLogger(__name__)

# How often `for` is looked at between polls, in seconds.
TICK = 1.0

_TOLD = (AlertState.FIRING, AlertState.RESOLVED)


class Alerts:
    """Takes polls, never waits. Who builds it starts and closes the hooks.

    `labels` are those of the devices, by device.
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
        self._named = {rule.name: rule for rule in rules}
        self._hooks = hooks
        self._clock = clock
        self._site = site
        self._labels = labels or {}
        self._silences = ActiveSilences(new_id) if new_id else ActiveSilences()
        self._acks: dict[str, Ack] = {}
        # Fired while a silence covered them: no hook has heard of them.
        self._untold: set[str] = set()
        # Counts what `saved` would say otherwise than before.
        self.version = 0

    @property
    def rule_names(self) -> list[str]:
        """The rules that are watched, meterd's own among them."""
        return list(self._named)

    def take(self, poll: Poll) -> None:
        self._tell(self._rules.take(poll, self._clock.monotonic()))

    async def run(self) -> None:
        """Looks once a second whether an alert has pended long enough; never returns."""
        while True:
            await self._clock.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """One look at the clock."""
        now = self._clock.now_ms()
        self._tell(self._rules.tick(self._clock.monotonic(), now))
        if self._silences.prune(now):
            self.version += 1
        for alert in self.active() if self._untold else ():
            if alert.id in self._untold and self._is_due(alert, now):
                self._untold.discard(alert.id)
                self._announce(alert, self._named[alert.rule])
                self.version += 1

    def _is_due(self, alert: Alert, now: int) -> bool:
        """Whether its silence is over, and nobody has said that they know."""
        is_open = alert.state is AlertState.FIRING and alert.id not in self._acks
        return is_open and not self._silences.covers(alert, now)

    # -- who knows, and who does not want to ---------------------------------------------------

    def ack(self, alert: str, by: str, comment: str) -> Ack:
        """Somebody knows of it. Raises LookupError where there is no such alert any more."""
        known = {one.id: one for one in self.active()}
        if alert not in known:
            raise LookupError(alert)
        ack = Ack(alert, by, comment, self._clock.now_ms())
        self._acks = {key: one for key, one in self._acks.items() if key in known} | {alert: ack}
        self.version += 1
        return ack

    def ack_of(self, alert: str) -> Ack | None:
        return self._acks.get(alert)

    def silence(self, silence: Silence) -> Silence:
        """From now on; its id is given here. Raises ValueError where there are too many."""
        made = replace(silence, id=self._silences.next_id())
        self._silences.add(made)
        self.version += 1
        return made

    def unsilence(self, silence: str) -> bool:
        """End it early; False where there is none of that id."""
        found = self._silences.remove(silence)
        self.version += found
        return found

    def silences(self) -> list[Silence]:
        """Those that are not over; the first to end comes first."""
        return self._silences.listed()

    def silenced_by(self, alert: Alert) -> list[str]:
        """The ids of the silences that cover it now."""
        return self._silences.covering(alert, self._clock.now_ms())

    # -- over a restart ------------------------------------------------------------------------

    @property
    def is_ripening(self) -> bool:
        """Whether a `for` runs, so that `saved` differs from moment to moment."""
        return any(alert.state is AlertState.PENDING for alert in self.active())

    @property
    def owed(self) -> int:
        """Notices that some hook has not delivered yet."""
        return undelivered.count(self._hooks)

    def saved_past(self) -> list[dict[str, Any]]:
        """The alerts that were resolved lately, as plain data."""
        return self._rules.saved_past(self._clock.monotonic())

    def saved(self) -> dict[str, Any]:
        """All else that is to outlive the process, as plain data."""
        return {
            "alerts": self._rules.saved(self._clock.monotonic()),
            "acks": [asdict(ack) for ack in self._acks.values()],
            "silences": [asdict(silence) for silence in self.silences()],
            "untold": sorted(self._untold),
            "owed": undelivered.saved(self._hooks),
        }

    def restore(self, saved: Mapping[str, Any], past: Iterable[Mapping[str, Any]] = ()) -> None:
        """Go on where `saved` and `saved_past` ended.

        Raises ValueError, TypeError or KeyError for other data.
        """
        acks = [Ack(**one) for one in saved["acks"]]
        silences = [Silence(**one) for one in saved["silences"]]
        waiting = undelivered.restored(saved.get("owed", {}))  # older notes have none
        self._rules.restore([*past, *saved["alerts"]], self._clock.monotonic())
        self._acks = {ack.alert: ack for ack in acks}
        self._silences.restore(silences)
        self._untold = set(saved["untold"])
        for name, notices in waiting.items():
            for notice in notices if name in self._hooks else ():
                self._hooks[name].post(notice)

    def active(self) -> list[Alert]:
        """Pending, firing and just resolved alerts, newest first."""
        return self._rules.active()

    def text_of(self, alert: Alert) -> str:
        """What the alert says to people: its rule's own text, else what the quantity is."""
        rule = self._named.get(alert.rule)
        return (rule.text if rule is not None else "") or _sentence(alert)

    def replace(
        self,
        rules: Iterable[Rule],
        hooks: Mapping[str, Hook],
        *,
        site: str = "",
        labels: Mapping[str, Mapping[str, str]] | None = None,
        devices: Collection[str] | None = None,
    ) -> None:
        """After a reload; see RuleStates.replace for the alerts that go on.

        Raises ConfigError before anything changes. Ends of alerts, and what the old hooks did not
        deliver yet, go to the new hooks of the same name: start those before, close the old after.
        """
        rules = tuple(rules)
        _check_hooks(rules, hooks)
        ended = self._rules.replace(rules, self._clock.monotonic(), self._clock.now_ms(), devices)
        undelivered.hand_over(self._hooks, hooks)
        self._hooks, self._site, self._labels = hooks, site, labels or {}
        self._tell(ended)
        self._named = {rule.name: rule for rule in rules}

    @staticmethod
    def check(rules: Iterable[Rule], hooks: Collection[str]) -> None:
        """Raises ConfigError where `replace` would."""
        rules = tuple(rules)
        _check_hooks(rules, hooks)
        RuleStates(rules)

    def rename(self, old: str, new: str) -> None:
        """A device goes on under another name, with its alerts and silences."""
        self._named = self._rules.rename(old, new)
        self._silences.rename(old, new)
        self._labels = {new if name == old else name: one for name, one in self._labels.items()}
        self.version += 1

    def _tell(self, changes: Iterable[Alert]) -> None:
        for alert in changes:
            self.version += 1
            if alert.state in _TOLD and self._may_tell(alert):
                self._announce(alert, self._named[alert.rule])

    def _may_tell(self, alert: Alert) -> bool:
        """Who was never told of an alert is not told of its end, either."""
        if alert.state is AlertState.RESOLVED:
            was_told = alert.id not in self._untold
            self._untold.discard(alert.id)
            return was_told
        if not (silenced := self._silences.covering(alert, self._clock.now_ms())):
            return True
        log.info("alert %s on %s is silenced by %s", alert.rule, alert.device, silenced[0])
        self._untold.add(alert.id)
        return False

    def _announce(self, alert: Alert, rule: Rule) -> None:
        text = self.text_of(alert)
        log.warning("alert %s %s on %s: %s", alert.rule, alert.state, alert.device, text)
        notice = Notification(alert, self._site, text, self._labels.get(alert.device, {}))
        for name in rule.notify:
            if (hook := self._hooks.get(name)) is not None:
                hook.post(notice)


def _sentence(alert: Alert) -> str:
    value = "unknown" if alert.value is None else f"{alert.value:g}"
    unit = "" if alert.unit == "1" else f" {alert.unit}"
    return f"{alert.quantity} is {value}{unit}"


def _check_hooks(rules: Iterable[Rule], hooks: Collection[str]) -> None:
    for rule in rules:
        for name in rule.notify:
            if name not in hooks:
                known = ", ".join(sorted(hooks)) or "none"
                raise ConfigError(f"rule {rule.name} notifies {name}, but the hooks are {known}")
