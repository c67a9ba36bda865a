"""Builds alert rules and hooks from settings, and replaces them at a reload."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from meterd.alerts.engine import Alerts
from meterd.alerts.hooks.webhook import Webhook
from meterd.alerts.rule import Rule
from meterd.config.alerts import HookSettings, RuleSettings
from meterd.config.settings import Settings
from meterd.daemon import self_monitoring
from meterd.daemon.reload import PreparedChange, to_the_end
from meterd.drivers import registry
from meterd.errors import ConfigError

# Seconds in which a hook that goes may still deliver.
_HOOK_GRACE = 2.0


def hook(name: str, settings: HookSettings) -> Webhook:
    """Not started yet."""
    return Webhook(name, settings.url, timeout=settings.timeout, headers=settings.headers)


def rules(settings: Settings) -> Iterator[Rule]:
    """Those that are written, and meterd's own where none of that name is written.

    Raises ConfigError where a rule's state is none of its devices'.
    """
    named = settings.alerts.rules
    yield from (
        rule for rule in self_monitoring.rules(settings.alerts.hooks) if rule.name not in named
    )
    for name, rule in settings.alerts.rules.items():
        yield Rule(
            name=name,
            quantity=rule.quantity,
            device=rule.device,
            equals=_number(name, rule, settings),
            above=rule.above,
            below=rule.below,
            clear_below=rule.clear_below,
            clear_above=rule.clear_above,
            hold=rule.for_,
            clear_hold=rule.clear_for,
            severity=rule.severity,
            notify=rule.notify,
            text=rule.text or "",
        )


def _number(name: str, rule: RuleSettings, settings: Settings) -> float | None:
    """The number that `equals` stands for; a state's text is looked up in the devices' maps."""
    if not isinstance(rule.equals, str):
        return rule.equals
    numbers: dict[str, set[int]] = {}
    for device_id, device in settings.devices.items():
        if rule.device and device_id not in rule.device:
            continue
        states = registry.states(device.driver, device.options).get(rule.quantity, {})
        for number, text in states.items():
            numbers.setdefault(text, set()).add(number)
    matching = numbers.get(rule.equals, set())
    if len(matching) == 1:
        return float(*matching)
    if matching:
        why = f"is {' and '.join(map(str, sorted(matching)))} in different devices"
        hint = "write a rule for each kind of device, or the number"
    else:
        why = f"is no state of {rule.quantity} in any device that the rule watches"
        hint = f"its states are {', '.join(numbers)}" if numbers else "its map has no `enum`"
    path = ("alerts", "rules", name, "equals")
    raise ConfigError(f"{'.'.join(path)}: {rule.equals!r} {why}; hint: {hint}", path)


class AlertPart:
    """The hooks of a site, which deliver what its alerts have to say."""

    def __init__(
        self,
        alerts: Alerts,
        devices: Callable[[], Collection[str]],
        restore: Callable[[], None],
    ) -> None:
        """`devices` are those of the site; `restore` is called once, with the first settings."""
        self.alerts = alerts
        self.devices = devices
        self.restore: Callable[[], None] | None = restore
        self.hooks: dict[str, tuple[HookSettings, Webhook]] = {}

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        """Raises ConfigError. A hook with unchanged settings is kept, with its queue."""
        if settings is None:
            return _AlertChange(self, None, (), {}, ())
        hook_settings = settings.alerts.hooks
        rules_found = list(rules(settings))
        Alerts.check(rules_found, hook_settings)
        hooks: dict[str, tuple[HookSettings, Webhook]] = {}
        fresh: list[Webhook] = []
        try:
            for name, its_settings in hook_settings.items():
                before = self.hooks.get(name)
                if before is not None and before[0] == its_settings:
                    hooks[name] = before
                    continue
                made = hook(name, its_settings)
                hooks[name] = its_settings, made
                fresh.append(made)
                await made.start()
        except BaseException:
            await to_the_end(_close(fresh, 0.0))
            raise
        return _AlertChange(self, settings, rules_found, hooks, fresh)


class _AlertChange:
    def __init__(
        self,
        part: AlertPart,
        settings: Settings | None,
        rules: Sequence[Rule],
        hooks: Mapping[str, tuple[HookSettings, Webhook]],
        fresh: Sequence[Webhook],
    ) -> None:
        """`fresh` are those of the hooks that were started for this."""
        self._part = part
        self._settings = settings
        self._rules = rules
        self._hooks = dict(hooks)
        self._fresh = fresh
        self._gone: list[Webhook] = []

    async def commit(self) -> None:
        """New hooks first, so that no alert finds none; alerts that are firing live on."""
        part = self._part
        in_use = {id(webhook) for _, webhook in self._hooks.values()}
        self._gone = [webhook for _, webhook in part.hooks.values() if id(webhook) not in in_use]
        part.hooks = self._hooks
        if self._settings is None:
            return
        self._replace(self._settings)
        if part.restore is not None:
            restore, part.restore = part.restore, None
            restore()
            # Once more, for the alerts of devices that went meanwhile.
            self._replace(self._settings)

    def _replace(self, settings: Settings) -> None:
        self._part.alerts.replace(
            self._rules,
            {name: webhook for name, (_, webhook) in self._hooks.items()},
            site=settings.site.name,
            labels={name: device.labels for name, device in settings.devices.items()},
            devices=[*self._part.devices(), self_monitoring.DEVICE],
        )

    async def retire(self) -> None:
        await _close(self._gone, _HOOK_GRACE)

    async def abandon(self) -> None:
        await _close(self._fresh, 0.0)


async def _close(hooks: Sequence[Webhook], grace: float) -> None:
    await asyncio.gather(*(webhook.close(grace) for webhook in hooks), return_exceptions=True)
