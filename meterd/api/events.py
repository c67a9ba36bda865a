"""What was noticed of counters lately: rollovers, resets, glitches, swapped meters."""

from pydantic import BaseModel, Field

from meterd.api.answer import Answer, Call, as_json
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339


class OneEvent(BaseModel):
    time: str = Field(description="When it was noticed, RFC 3339")
    device: str
    quantity: str
    kind: str = Field(description="rollover, reset, glitch, stuck or swap")
    text: str


class Events(BaseModel):
    events: list[OneEvent] = Field(description="Newest first, at most 500")


async def list_all(call: Call, query: NoQuery) -> Answer:
    rows = [
        {
            "time": rfc3339(event.time_ms),
            "device": event.device,
            "quantity": event.quantity,
            "kind": str(event.kind),
            "text": event.text,
        }
        for event in call.site.events()
    ]
    return as_json({"events": rows})
