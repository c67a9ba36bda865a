"""Alerts that are pending, firing, or resolved a short while ago, and who knows of them."""

from typing import Any

from pydantic import BaseModel, Field

from meterd.alerts.engine import Alerts
from meterd.alerts.silences import Ack
from meterd.api import body, pages
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.body import Body, PlainText
from meterd.api.pages import Page, PageQuery
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339
from meterd.model.alert import Alert, AlertState

LONGEST_COMMENT = 500


class OneAck(BaseModel):
    time: str = Field(description="When somebody said that they know, RFC 3339")
    by: str = Field(description="Who; empty where nobody has to log in")
    comment: str


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
    ack: OneAck | None = Field(description="Who knows of it; null: nobody said so")
    silenced_by: list[str] = Field(description="Ids of the silences that keep it from hooks now")
    text: str = Field(description="The rule's text, else what the quantity is")


class AllAlerts(Page):
    alerts: list[OneAlert] = Field(description="The newest change first")


class AckBody(Body):
    comment: PlainText = Field(
        "", description="What others should know", max_length=LONGEST_COMMENT
    )


async def list_all(call: ApiCall, query: PageQuery) -> ApiAnswer:
    some, following = pages.cut(call.site.alerts(), query, lambda alert: alert.id)
    return as_json(
        {"alerts": [row(call.site.alerting, alert) for alert in some], "next": following}
    )


async def acknowledge(call: ApiCall, query: NoQuery) -> ApiAnswer:
    """An acknowledged alert is not repeated by hooks; its end is."""
    said = body.read(AckBody, call)
    alert = call.path["id"]
    try:
        ack = call.site.alerting.ack(alert, call.who, said.comment)
    except LookupError:
        detail = f"there is no alert {quote(alert)}, or it ended a while ago"
        raise ApiRefusal(404, ProblemCode.UNKNOWN_ALERT, detail, hint="see GET alerts") from None
    return as_json(_ack(ack))


def row(alerting: Alerts, alert: Alert) -> dict[str, Any]:
    """One alert as answers and streams show it."""
    ack = alerting.ack_of(alert.id)
    return {
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
        "ack": ack and _ack(ack),
        "silenced_by": alerting.silenced_by(alert),
        "text": alerting.text_of(alert),
    }


def _ack(ack: Ack) -> dict[str, Any]:
    return {"time": rfc3339(ack.time), "by": ack.by, "comment": ack.comment}
