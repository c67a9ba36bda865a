"""Silences: for a while hooks are not told of some alerts."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from meterd.alerts.silences import Silence
from meterd.api import body, lookups
from meterd.api.alerts import LONGEST_COMMENT
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.body import Body, PlainText
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.api.query import BodyMoment, NoQuery
from meterd.api.times import rfc3339

# Longer, and it is forgotten that there is one: better to change the rule.
LONGEST = 366 * 86_400_000

Matched = Annotated[str, StringConstraints(max_length=128)]


class SilenceBody(Body):
    rule: Matched = Field("", description="Alerts of this rule; empty: of every rule")
    device: Matched = Field("", description="Alerts of this device; empty: of every device")
    quantity: Matched = Field("", description="Alerts of this quantity; empty: of every one")
    start: BodyMoment | None = Field(None, description="When it begins; absent: now")
    end: BodyMoment = Field(description="When it ends: RFC 3339, Unix seconds or now+2h")
    comment: PlainText = Field("", description="Why, for others", max_length=LONGEST_COMMENT)


class OneSilence(BaseModel):
    id: str
    rule: str
    device: str
    quantity: str
    start: str = Field(description="RFC 3339")
    end: str = Field(description="RFC 3339")
    by: str = Field(description="Who made it; empty where nobody has to log in")
    comment: str


class Silences(BaseModel):
    silences: list[OneSilence] = Field(description="Those that are not over; ending first, first")


class Removed(BaseModel):
    removed: str = Field(description="The id of the silence that is no more")


async def list_all(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return as_json({"silences": [_row(silence) for silence in call.site.alerting.silences()]})


async def add(call: ApiCall, query: NoQuery) -> ApiAnswer:
    wanted = body.read(SilenceBody, call)
    start = call.now if wanted.start is None else wanted.start
    if not max(start, call.now) < wanted.end <= start + LONGEST:
        detail = "end has to lie after start and after now, and at most a year after start"
        raise ApiRefusal(422, ProblemCode.BAD_RANGE, detail, hint="write now+2h", parameter="end")
    if wanted.rule:
        active = {alert.rule for alert in call.site.alerts()}
        lookups.need_rule(wanted.rule, {*call.site.alerting.rule_names, *active})
    if wanted.device:
        lookups.need_devices([wanted.device], lookups.ids(call.site), call.site)
    if wanted.quantity:
        lookups.need_quantities([wanted.quantity], lookups.measured(call.site))
    silence = Silence(
        "", start, wanted.end, wanted.rule, wanted.device, wanted.quantity, call.who, wanted.comment
    )
    try:
        made = call.site.alerting.silence(silence)
    except ValueError as error:
        hint = "remove some: DELETE silences/{id}"
        raise ApiRefusal(409, ProblemCode.TOO_MANY_SILENCES, str(error), hint=hint) from error
    return as_json(_row(made), status=201)


async def remove(call: ApiCall, query: NoQuery) -> ApiAnswer:
    number = call.path["id"]
    if not call.site.alerting.unsilence(number):
        detail = f"there is no silence {quote(number)}, or it is over"
        raise ApiRefusal(404, ProblemCode.UNKNOWN_SILENCE, detail, hint="see GET silences")
    return as_json({"removed": number})


def _row(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "rule": silence.rule,
        "device": silence.device,
        "quantity": silence.quantity,
        "start": rfc3339(silence.start),
        "end": rfc3339(silence.end),
        "by": silence.by,
        "comment": silence.comment,
    }
