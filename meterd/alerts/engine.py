"""The sink that watches rules and tells hooks."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from meterd.alerts.hooks.notice import Hook, Notice
from meterd.alerts.rules import Rule, Rules
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
        self._rules = Rules(rules, new_id=new_id) if new_id else Rules(rules)
        self._named = {rule.name: rule for rule in rules}
        self._hooks = hooks
        self._clock = clock
        self._site = site
        self._labels = labels or {}

    def take(self, poll: Poll) -> None:
        self._tell(self._rules.take(poll, self._clock.monotonic()))

    async def run(self) -> None:
        """Looks once a second whether an alert has pended long enough; never returns."""
        while True:
            await self._clock.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """One look at the clock."""
        self._tell(self._rules.tick(self._clock.monotonic(), self._clock.now_ms()))

    def active(self) -> list[Alert]:
        """Pending, firing and just resolved alerts, newest first."""
        return self._rules.active()

    def replace(
        self,
        rules: Iterable[Rule],
        hooks: Mapping[str, Hook],
        *,
        site: str = "",
        labels: Mapping[str, Mapping[str, str]] | None = None,
        devices: Collection[str] | None = None,
    ) -> None:
        """After a reload; alerts whose rule and device are still there go on (see Rules.replace).

        Raises ConfigError before anything changes. Ends of alerts go to the new hooks that have
        the name of the old, so start those before, and close the old ones after.
        """
        rules = tuple(rules)
        _check_hooks(rules, hooks)
        ended = self._rules.replace(rules, self._clock.monotonic(), self._clock.now_ms(), devices)
        self._hooks, self._site, self._labels = hooks, site, labels or {}
        self._tell(ended)
        self._named = {rule.name: rule for rule in rules}

    def _tell(self, changes: Iterable[Alert]) -> None:
        for alert in changes:
            if alert.state in _TOLD:
                self._announce(alert, self._named[alert.rule])

    def _announce(self, alert: Alert, rule: Rule) -> None:
        text = rule.text or _sentence(alert)
        log.warning("alert %s %s on %s: %s", alert.rule, alert.state, alert.device, text)
        notice = Notice(alert, self._site, text, self._labels.get(alert.device, {}))
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
