"""The newest sample of each series, and whether it can still be believed."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from meterd.api import known
from meterd.api.answer import Answer, Call, as_json
from meterd.api.query import Name, Query
from meterd.api.site import DeviceInfo
from meterd.api.times import rfc3339, spell
from meterd.model.sample import Doubt, Poll, Quality
from meterd.poll.latest import DeviceState

# A sample older than this many intervals of its device is stale.
STALE_INTERVALS = 3

_GOOD = Doubt(Quality.GOOD, "")


class LatestQuery(Query):
    device: list[Name] = Field([], description="Only these devices; may be repeated")
    quantity: list[Name] = Field([], description="Only these quantities; may be repeated")


class LatestSample(BaseModel):
    device: str
    quantity: str
    value: float | None = Field(description="Null where it is not known: see reason")
    unit: str
    time: str = Field(description="When it was measured, RFC 3339")
    age_s: float = Field(description="Seconds since then")
    quality: Quality
    reason: str = Field(description="Why it is not simply good; else empty")


class LatestSamples(BaseModel):
    time: str = Field(description="The server's time, RFC 3339")
    samples: list[LatestSample]


class Newest(NamedTuple):
    """A poll that holds newest samples, and what is to be said of them."""

    poll: Poll
    stale: Doubt | None


def newest(device: DeviceInfo, state: DeviceState, now: int) -> Iterator[Newest]:
    """The polls that together hold a device's newest samples, newest first. `now` is Unix ms.

    Slow columns come with every n-th poll only, so the newest poll need not have them all.
    """
    last = state.last
    if last is None:
        return
    usual = device.interval * 1000
    if not last.up:
        # That it is down is known, and as good as any other sample.
        yield Newest(last, None)
    for part in state.parts:
        if not last.up:
            yield Newest(part.poll, _down(device.id, state))
            continue
        every = usual if part.poll is last else part.interval(usual)
        overdue = now - part.poll.time > STALE_INTERVALS * every
        yield Newest(part.poll, _overdue(every, part.poll) if overdue else None)


def _down(device: str, state: DeviceState) -> Doubt:
    since = f" since {rfc3339(state.since)}" if state.since is not None else ""
    why = f": {state.fault.code}: {state.fault.text}" if state.fault is not None else ""
    return Doubt(Quality.STALE, f"{device} is down{since}{why}")


def _overdue(every: float, poll: Poll) -> Doubt:
    reason = f"no poll since {rfc3339(poll.time)}, though one is due every {spell(round(every))}"
    return Doubt(Quality.STALE, reason)


def _rows(
    found: Newest, now: int, wanted: Collection[str], seen: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The columns that no newer poll has."""
    poll, stale = found
    layout, doubts = poll.layout, poll.doubts
    time, age = rfc3339(poll.time), max(0, now - poll.time) / 1000
    for column, quantity in enumerate(layout.quantities):
        if quantity in seen or (wanted and quantity not in wanted):
            continue
        quality, reason = _GOOD if not doubts else doubts.get(column, _GOOD)
        if stale is not None:
            quality, reason = _aged(stale, quality, reason)
        yield {
            "device": poll.device,
            "quantity": quantity,
            "value": poll.values[column],
            "unit": layout.units[column],
            "time": time,
            "age_s": age,
            "quality": quality,
            "reason": reason,
        }


def _aged(stale: Doubt, quality: Quality, reason: str) -> Doubt:
    """Stale, without forgetting what was wrong with the sample when it was new."""
    return stale if quality is Quality.GOOD else Doubt(stale.quality, f"{stale.reason}; {reason}")


def _samples(call: Call, query: LatestQuery) -> Iterator[dict[str, Any]]:
    site, now, wanted = call.site, call.now, frozenset(query.quantity)
    for device in site.devices():
        if query.device and device.id not in query.device:
            continue
        state = site.latest.states.get(device.id)
        if state is None or state.last is None:
            continue
        seen: set[str] = set()
        for found in newest(device, state, now):
            yield from _rows(found, now, wanted, seen)
            seen.update(found.poll.layout.quantities)


async def show(call: Call, query: LatestQuery) -> Answer:
    if query.device:
        known.need_devices(query.device, known.ids(call.site))
    if query.quantity:
        known.need_quantities(query.quantity, known.measured(call.site))
    return as_json({"time": rfc3339(call.now), "samples": list(_samples(call, query))})
