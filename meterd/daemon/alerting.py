"""The rules and hooks that settings ask for."""

from collections.abc import Iterator

from meterd.alerts.hooks.webhook import Webhook
from meterd.alerts.rule import Rule
from meterd.config.settings import Settings
from meterd.daemon import own


def hooks(settings: Settings) -> dict[str, Webhook]:
    """Not started yet, by name."""
    return {
        name: Webhook(name, hook.url, timeout=hook.timeout, headers=hook.headers)
        for name, hook in settings.alerts.hooks.items()
    }


def rules(settings: Settings) -> Iterator[Rule]:
    """Those that are written, and meterd's own where none of that name is written."""
    named = settings.alerts.rules
    yield from (rule for rule in own.rules(settings.alerts.hooks) if rule.name not in named)
    for name, rule in settings.alerts.rules.items():
        yield Rule(
            name=name,
            quantity=rule.quantity,
            device=rule.device,
            equals=rule.equals,
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
