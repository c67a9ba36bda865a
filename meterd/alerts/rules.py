"""Rules and their states: inactive → pending → firing → resolved. Pure: time is passed in.

Durations run on the monotonic clock, stamps are Unix ms UTC: a clock that is set does nothing
to a duration. What is not known is no evidence: it neither starts, ends nor ripens an alert.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from meterd.alerts.active_alert import ActiveAlert, restored
from meterd.alerts.rule import Rule
from meterd.alerts.silences import unique
from meterd.errors import ConfigError
from meterd.model.alert import Alert, AlertState
from meterd.model.sample import Poll, Quality

# How long, and how many, resolved alerts are remembered for those who look.
REMEMBERED = 15 * 60.0
REMEMBERED_LIMIT = 1000

_EVIDENCE = (Quality.GOOD, Quality.ESTIMATED)


class RuleStates:
    """The state of every rule on every device.

    `Alert.since` is when the condition was first seen to hold, `updated` when its value was last
    seen or its state changed. An alert that stops pending without firing becomes `inactive`.
    """

    def __init__(self, rules: Iterable[Rule], *, new_id: Callable[[], str] = unique) -> None:
        self._rules = _by_name(rules)
        self._new_id = new_id
        self._episodes: dict[tuple[str, str], ActiveAlert] = {}
        self._resolved: deque[ActiveAlert] = deque(maxlen=REMEMBERED_LIMIT)
        self._watching: dict[str, tuple[Rule, ...]] = {}

    def take(self, poll: Poll, now: float) -> list[Alert]:
        """What one poll, taken at `now` (monotonic), changes."""
        changes: list[Alert] = []
        for rule in self._for(poll.device):
            column = poll.layout.index.get(rule.quantity)
            if column is None and poll.up:
                continue  # read less often than the rest: what was last seen still holds
            value = _evidence(poll, column)
            if column is None or value is None:
                self._lose_sight(rule, poll.device)
            else:
                unit = poll.layout.units[column]
                changes += self._judge(rule, poll, value, unit, now)
        return changes

    def tick(self, now: float, now_ms: int) -> list[Alert]:
        """What the passing of time alone changes."""
        while self._resolved and now - self._resolved[0].changed > REMEMBERED:
            self._resolved.popleft()
        over = [key for key, episode in self._episodes.items() if episode.over(now)]
        ended = [self._end(key, now, now_ms) for key in over]
        ripe = [episode for episode in self._episodes.values() if episode.ripe(now)]
        return ended + [episode.become(AlertState.FIRING, now, now_ms) for episode in ripe]

    def active(self) -> list[Alert]:
        """Pending, firing, and resolved within the last quarter of an hour; newest first."""
        episodes = sorted(
            (*self._resolved, *self._episodes.values()), key=lambda e: e.changed, reverse=True
        )
        return [episode.alert() for episode in episodes]

    def replace(
        self,
        rules: Iterable[Rule],
        now: float,
        now_ms: int,
        devices: Collection[str] | None = None,
    ) -> list[Alert]:
        """After a reload: other rules, and only these devices (None: whichever come).

        A rule whose condition is the same keeps its alerts. What loses its rule or device is
        over: firing alerts are resolved, since a receiver that was told of one waits for its
        end; pending ones become inactive.
        """
        self._rules = _by_name(rules)
        self._watching.clear()
        changes = []
        for key, episode in list(self._episodes.items()):
            rule = self._rules.get(episode.rule.name)
            gone = devices is not None and episode.device not in devices
            same = rule is not None and rule.condition == episode.rule.condition
            if rule is not None and same and not gone and rule.watches(episode.device):
                episode.rule = rule
            else:
                changes.append(self._end(key, now, now_ms))
        return changes

    def rename(self, old: str, new: str) -> dict[str, Rule]:
        """A device goes on under another name, with its alerts; the rules by now, by name."""
        self._rules = {name: rule.renamed(old, new) for name, rule in self._rules.items()}
        self._watching.clear()
        for episode in (*self._resolved, *self._episodes.values()):
            episode.rule = self._rules.get(episode.rule.name, episode.rule)
            if episode.device == old:
                episode.device = new
        self._episodes = {(one.rule.name, one.device): one for one in self._episodes.values()}
        return dict(self._rules)

    def saved(self, now: float) -> list[dict[str, Any]]:
        """Every alert that is not over, as plain data, for `restore` after a restart."""
        return [one.saved(now) for one in self._episodes.values()]

    def saved_past(self, now: float) -> list[dict[str, Any]]:
        """The same of those that were resolved lately: up to REMEMBERED_LIMIT."""
        return [one.saved(now) for one in self._resolved]

    def restore(self, saved: Iterable[Mapping[str, Any]], now: float) -> None:
        """Go on with the alerts of before; those whose rule is gone or another are left out.

        Raises ValueError, TypeError or KeyError, and changes nothing, where it is no such data.
        """
        found = []
        for one in saved:
            rule = self._rules.get(str(one["rule"]))
            same = rule is not None and list(rule.condition) == one["condition"]
            if rule is not None and same and rule.watches(str(one["device"])):
                found.append(restored(one, rule, now))
        for episode in found:
            if episode.state is AlertState.RESOLVED:
                self._resolved.append(episode)
            else:
                self._episodes[episode.rule.name, episode.device] = episode

    def _for(self, device: str) -> tuple[Rule, ...]:
        watching = self._watching.get(device)
        if watching is None:
            watching = tuple(rule for rule in self._rules.values() if rule.watches(device))
            self._watching[device] = watching
        return watching

    def _lose_sight(self, rule: Rule, device: str) -> None:
        episode = self._episodes.get((rule.name, device))
        if episode is not None:
            episode.known = False

    def _judge(
        self, rule: Rule, poll: Poll, value: float, unit: str, now: float
    ) -> Iterable[Alert]:
        key = (rule.name, poll.device)
        episode = self._episodes.get(key)
        if episode is None:
            return self._begin(rule, poll, value, unit, now) if rule.holds(value) else ()
        episode.value, episode.updated, episode.known = value, poll.time, True
        if episode.state is AlertState.FIRING:
            if not rule.clears(value):
                episode.cleared = None
            elif episode.cleared is None:
                episode.cleared = now
            return (self._end(key, now, poll.time),) if episode.over(now) else ()
        if not rule.holds(value):
            return (self._end(key, now, poll.time),)
        return (episode.become(AlertState.FIRING, now, poll.time),) if episode.ripe(now) else ()

    def _begin(
        self, rule: Rule, poll: Poll, value: float, unit: str, now: float
    ) -> tuple[Alert, ...]:
        episode = ActiveAlert(
            rule, self._new_id(), poll.device, unit, value, poll.time, poll.time, now, now
        )
        self._episodes[rule.name, poll.device] = episode
        if episode.ripe(now):
            return (episode.become(AlertState.FIRING, now, poll.time),)
        return (episode.alert(),)

    def _end(self, key: tuple[str, str], now: float, now_ms: int) -> Alert:
        episode = self._episodes.pop(key)
        if episode.state is not AlertState.FIRING:
            return episode.become(AlertState.INACTIVE, now, now_ms)
        self._resolved.append(episode)
        return episode.become(AlertState.RESOLVED, now, now_ms)


def _by_name(rules: Iterable[Rule]) -> dict[str, Rule]:
    named: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in named:
            raise ConfigError(f"rule {rule.name} is there twice: give each its own name")
        named[rule.name] = rule
    return named


def _evidence(poll: Poll, column: int | None) -> float | None:
    """The value, if it may be believed."""
    value = None if column is None else poll.values[column]
    if column is None or value is None or not math.isfinite(value):
        return None
    doubt = poll.doubts.get(column)
    return value if doubt is None or doubt.quality in _EVIDENCE else None
