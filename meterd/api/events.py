"""What was noticed of counters lately: rollovers, resets, glitches, swapped meters."""

from pydantic import BaseModel, Field

from meterd.api import pages
from meterd.api.answer import Answer, Call, encode, tagged
from meterd.api.pages import Page, PageQuery
from meterd.api.times import rfc3339
from meterd.poll.counters import Event


class OneEvent(BaseModel):
    time: str = Field(description="When it was noticed, RFC 3339")
    device: str
    quantity: str
    kind: str = Field(description="rollover, reset, glitch, stuck or swap")
    text: str


class Events(Page):
    events: list[OneEvent] = Field(description="Newest first, at most 500")


def _key(event: Event) -> str:
    return "\n".join((str(event.time_ms), event.device, event.quantity, str(event.kind)))


async def list_all(call: Call, query: PageQuery) -> Answer:
    some, following = pages.cut(call.site.events(), query, _key)
    rows = [
        {
            "time": rfc3339(event.time_ms),
            "device": event.device,
            "quantity": event.quantity,
            "kind": str(event.kind),
            "text": event.text,
        }
        for event in some
    ]
    return tagged(encode({"events": rows, "next": following}))
