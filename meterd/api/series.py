"""Every series that the store holds, and how far back it goes."""

from pydantic import BaseModel, Field

from meterd.api.answer import Answer, Call, as_json
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339
from meterd.model.quantity import Kind


class Series(BaseModel):
    device: str
    quantity: str
    unit: str
    kind: Kind
    first: str | None = Field(description="Time of the oldest sample, RFC 3339")
    last: str | None = Field(description="Time of the newest sample, RFC 3339")


class AllSeries(BaseModel):
    series: list[Series]


async def list_all(call: Call, query: NoQuery) -> Answer:
    found = await call.site.reader.series()
    rows = [
        {
            "device": one.device,
            "quantity": one.quantity,
            "unit": one.unit,
            "kind": one.kind,
            "first": None if one.first is None else rfc3339(one.first),
            "last": None if one.last is None else rfc3339(one.last),
        }
        for one in found
    ]
    return as_json({"series": rows})
