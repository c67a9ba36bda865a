"""History: the points of series between two times, in buckets that a client can hold."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, RootModel

from meterd.api import lookups
from meterd.api.answer import ApiAnswer, ApiCall, encode, tagged
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.query import Aggregate, Between, Count, Moment, Name, Step
from meterd.api.window import (
    COMFORTABLE_POINTS,
    DAY,
    MOST_POINTS,
    RAW,
    RangeWindow,
    check_altogether,
    check_points,
    kept,
    nice_step,
    thinned,
)
from meterd.model.quantity import is_known

if TYPE_CHECKING:
    from meterd.daemon.site import Site
    from meterd.store.query.range_query import SeriesPoints

DEADLINE = 20.0  # seconds that the store may think


class RangeQuery(Between):
    device: list[Name] = Field([], description="These devices; may be repeated; absent: all")
    quantity: list[Name] = Field([], description="These quantities; may be repeated; absent: all")
    start: Moment | None = Field(
        None, description="First moment; RFC 3339, Unix seconds or now-6h; absent: end less 1 h"
    )
    end: Moment | None = Field(
        None, description="Moment after the last; RFC 3339, Unix seconds or now; absent: now"
    )
    step: Step | None = Field(
        None,
        description="Width of a bucket (10s, 5m, 1h, or seconds), at multiples since 1970 UTC; "
        "1d, 1w, 1mo, 1y and multiples: days, weeks from Monday, months and years of the site's "
        "clock, as long as they are; 24h: 24 hours of UTC; raw: every sample as polled; "
        f"absent: chosen so that a series has at most max_points, else {COMFORTABLE_POINTS}",
    )
    max_points: Count | None = Field(
        None,
        description="The most points that a series may have; a step that would give more is "
        "raised, and the answer says so",
        json_schema_extra={"maximum": MOST_POINTS},
    )
    agg: list[Aggregate] = Field(
        [], description="How a bucket's samples become one point; may be repeated; absent: avg"
    )
    shape: Literal["series", "flat"] = Field(
        "series", description="flat: one list with an object for each point, as tables want it"
    )


class RangeSeries(BaseModel):
    device: str
    quantity: str
    unit: str
    agg: str | None = Field(description="How points were made of samples; null: they are samples")
    points: list[tuple[int, float | None]] = Field(
        description="[Unix ms, value] in time order; a bucket without samples has no point"
    )


class RaisedStep(BaseModel):
    from_ms: int = Field(description="The step that was asked for; 0: raw")
    why: str


class Range(BaseModel):
    series: list[RangeSeries]
    step_ms: int = Field(
        description="The same in ms, 0 for raw; of 1d, 1w, 1mo and 1y 24 hours, 7, 30 and 365 "
        "times that, whatever they have"
    )
    raised: RaisedStep | None = Field(
        description="Where the step is longer than asked for: from what, and why"
    )
    step: str | None = Field(
        None, description="Where it is one of the calendar: 1d, 3d, 1w, 1mo, 1y; else not there"
    )
    timezone: str | None = Field(
        None, description="IANA name of that calendar's clock; else not there"
    )


class FlatPoint(BaseModel):
    time: int = Field(description="Unix ms")
    device: str
    quantity: str
    unit: str
    agg: str | None
    value: float | None


class RangeAnswer(RootModel[Range | list[FlatPoint]]):
    """By `shape`: series with their points, or a flat list of points."""


class _Found(NamedTuple):
    """The series of one aggregate; None for raw samples."""

    agg: str | None
    series: "Sequence[SeriesPoints]"


def _window(call: ApiCall, query: RangeQuery) -> RangeWindow:
    end = call.now if query.end is None else query.end
    start = max(0, end - 3_600_000) if query.start is None else query.start
    if start >= end:
        hint = "start has to lie before end; absent, they are now-1h and now"
        raise ApiRefusal(
            422, ProblemCode.BAD_RANGE, "start is not before end", hint=hint, parameter="start"
        )
    if query.step is not None and query.step.ms == RAW and query.agg:
        hint = "leave agg out, or name a step"
        raise ApiRefusal(
            422, ProblemCode.AGG_OF_RAW, "step=raw aggregates nothing", hint=hint, parameter="agg"
        )
    intervals = _intervals(call.site, query)
    most = query.max_points or COMFORTABLE_POINTS
    if query.step is None:
        # Steps shorter than the longest interval would tear holes.
        step = nice_step(end - start, max(intervals, default=0), most)
        window = RangeWindow(start, end, step).chosen(step)
        return kept(window, call.site.keep_raw, call.now)._replace(raised=None)
    window = RangeWindow(start, end, query.step.ms, calendar=query.step.calendar)
    if query.max_points is not None:
        window = thinned(window, query.max_points, min(intervals, default=1000))
    return kept(window, call.site.keep_raw, call.now)


def _intervals(site: "Site", query: RangeQuery) -> list[int]:
    """The polling intervals of the devices of the request, in ms."""
    named = frozenset(query.device)
    return [round(d.interval * 1000) for d in site.devices() if not named or d.id in named]


async def _names(call: ApiCall, query: RangeQuery) -> tuple[list[str], list[str]]:
    """The devices and quantities of the request; the store is read only where the site lacks them.

    Where no device is named, those that are left in the store alone are meant, too.
    """
    site = call.site
    devices, quantities = set(lookups.ids(site)), lookups.measured(site)
    live = bool(query.device) and set(query.device) <= devices
    plain = all(name in quantities or is_known(name) for name in query.quantity)
    if not (live and plain and query.quantity):
        stored = await site.reader.series()
        devices.update(series.device for series in stored)
        quantities.update(series.quantity for series in stored)
    lookups.need_devices(query.device, devices, site)
    lookups.need_quantities(query.quantity, quantities)
    return (
        list(dict.fromkeys(query.device)) or sorted(devices),
        list(dict.fromkeys(query.quantity)) or sorted(quantities),
    )


def _columns(site: "Site", devices: Sequence[str], quantities: Sequence[str]) -> int:
    """The least number of series of these names; one where none is known yet."""
    named = frozenset(quantities)
    count = 0
    for device in devices:
        state = site.latest.states.get(device)
        if state is not None and (poll := state.good or state.last) is not None:
            count += len(named.intersection(poll.layout.quantities))
    return max(1, count)


def _edges(call: ApiCall, window: RangeWindow) -> list[int]:
    """Where buckets begin; empty: at multiples of the step."""
    if window.calendar is None:
        return []
    # Of the future there is nothing: its days need not be found.
    end = max(window.start + 1, min(window.end, call.now + 2 * DAY))
    return window.calendar.edges(ZoneInfo(call.site.timezone), window.start, end)


async def _read_series(
    site: "Site",
    names: tuple[list[str], list[str]],
    window: RangeWindow,
    agg: str,
    edges: Sequence[int],
) -> Any:
    try:
        async with asyncio.timeout(DEADLINE):
            return await site.reader.range(*names, *window[:3], agg, edges)
    except TimeoutError as error:
        detail = f"the store did not answer within {DEADLINE:g} s"
        hint = "ask for a shorter range or fewer series"
        raise ApiRefusal(
            503, ProblemCode.SLOW, detail, hint=hint, headers={"Retry-After": "5"}
        ) from error


async def show(call: ApiCall, query: RangeQuery) -> ApiAnswer:
    window = _window(call, query)
    site = call.site
    # What is far too much is refused before the store is asked for names.
    points = check_points(window, min(_intervals(site, query), default=1000))
    devices, quantities = names = await _names(call, query)
    aggregates = list(dict.fromkeys(query.agg)) or ["avg"]
    check_altogether(window, points, _columns(site, devices, quantities) * len(aggregates))
    edges = _edges(call, window)
    parts: list[_Found] = []
    for agg in aggregates if devices and quantities else ():
        series = await _read_series(site, names, window, agg, edges)
        parts.append(_Found(None if window.step == RAW else agg, series))
    _check_found(parts)
    if query.shape == "flat":
        return tagged(await _flat(parts))
    head: dict[str, Any] = {
        "step_ms": window.step,
        "raised": window.raised and {"from_ms": window.raised.step, "why": window.raised.why},
    }
    if window.calendar is not None:
        head |= {"step": window.text, "timezone": site.timezone}
    return tagged(await _series(parts, head))


def _check_found(found: Sequence[_Found]) -> None:
    for one in (one for part in found for one in part.series):
        # One more: buckets start on round times, so a range may touch one at either end.
        if len(one.points) > MOST_POINTS + 1:
            detail = f"{one.device} {one.quantity} has more than {MOST_POINTS} points there"
            hint = "ask for a shorter range or a longer step"
            raise ApiRefusal(422, ProblemCode.TOO_MANY_POINTS, detail, hint=hint, parameter="step")


async def _series(found: Sequence[_Found], head: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    for agg, series in ((part.agg, series) for part in found for series in part.series):
        names = {
            "device": series.device,
            "quantity": series.quantity,
            "unit": series.unit,
            "agg": agg,
        }
        parts.append(encode({**names, "points": series.points}))
        # Polls go on while a large answer is written: one series at a time.
        await asyncio.sleep(0)
    return b'{"series":[%b],%b' % (b",".join(parts), encode(head)[1:])


async def _flat(found: Sequence[_Found]) -> bytes:
    parts: list[bytes] = []
    for agg, series in ((part.agg, series) for part in found for series in part.series):
        rows = list(_rows(series, agg))
        if rows:
            parts.append(encode(rows)[1:-1])
        await asyncio.sleep(0)
    return b"[%b]" % b",".join(parts)


def _rows(series: "SeriesPoints", agg: str | None) -> Iterator[dict[str, Any]]:
    names = {"device": series.device, "quantity": series.quantity, "unit": series.unit, "agg": agg}
    for time, value in series.points:
        yield {"time": time, **names, "value": value}
