"""History: the points of series between two times, in buckets that a client can hold."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from meterd.api import known
from meterd.api.answer import Answer, Call, encode
from meterd.api.problem import Refusal
from meterd.api.query import Aggregate, Moment, Name, Query, Step
from meterd.api.site import Points, Site
from meterd.api.times import spell
from meterd.model.quantity import CATALOGUE

MOST_POINTS = 11_000  # a series; Prometheus' limit, which clients know
MOST_ALTOGETHER = 500_000  # an answer: about 12 MB of JSON
COMFORTABLE_POINTS = 1000  # a series, where the client names no step
DEADLINE = 20.0  # seconds that the store may think

_RAW = 0
_DAY = 86_400_000
_NICE = [s * 1000 for s in (1, 2, 5, 10, 15, 30)]
_NICE += [m * 60_000 for m in (1, 2, 5, 10, 15, 30)]
_NICE += [h * 3_600_000 for h in (1, 2, 3, 6, 12)]


class RangeQuery(Query):
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
        description="Width of a bucket (10s, 5m, 1h, or seconds); raw: every sample as polled; "
        f"absent: chosen so that a series has at most {COMFORTABLE_POINTS} points",
    )
    agg: Aggregate | None = Field(
        None, description="How a bucket's samples become one point; absent: avg"
    )


class RangeSeries(BaseModel):
    device: str
    quantity: str
    unit: str
    points: list[tuple[int, float | None]] = Field(
        description="[Unix ms, value] in time order; a bucket without samples has no point"
    )


class Range(BaseModel):
    series: list[RangeSeries]
    step_ms: int = Field(description="Width of a bucket; 0: every sample as polled")


class Window(NamedTuple):
    """What to ask the reader for; times and step in ms."""

    start: int
    end: int
    step: int


def nice_step(span: int, least: int = 0) -> int:
    """The shortest round step (ms) that is at least `least` and cuts `span` (ms) comfortably."""
    needed = max(-(-span // COMFORTABLE_POINTS), least)
    for step in _NICE:
        if step >= needed:
            return step
    return -(-needed // _DAY) * _DAY


def _window(call: Call, query: RangeQuery) -> Window:
    end = call.now if query.end is None else query.end
    start = max(0, end - 3_600_000) if query.start is None else query.start
    if start >= end:
        hint = "start has to lie before end; absent, they are now-1h and now"
        raise Refusal(422, "bad_range", "start is not before end", hint=hint, parameter="start")
    if query.step == _RAW and query.agg is not None:
        hint = "leave agg out, or name a step"
        raise Refusal(422, "agg_of_raw", "step=raw aggregates nothing", hint=hint, parameter="agg")
    step = nice_step(end - start, _interval(call.site, query)) if query.step is None else query.step
    return Window(start, end, step)


def _interval(site: Site, query: RangeQuery) -> int:
    """The longest interval (ms) of the devices asked for: shorter steps would tear holes."""
    asked = frozenset(query.device)
    chosen = [d.interval for d in site.devices() if not asked or d.id in asked]
    return round(max(chosen, default=0) * 1000)


def _check_size(window: Window, least_interval: int, columns: int) -> None:
    span = window.end - window.start
    raw = window.step == _RAW
    points = -(-span // max(window.step or least_interval, 1))
    if points > MOST_POINTS:
        what = "every sample" if raw else f"step {spell(window.step)}"
        raise Refusal(
            422,
            "too_many_points",
            f"{what} gives up to {points} points a series; {MOST_POINTS} is the limit",
            hint=f"the shortest step for this range is {spell(_shortest(span, MOST_POINTS))}",
            parameter="step",
        )
    if points * columns > MOST_ALTOGETHER:
        most = max(1, MOST_ALTOGETHER // columns)
        raise Refusal(
            422,
            "too_much",
            f"{columns} series of up to {points} points are more than {MOST_ALTOGETHER} points",
            hint=f"ask for fewer series, or for step={spell(_shortest(span, most))} or longer",
            parameter="step",
        )


def _shortest(span: int, points: int) -> int:
    """The shortest step (ms), in whole seconds, that keeps to so many points."""
    return -(-span // (points * 1000)) * 1000


async def _names(call: Call, query: RangeQuery) -> tuple[list[str], list[str]]:
    """The devices and quantities meant; the store is asked only where the site cannot tell."""
    site = call.site
    devices, quantities = set(known.ids(site)), known.measured(site)
    live = set(query.device) <= devices
    plain = all(name in quantities or name in CATALOGUE for name in query.quantity)
    if not (live and plain and query.quantity):
        stored = await site.reader.series()
        devices.update(one.device for one in stored)
        quantities.update(one.quantity for one in stored)
    known.need_devices(query.device, devices)
    known.need_quantities(query.quantity, quantities)
    return (
        list(dict.fromkeys(query.device)) or sorted(devices),
        list(dict.fromkeys(query.quantity)) or sorted(quantities),
    )


def _columns(site: Site, devices: Sequence[str], quantities: Sequence[str]) -> int:
    """How many series these names have at least; one where none is known yet."""
    wanted = frozenset(quantities)
    found = 0
    for device in devices:
        state = site.latest.states.get(device)
        if state is not None and (poll := state.good or state.last) is not None:
            found += len(wanted.intersection(poll.layout.quantities))
    return max(1, found)


async def _ask(site: Site, names: tuple[list[str], list[str]], window: Window, agg: str) -> Any:
    try:
        async with asyncio.timeout(DEADLINE):
            return await site.reader.range(*names, *window, agg)
    except TimeoutError as error:
        detail = f"the store did not answer within {DEADLINE:g} s"
        hint = "ask for a shorter range or fewer series"
        raise Refusal(503, "slow", detail, hint=hint, headers={"Retry-After": "5"}) from error


async def show(call: Call, query: RangeQuery) -> Answer:
    window = _window(call, query)
    devices, quantities = names = await _names(call, query)
    site = call.site
    fastest = min((d.interval for d in site.devices() if d.id in devices), default=1.0)
    _check_size(window, round(fastest * 1000), _columns(site, devices, quantities))
    found: Sequence[Points] = []
    if devices and quantities:
        found = await _ask(site, names, window, query.agg or "avg")
    return Answer(await _body(found, window.step))


async def _body(found: Sequence[Points], step: int) -> bytes:
    parts: list[bytes] = []
    for one in found:
        # One more: buckets start on round times, so a range may touch one at either end.
        if len(one.points) > MOST_POINTS + 1:
            detail = f"{one.device} {one.quantity} has more than {MOST_POINTS} points there"
            hint = "ask for a shorter range or a longer step"
            raise Refusal(422, "too_many_points", detail, hint=hint, parameter="step")
        parts.append(
            encode(
                {
                    "device": one.device,
                    "quantity": one.quantity,
                    "unit": one.unit,
                    "points": one.points,
                }
            )
        )
        # Polls go on while a large answer is written: one series at a time.
        await asyncio.sleep(0)
    return b'{"series":[%b],"step_ms":%d}' % (b",".join(parts), step)
