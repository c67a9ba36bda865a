"""The rules and hooks that settings ask for."""

from collections.abc import Iterator

from meterd.alerts.hooks.webhook import Webhook
from meterd.alerts.rule import Rule
from meterd.config.alerts import RuleSettings
from meterd.config.settings import Settings
from meterd.daemon import own
from meterd.drivers import registry
from meterd.errors import ConfigError


def hooks(settings: Settings) -> dict[str, Webhook]:
    """Not started yet, by name."""
    return {
        name: Webhook(name, hook.url, timeout=hook.timeout, headers=hook.headers)
        for name, hook in settings.alerts.hooks.items()
    }


def rules(settings: Settings) -> Iterator[Rule]:
    """Those that are written, and meterd's own where none of that name is written.

    Raises ConfigError where a rule's state is none of its devices'.
    """
    named = settings.alerts.rules
    yield from (rule for rule in own.rules(settings.alerts.hooks) if rule.name not in named)
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
    """What the quantity must equal; a state's text is looked up in the devices' maps."""
    if not isinstance(rule.equals, str):
        return rule.equals
    numbers: dict[str, set[int]] = {}
    for device_id, device in settings.devices.items():
        if rule.device and device_id not in rule.device:
            continue
        states = registry.states(device.driver, device.options).get(rule.quantity, {})
        for number, text in states.items():
            numbers.setdefault(text, set()).add(number)
    meant = numbers.get(rule.equals, set())
    if len(meant) == 1:
        return float(*meant)
    if meant:
        why = f"is {' and '.join(map(str, sorted(meant)))} in different devices"
        hint = "write a rule for each kind of device, or the number"
    else:
        why = f"is no state of {rule.quantity} in any device that the rule watches"
        hint = f"its states are {', '.join(numbers)}" if numbers else "its map has no `enum`"
    raise ConfigError(f"alerts.rules.{name}.equals: {rule.equals!r} {why}; hint: {hint}")
