"""Who asks for a stream of changes, and of what."""

from pydantic import Field

from meterd.api import known
from meterd.api.answer import Call, Following
from meterd.api.query import Name, Query


class StreamQuery(Query):
    device: list[Name] = Field([], description="Only these devices; may be repeated")
    quantity: list[Name] = Field([], description="Only these quantities; may be repeated")


async def follow(call: Call, query: StreamQuery) -> Following:
    if query.device:
        known.need_devices(query.device, known.ids(call.site), call.site)
    if query.quantity:
        known.need_quantities(query.quantity, known.measured(call.site))
    return Following(frozenset(query.device), frozenset(query.quantity), call.last_event)
