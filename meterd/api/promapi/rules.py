"""Alerts and their rules in Prometheus' shape, for Grafana's alert list."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meterd.api.promapi import names
from meterd.api.promapi.desk import Desk
from meterd.api.promapi.params import Params, invalid
from meterd.api.promapi.reply import Reply, reply
from meterd.api.times import rfc3339
from meterd.model.alert import Alert, AlertState
from meterd.model.quantity import Kind, Quantity, describe

_GROUP, _FILE = "meterd", "meterd.yaml"
_ACTIVE = (AlertState.PENDING, AlertState.FIRING)
# From the calmest to the worst: a rule is as bad as its worst alert.
_STATES = ("inactive", "pending", "firing")


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


def _quantity(alert: Alert) -> Quantity:
    known = describe(alert.quantity, alert.unit)
    return known or Quantity(alert.quantity, alert.unit, Kind.GAUGE, "")


def _labels(alert: Alert, devices: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    labels = names.series_labels(_quantity(alert), alert.device, devices.get(alert.device, {}))
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


def _devices(desk: Desk) -> dict[str, Mapping[str, str]]:
    return {one.id: names.device_labels(one.labels) for one in desk.site.devices()}


async def alerts(desk: Desk, params: Params) -> Reply:
    """What is pending or firing."""
    devices = _devices(desk)
    active = [alert for alert in desk.site.alerts() if alert.state in _ACTIVE]
    return reply({"alerts": [_one(alert, devices) for alert in active]})


async def rules(desk: Desk, params: Params) -> Reply:
    """The rules that have had something to say lately, each with its alerts."""
    kind = params.one("type")
    if kind not in ("", "alert", "record"):
        raise invalid("type", f'not supported value "{kind[:80]}"')
    wanted = params.all("rule_name[]")
    by_rule: dict[str, list[Alert]] = {}
    for alert in desk.site.alerts() if _asked(params, kind) else ():
        if not wanted or alert.rule in wanted:
            by_rule.setdefault(alert.rule, []).append(alert)
    devices, now = _devices(desk), desk.clock.now_ms()
    found = [_rule(name, of_it, devices, now) for name, of_it in sorted(by_rule.items())]
    return reply({"groups": [_group(found, now)] if found else []})


def _asked(params: Params, kind: str) -> bool:
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
    name: str, of_it: Sequence[Alert], devices: Mapping[str, Mapping[str, str]], now: int
) -> dict[str, Any]:
    state = max((str(alert.state) for alert in of_it), key=_badness)
    return {
        "type": "alerting",
        "name": name,
        # What the rule looks at; its limits are in meterd.yaml.
        "query": " or ".join(_metrics(of_it)),
        "duration": 0,
        "keepFiringFor": 0,
        "labels": {"severity": of_it[0].severity},
        "annotations": {},
        "state": state if state in _STATES else "inactive",
        "health": "ok",
        "evaluationTime": 0,
        "lastEvaluation": rfc3339(max((alert.updated for alert in of_it), default=now)),
        "alerts": [_one(alert, devices) for alert in of_it if alert.state in _ACTIVE],
    }


def _badness(state: str) -> int:
    return _STATES.index(state) if state in _STATES else -1


def _metrics(of_it: Iterable[Alert]) -> list[str]:
    return sorted({names.metric_name(_quantity(alert)) for alert in of_it})
