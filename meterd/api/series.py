"""Every series that the store holds, and how far back it goes."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from meterd.api import pages
from meterd.api.answer import ApiAnswer, ApiCall, encode, tagged
from meterd.api.pages import Page, PageQuery
from meterd.api.query import Name
from meterd.api.times import rfc3339
from meterd.model.quantity import Kind

if TYPE_CHECKING:
    from meterd.store.query.range_query import SeriesInfo


class SeriesQuery(PageQuery):
    device: list[Name] = Field([], description="Only these devices; may be repeated")
    quantity: list[Name] = Field([], description="Only these quantities; may be repeated")


class Series(BaseModel):
    device: str
    quantity: str
    unit: str
    kind: Kind
    first: str | None = Field(description="Time of the oldest sample, RFC 3339")
    last: str | None = Field(description="Time of the newest sample, RFC 3339")


class AllSeries(Page):
    series: list[Series]


def _key(one: "SeriesInfo") -> str:
    return f"{one.device}\n{one.quantity}\n{one.unit}"


def _wanted(one: "SeriesInfo", query: SeriesQuery) -> bool:
    is_device = not query.device or one.device in query.device
    return is_device and (not query.quantity or one.quantity in query.quantity)


async def list_all(call: ApiCall, query: SeriesQuery) -> ApiAnswer:
    # Tens of thousands of series take a fifth of a second: polls go on meanwhile.
    return await asyncio.to_thread(_answer, await call.site.reader.series(), query)


def _answer(known: "Sequence[SeriesInfo]", query: SeriesQuery) -> ApiAnswer:
    found = [one for one in known if _wanted(one, query)]
    some, following = pages.cut(found, query, _key)
    rows = [
        {
            "device": one.device,
            "quantity": one.quantity,
            "unit": one.unit,
            "kind": one.kind,
            "first": rfc3339(one.first),
            "last": rfc3339(one.last),
        }
        for one in some
    ]
    return tagged(encode({"series": rows, "next": following}))
