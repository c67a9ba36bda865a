"""Who asks for a stream of changes, and of what."""

from pydantic import Field

from meterd.api import lookups
from meterd.api.answer import ApiCall, FollowingClient
from meterd.api.query import ApiQuery, Name


class StreamQuery(ApiQuery):
    device: list[Name] = Field([], description="Only these devices; may be repeated")
    quantity: list[Name] = Field([], description="Only these quantities; may be repeated")


async def follow(call: ApiCall, query: StreamQuery) -> FollowingClient:
    if query.device:
        lookups.need_devices(query.device, lookups.ids(call.site), call.site)
    if query.quantity:
        lookups.need_quantities(query.quantity, lookups.measured(call.site))
    return FollowingClient(frozenset(query.device), frozenset(query.quantity), call.last_event)
