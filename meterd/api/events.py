"""What was noticed lately: devices down and back, rows left out, counters that jumped, reloads."""

from pydantic import BaseModel, Field

from meterd.api import pages
from meterd.api.answer import ApiAnswer, ApiCall, encode, tagged
from meterd.api.pages import Page, PageQuery
from meterd.api.times import rfc3339
from meterd.model.event import Event, EventKind, Scalar


class OneEvent(BaseModel):
    time: str = Field(description="When it was noticed, RFC 3339")
    device: str = Field(description="Whose it is; empty: meterd's own")
    quantity: str = Field(description="What it is about; empty where that is no quantity")
    kind: str = Field(description=f"One of {', '.join(EventKind)}")
    text: str
    data: dict[str, Scalar] = Field(description="The facts, for programs")


class Events(Page):
    events: list[OneEvent] = Field(description="Newest first, at most 500")


def _key(event: Event) -> str:
    return "\n".join((str(event.time), event.device, str(event.kind), event.text))


async def list_all(call: ApiCall, query: PageQuery) -> ApiAnswer:
    some, following = pages.cut(call.site.events(), query, _key)
    rows = [
        {
            "time": rfc3339(event.time),
            "device": event.device,
            "quantity": event.quantity,
            "kind": str(event.kind),
            "text": event.text,
            "data": dict(event.data),
        }
        for event in some
    ]
    return tagged(encode({"events": rows, "next": following}))
