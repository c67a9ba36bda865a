"""Warnings about alert rules and hooks of a configuration that loads."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meterd.config.alerts import RuleSettings
from meterd.config.codes import WarningCode
from meterd.config.names import spelling_hint
from meterd.config.settings import Settings
from meterd.daemon import self_monitoring
from meterd.daemon.config_warnings import ConfigWarning, listed
from meterd.daemon.link_plan import Built, bare
from meterd.drivers import registry
from meterd.model.driver import Driver, Quantities
from meterd.model.meter_quantities import meters
from meterd.model.quantity import GUARDED, Kind, Quantity, describe
from meterd.model.ups_quantities import upses
from meterd.poll.direction import other_way

# What others put into texts, and nothing here replaces: {{ $value }}, {value}, %(value)s.
_PLACEHOLDER = re.compile(r"\{\{|\$\{|\{[a-z_.]+\}|%\([a-z_]+\)s|\$(?:value|labels)\b")
# These are never below nothing; powers and angles may be, and voltages of direct current.
_POSITIVE_UNITS = ("%", "Hz", "s")
# Measured values of these are hardly ever exactly something.
_CONTINUOUS_UNITS = ("V", "A", "W", "var", "VA")

Delivered = Mapping[str, frozenset[str] | None]
"""Device -> the quantities that it may deliver; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class _Range:
    """What a quantity can be."""

    low: float
    high: float
    is_flag: bool

    @classmethod
    def of(cls, quantity: Quantity) -> "_Range":
        is_flag = quantity.unit == "1" and quantity.high == 1
        positive = is_flag or quantity.kind is Kind.COUNTER or quantity.unit in _POSITIVE_UNITS
        return cls(0.0 if positive else -quantity.high, quantity.high, is_flag)

    @property
    def text(self) -> str:
        if self.is_flag:
            return "it is 0 or 1"
        return f"it lies between {self.low:g} and {self.high:g}"


def delivered(built: Sequence[Built]) -> dict[str, frozenset[str] | None]:
    """What each polled device may deliver, by its map or its driver."""
    return {
        name: _of_driver(bare(driver), swapped=settings.direction == "reversed")
        for link in built
        for name, driver, settings in link.drivers
    }


def _of_driver(driver: Driver, *, swapped: bool) -> frozenset[str] | None:
    if not isinstance(driver, Quantities):
        return None
    quantities = frozenset(driver.quantities())
    if swapped:
        quantities |= {other_way(name) for name in quantities}
    return quantities | {GUARDED + name for name in quantities}


def of_rules(
    settings: Settings, devices: Delivered, silenced: Collection[str] = ()
) -> Iterator[ConfigWarning]:
    """Rules that notify nobody or that can never work, unused hooks, and silences for no rule.

    `silenced`: the rules that a silence is for.
    """
    alerts = settings.alerts
    for name, rule in alerts.rules.items():
        path = ("alerts", "rules", name)
        # Who writes an empty list means it: alerts are on the page and in the API anyway.
        if not rule.notify and "notify" not in rule.model_fields_set:
            hook = next(iter(alerts.hooks), "")
            add = f"add `notify: [{hook}]`" if hook else "add a hook below `alerts: hooks:`"
            hint = f"{add}, or say `notify: []` where the page is enough"
            text = f"alerts.rules.{name}: it tells nobody: it has no notify"
            yield ConfigWarning(path, WarningCode.SILENT_RULE, text, hint)
        if rule.text and (match := _PLACEHOLDER.search(rule.text)):
            text = f"alerts.rules.{name}.text: nothing replaces {match[0]!r}: it is told as it is"
            hint = "the notice has value, unit, device and quantity in fields of their own"
            yield ConfigWarning((*path, "text"), WarningCode.TEMPLATE, text, hint)
        yield from _disabled(name, rule, settings)
        yield from _absent(name, rule, devices)
        yield from _condition(name, rule, _states(rule, settings))
    yield from _duplicates(alerts.rules)
    yield from _unused(settings)
    rule_names = {*alerts.rules, *(rule.name for rule in self_monitoring.rules(()))}
    for name in sorted(set(silenced) - rule_names):
        text = f"there is a silence for the rule {name!r}, and no such rule"
        hint = f"{spelling_hint(name, rule_names)} Remove it: DELETE /api/v1/silences/{{id}}"
        yield ConfigWarning(("alerts", "rules"), WarningCode.SILENCE, text, hint)


def _unused(settings: Settings) -> Iterator[ConfigWarning]:
    used = {hook for rule in settings.alerts.rules.values() for hook in rule.notify}
    for name in settings.alerts.hooks:
        if name not in used:
            text = f"alerts.hooks.{name}: no rule tells it anything; meterd's own alerts do"
            hint = f"add `notify: [{name}]` to the rules that it should hear of"
            yield ConfigWarning(("alerts", "hooks", name), WarningCode.UNUSED_HOOK, text, hint)


def _disabled(name: str, rule: RuleSettings, settings: Settings) -> Iterator[ConfigWarning]:
    for device in rule.device:
        if not settings.devices[device].enabled:
            text = f"alerts.rules.{name}.device: {device} is not enabled, so nobody asks it"
            path = ("alerts", "rules", name, "device")
            yield ConfigWarning(
                path, WarningCode.DISABLED, text, f"enable {device}, or leave the rule out"
            )


# -- quantities ------------------------------------------------------------------------------------


def _measured() -> frozenset[str]:
    """Quantities that devices deliver; meterd derives the others, for every device."""
    return frozenset(quantity.name for quantity in (*meters(), *upses()))


def _absent(name: str, rule: RuleSettings, devices: Delivered) -> Iterator[ConfigWarning]:
    quantity = rule.quantity
    base = quantity.removeprefix(GUARDED)
    if base not in _measured() and not base.startswith("x."):
        return
    if not rule.device and quantity in self_monitoring.QUANTITIES:
        return
    watched = [device for device in rule.device or devices if device in devices]
    lacking = [device for device in watched if not _has(devices[device], quantity)]
    # A rule for every device is right as long as one has it.
    if not lacking or (not rule.device and len(lacking) < len(watched)):
        return
    whom = listed(lacking) if rule.device else "no device"
    verb = "does" if len(lacking) == 1 or not rule.device else "do"
    what = f"{whom} {verb} not deliver {quantity}" if rule.device else f"{whom} delivers {quantity}"
    delivered_names = {
        each for device in lacking for each in devices[device] or () if not each.startswith(GUARDED)
    }
    path = ("alerts", "rules", name, "quantity")
    text = f"alerts.rules.{name}.quantity: {what}: this rule can never fire"
    yield ConfigWarning(
        path, WarningCode.NO_SUCH_VALUE, text, spelling_hint(quantity, delivered_names)
    )


def _has(delivers: frozenset[str] | None, quantity: str) -> bool:
    return delivers is None or quantity in delivers


def unread(
    settings: Settings, devices: Delivered, read: Mapping[str, Mapping[str, str]]
) -> Iterator[ConfigWarning]:
    """Rules that watch what their devices could deliver, and did not when they were read.

    `read`: of each device that answered, the quantities without a value, and why.
    """
    for name, rule in settings.alerts.rules.items():
        quantity = rule.quantity.removeprefix(GUARDED)
        watched = [device for device in rule.device or devices if device in devices]
        able = [device for device in watched if _has(devices[device], rule.quantity)]
        missing = [device for device in able if device in read and quantity in read[device]]
        if not missing or (not rule.device and len(missing) < len(able)):
            continue
        why = read[missing[0]][quantity] or "it was not in the answer"
        path = ("alerts", "rules", name, "quantity")
        text = f"alerts.rules.{name}.quantity: {listed(missing)} gave no {quantity}: {why}"
        hint = "as long as there is no value the rule neither fires nor ends"
        yield ConfigWarning(path, WarningCode.NO_SUCH_VALUE, text, hint)


# -- conditions ------------------------------------------------------------------------------------


def _states(rule: RuleSettings, settings: Settings) -> dict[int, str]:
    """What the numbers of the quantity mean, in all devices that the rule watches."""
    states: dict[int, str] = {}
    for name, device in settings.devices.items():
        if not rule.device or name in rule.device:
            states |= registry.states(device.driver, device.options).get(rule.quantity, {})
    return states


def _condition(name: str, rule: RuleSettings, states: Mapping[int, str]) -> Iterator[ConfigWarning]:
    quantity = describe(rule.quantity)
    # A state is looked up where the rule is made.
    if quantity is None or isinstance(rule.equals, str):
        return
    if states and rule.equals is not None and rule.equals not in states:
        listing = ", ".join(f"{number} {text}" for number, text in states.items())
        text = f"alerts.rules.{name}: {rule.quantity} equals {rule.equals:g} is no state of it"
        path: tuple[str, ...] = ("alerts", "rules", name, "equals")
        yield ConfigWarning(path, WarningCode.NEVER_TRUE, text, f"its states are {listing}")
        return
    span = _Range.of(quantity)
    key = next(key for key in ("equals", "above", "below") if getattr(rule, key) is not None)
    limit: float = getattr(rule, key)
    path = ("alerts", "rules", name, key)
    what = f"alerts.rules.{name}: {rule.quantity} {key} {limit:g}"
    if (never := _never(key, limit, span, quantity)) is not None:
        text, hint = f"{what} is never true: {never or span.text}", _better(quantity, span)
        yield ConfigWarning(path, WarningCode.NEVER_TRUE, text, hint)
        return
    if (key == "above" and limit < span.low) or (key == "below" and limit > span.high):
        text = f"{what} is always true: {span.text}"
        yield ConfigWarning(path, WarningCode.ALWAYS_TRUE, text, _better(quantity, span))
        return
    yield from _clears(name, rule, span)


def _better(quantity: Quantity, span: _Range) -> str:
    if span.is_flag:
        return "write `equals: 0` or `equals: 1`"
    return f"values are in {quantity.unit}" if quantity.unit != "1" else ""


def _never(key: str, limit: float, span: _Range, quantity: Quantity) -> str | None:
    """Why this is never true, "" for its range; None where it can be."""
    if key == "above":
        return "" if limit >= span.high else None
    if key == "below":
        return "" if limit <= span.low else None
    if span.is_flag:
        return None if limit in (0, 1) else ""
    if not span.low <= limit <= span.high:
        return ""
    is_exact = not limit or "nominal" in quantity.name or quantity.unit not in _CONTINUOUS_UNITS
    return None if is_exact else "a measured value is hardly ever exactly that"


def _clears(name: str, rule: RuleSettings, span: _Range) -> Iterator[ConfigWarning]:
    below, above = rule.clear_below, rule.clear_above
    for key, clear, stuck in (
        ("clear_below", below, below is not None and below <= span.low),
        ("clear_above", above, above is not None and above >= span.high),
    ):
        if stuck:
            text = f"alerts.rules.{name}.{key}: it is never {key[6:]} {clear:g}: {span.text}"
            hint = "an alert that fired would never end: take a value that there can be"
            path = ("alerts", "rules", name, key)
            yield ConfigWarning(path, WarningCode.NEVER_CLEAR, text, hint)


def _duplicates(rules: Mapping[str, RuleSettings]) -> Iterator[ConfigWarning]:
    names = list(rules)
    for number, name in enumerate(names):
        rule = rules[name]
        same = [other for other in names[:number] if _says_the_same(rules[other], rule)]
        if same:
            text = f"alerts.rules.{name}: it says the same as {listed(same)}"
            hint = "remove one of them, and list the hooks of both"
            yield ConfigWarning(("alerts", "rules", name), WarningCode.RULE_TWICE, text, hint)


def _says_the_same(rule: RuleSettings, other: RuleSettings) -> bool:
    """The same condition for as long, at a device of both; another `for` or severity escalates."""
    keys = ("quantity", "equals", "above", "below", "for_", "severity")
    if any(getattr(rule, key) != getattr(other, key) for key in keys):
        return False
    return not rule.device or not other.device or bool({*rule.device} & {*other.device})
