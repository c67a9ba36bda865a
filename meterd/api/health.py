"""Whether meterd is alive, whether it is ready, and what site it looks after."""

from typing import Literal

from pydantic import BaseModel, Field

from meterd import __version__
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339


class Alive(BaseModel):
    status: Literal["ok"]


class Ready(BaseModel):
    status: Literal["ready"]


class SiteInfo(BaseModel):
    name: str
    timezone: str = Field(description="IANA name; answers are UTC all the same")
    version: str
    started: str = Field(description="When meterd was started, RFC 3339")
    time: str = Field(description="The server's time, RFC 3339")


async def alive(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return as_json({"status": "ok"})


async def ready(call: ApiCall, query: NoQuery) -> ApiAnswer:
    is_ready, why = call.site.ready()
    if not is_ready:
        raise ApiRefusal(503, ProblemCode.NOT_READY, why, headers={"Retry-After": "1"})
    return as_json({"status": "ready"})


async def site(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return as_json(
        {
            "name": call.site.name,
            "timezone": call.site.timezone,
            "version": __version__,
            "started": rfc3339(call.site.started),
            "time": rfc3339(call.now),
        }
    )
