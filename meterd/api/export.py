"""Export: every sample of a window, or buckets of them, as CSV or NDJSON, as long as it takes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from meterd.api import lookups
from meterd.api.answer import ApiCall, StreamedAnswer
from meterd.api.problem import ApiRefusal, ParameterError
from meterd.api.problem_code import ProblemCode
from meterd.api.query import Between, Moment, Name
from meterd.store.query.day_reader import DaySamples
from meterd.store.tools import downsampled_export
from meterd.store.tools.export import TEXTS, Wanted, lines

MEDIA = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}


RESOLUTIONS = ("raw", *downsampled_export.RESOLUTIONS)


def _form(value: object) -> object:
    if value not in MEDIA:
        raise ParameterError(ProblemCode.BAD_FORMAT, "is no format of exports", allowed=list(MEDIA))
    return value


def _resolution(value: object) -> object:
    if value not in RESOLUTIONS:
        why = "is no resolution of exports"
        raise ParameterError(ProblemCode.BAD_RESOLUTION, why, allowed=RESOLUTIONS)
    return value


Form = Annotated[
    str, BeforeValidator(_form), WithJsonSchema({"type": "string", "enum": list(MEDIA)})
]
Resolution = Annotated[
    str, BeforeValidator(_resolution), WithJsonSchema({"type": "string", "enum": list(RESOLUTIONS)})
]


class ExportQuery(Between):
    device: list[Name] = Field([], description="These devices; may be repeated; absent: all")
    quantity: list[Name] = Field([], description="These quantities; may be repeated; absent: all")
    start: Moment | None = Field(
        None, description="First moment; RFC 3339, Unix seconds or now-6h; absent: the oldest"
    )
    end: Moment | None = Field(
        None, description="Moment after the last; RFC 3339, Unix seconds or now; absent: now"
    )
    format: Form = Field("csv", description="csv (with a header) or ndjson (one object a line)")
    resolution: Resolution = Field(
        "raw",
        description="raw: every sample; 15m, 1h or 1d (UTC): n, min, mean, max and increase of "
        "each bucket, which are there even where raw samples are deleted",
    )


async def show(call: ApiCall, query: ExportQuery) -> StreamedAnswer:
    """Every sample with its quality, or buckets; nulls are empty (csv) or null, never 0."""
    end = call.now + 1 if query.end is None else query.end
    start = query.start or 0
    if start >= end:
        hint = "start has to lie before end; absent, they are the oldest sample and now"
        raise ApiRefusal(
            422, ProblemCode.BAD_RANGE, "start is not before end", hint=hint, parameter="start"
        )
    stored = await call.site.reader.series()
    lookups.need_devices(
        query.device, {*lookups.ids(call.site), *(one.device for one in stored)}, call.site
    )
    lookups.need_quantities(query.quantity, {one.quantity for one in stored})
    wanted = Wanted(frozenset(query.device) or None, frozenset(query.quantity) or None, start, end)
    reader, held = call.site.reader, _HeldSamples()
    headers = {"Content-Disposition": f'attachment; filename="meterd.{query.format}"'}
    pieces = TEXTS[query.format](lines(reader, wanted, held.load))
    if query.resolution != "raw":
        pieces = downsampled_export.TEXTS[query.format](
            downsampled_export.buckets(reader, wanted, query.resolution)
        )
    return StreamedAnswer(_parts(pieces), MEDIA[query.format], headers, lambda: held.size)


class _HeldSamples:
    """How many bytes of samples an export has in memory."""

    def __init__(self) -> None:
        self.size = 0

    def load(self, day: DaySamples | None) -> None:
        """These samples take the place of those before."""
        if day is None:
            self.size = 0
            return
        # The times once more for each column that is written, and what was decoded.
        rows = sum(len(column.values) for column in day.chunk.columns)
        self.size = 3 * (8 * rows + 8 * len(day.chunk.times))


async def _parts(pieces: Iterator[str]) -> AsyncIterator[bytes]:
    """Made in a thread, one when the one before is taken: polls go on meanwhile."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece.encode(errors="replace")
