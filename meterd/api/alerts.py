"""Alerts that are pending, firing, or resolved a short while ago."""

from pydantic import BaseModel, Field

from meterd.api.answer import Answer, Call, as_json
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339
from meterd.model.alert import AlertState


class OneAlert(BaseModel):
    id: str = Field(description="Stays the same from firing to resolved")
    rule: str
    device: str
    quantity: str
    state: AlertState
    severity: str
    value: float | None = Field(description="The value that the rule last saw")
    unit: str
    since: str = Field(description="When the condition began to hold, RFC 3339")
    updated: str = Field(description="When the rule was last looked at, RFC 3339")


class Alerts(BaseModel):
    alerts: list[OneAlert]


async def list_all(call: Call, query: NoQuery) -> Answer:
    rows = [
        {
            "id": alert.id,
            "rule": alert.rule,
            "device": alert.device,
            "quantity": alert.quantity,
            "state": alert.state,
            "severity": alert.severity,
            "value": alert.value,
            "unit": alert.unit,
            "since": rfc3339(alert.since),
            "updated": rfc3339(alert.updated),
        }
        for alert in call.site.alerts()
    ]
    return as_json({"alerts": rows})
