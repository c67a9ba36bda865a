"""Alerts and their rules in Prometheus' shape, for Grafana's alert list."""

from collections.abc import Mapping, Sequence
from typing import Any

from meterd.alerts.rule import Rule
from meterd.api.promapi import names
from meterd.api.promapi.expression import quantity_of, query
from meterd.api.promapi.params import Params, invalid
from meterd.api.promapi.query_executor import QueryExecutor
from meterd.api.promapi.reply import PromReply, reply
from meterd.api.times import rfc3339
from meterd.daemon.alerting import rules as configured
from meterd.model.alert import Alert, AlertState

_GROUP, _FILE = "meterd", "meterd.yaml"
_ACTIVE = (AlertState.PENDING, AlertState.FIRING)
# From the calmest to the worst: a rule is as bad as its worst alert.
_STATES = ("pending", "firing")
_CALM = "inactive"


def go_float(value: float | None) -> str:
    """A number as Prometheus writes an alert's value: 1 -> `1e+00`, 253.4 -> `2.534e+02`."""
    if value is None or value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    digits, _, exponent = f"{value:.16e}".partition("e")
    # The shortest digits that read back the same.
    for places in range(17):
        short = f"{value:.{places}e}"
        if float(short) == value:
            digits, _, exponent = short.partition("e")
            break
    return f"{digits}e{int(exponent):+03d}"


def _labels(alert: Alert, devices: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    labels = names.series_labels(
        quantity_of(alert.quantity, alert.unit), alert.device, devices.get(alert.device, {})
    )
    labels |= {"alertname": alert.rule, "severity": alert.severity, "quantity": alert.quantity}
    return dict(sorted(labels.items()))


def _one(alert: Alert, devices: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {
        "labels": _labels(alert, devices),
        "annotations": {},
        "state": str(alert.state),
        "activeAt": rfc3339(alert.since),
        "value": go_float(alert.value),
    }


def _devices(executor: QueryExecutor) -> dict[str, Mapping[str, str]]:
    return {device.id: names.device_labels(device.labels) for device in executor.site.devices()}


async def alerts(executor: QueryExecutor, params: Params) -> PromReply:
    """The pending and firing alerts."""
    devices = _devices(executor)
    active = [alert for alert in executor.site.alerts() if alert.state in _ACTIVE]
    return reply({"alerts": [_one(alert, devices) for alert in active]})


async def rules(executor: QueryExecutor, params: Params) -> PromReply:
    """Every rule of the configuration and of meterd itself, each with its alerts."""
    kind = params.one("type")
    if kind not in ("", "alert", "record"):
        raise invalid("type", f'not supported value "{kind[:80]}"')
    rule_names = params.all("rule_name[]")
    by_rule: dict[str, list[Alert]] = {}
    for alert in executor.site.alerts():
        by_rule.setdefault(alert.rule, []).append(alert)
    selected = [
        _rule(executor, rule, by_rule.get(rule.name, ()), is_bare=_is_bare(params))
        for rule in (configured(executor.site.settings) if _is_selected(params, kind) else ())
        if not rule_names or rule.name in rule_names
    ]
    return reply({"groups": [_group(selected, executor.clock.now_ms())] if selected else []})


def _is_bare(params: Params) -> bool:
    return params.one("exclude_alerts").lower() in ("true", "1", "t")


def _is_selected(params: Params, kind: str) -> bool:
    groups, files = params.all("rule_group[]"), params.all("file[]")
    is_here = (not groups or _GROUP in groups) and (not files or _FILE in files)
    # There are no recording rules.
    return kind != "record" and is_here


def _group(found: Sequence[Mapping[str, Any]], now: int) -> dict[str, Any]:
    return {
        "name": _GROUP,
        "file": _FILE,
        "interval": 0,  # with each poll
        "limit": 0,
        "evaluationTime": 0,
        "lastEvaluation": rfc3339(now),
        "rules": found,
    }


def _rule(
    executor: QueryExecutor, rule: Rule, of_it: Sequence[Alert], *, is_bare: bool
) -> dict[str, Any]:
    devices = _devices(executor)
    active = [alert for alert in of_it if alert.state in _ACTIVE]
    shown = {
        "type": "alerting",
        "name": rule.name,
        "query": query(executor.site, rule),
        "duration": rule.hold,
        "keepFiringFor": 0,
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.text} if rule.text else {},
        "state": max((str(alert.state) for alert in active), key=_STATES.index, default=_CALM),
        "health": "ok",
        "evaluationTime": 0,
        "lastEvaluation": rfc3339(executor.clock.now_ms()),
    }
    return shown if is_bare else {**shown, "alerts": [_one(alert, devices) for alert in active]}
