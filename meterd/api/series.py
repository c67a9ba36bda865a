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


def _key(info: "SeriesInfo") -> str:
    return f"{info.device}\n{info.quantity}\n{info.unit}"


def _wanted(info: "SeriesInfo", query: SeriesQuery) -> bool:
    is_device = not query.device or info.device in query.device
    return is_device and (not query.quantity or info.quantity in query.quantity)


async def list_all(call: ApiCall, query: SeriesQuery) -> ApiAnswer:
    # Tens of thousands of series take a fifth of a second: polls go on meanwhile.
    return await asyncio.to_thread(_answer, await call.site.reader.series(), query)


def _answer(infos: "Sequence[SeriesInfo]", query: SeriesQuery) -> ApiAnswer:
    selected = [info for info in infos if _wanted(info, query)]
    page, following = pages.cut(selected, query, _key)
    rows = [
        {
            "device": info.device,
            "quantity": info.quantity,
            "unit": info.unit,
            "kind": info.kind,
            "first": rfc3339(info.first),
            "last": rfc3339(info.last),
        }
        for info in page
    ]
    return tagged(encode({"series": rows, "next": following}))
