"""The newest sample of each series, and whether it can still be believed."""

import asyncio
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import BaseModel, Field

from meterd.api import lookups
from meterd.api.answer import ApiAnswer, ApiCall, encode
from meterd.api.query import ApiQuery, Name
from meterd.api.times import rfc3339, spell
from meterd.model.sample import Poll, Quality, QualityFlag
from meterd.poll.latest import DeviceState, Latest

if TYPE_CHECKING:
    from meterd.daemon.info import DeviceInfo
    from meterd.daemon.site import Site
    from meterd.store.query.range_query import SeriesInfo

# A sample older than this many intervals of its device is stale.
STALE_INTERVALS = 3

_GOOD = QualityFlag(Quality.GOOD, "")


class LatestQuery(ApiQuery):
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


class NewestPoll(NamedTuple):
    """A poll that has newest samples, and the flag that makes them stale."""

    poll: Poll
    stale: QualityFlag | None


def newest(device: "DeviceInfo", state: DeviceState, now: int) -> Iterator[NewestPoll]:
    """The polls that together hold a device's newest samples, newest first. `now` is Unix ms.

    Slow columns come with every n-th poll only, so the newest poll need not have them all.
    """
    last = state.last
    if last is None:
        return
    usual = device.interval * 1000
    if not last.up:
        # That it is down is known, and as good as any other sample.
        yield NewestPoll(last, None)
    for part in state.parts:
        if not last.up:
            yield NewestPoll(part.poll, _down(device.id, state))
            continue
        every = usual if part.poll is last else part.interval(usual)
        overdue = now - part.poll.time > STALE_INTERVALS * every
        yield NewestPoll(part.poll, _overdue(every, part.poll) if overdue else None)


def _down(device: str, state: DeviceState) -> QualityFlag:
    since = f" since {rfc3339(state.since)}" if state.since is not None else ""
    why = f": {state.fault.code}: {state.fault.text}" if state.fault is not None else ""
    return QualityFlag(Quality.STALE, f"{device} is down{since}{why}")


def _overdue(every: float, poll: Poll) -> QualityFlag:
    reason = f"no poll since {rfc3339(poll.time)}, though one is due every {spell(round(every))}"
    return QualityFlag(Quality.STALE, reason)


class _Pieces(NamedTuple):
    """A poll's rows as JSON, cut at their ages, which alone differ from call to call."""

    found: NewestPoll
    seen: frozenset[str]
    bytes: list[bytes]


def _pieces(newest_poll: NewestPoll, seen: frozenset[str], quantities: Collection[str]) -> _Pieces:
    """The columns that no newer poll has (`seen`), and that are wanted."""
    poll, stale = newest_poll
    layout, doubts = poll.layout, poll.doubts
    time = encode(rfc3339(poll.time))
    cuts, head = [], b""
    for column, quantity in enumerate(layout.quantities):
        if quantity in seen or (quantities and quantity not in quantities):
            continue
        quality, reason = _GOOD if not doubts else doubts.get(column, _GOOD)
        if stale is not None:
            quality, reason = _aged(stale, quality, reason)
        names = {"device": poll.device, "quantity": quantity, "value": poll.values[column]}
        before = encode({**names, "unit": layout.units[column]})[:-1]
        cuts.append(b'%b%b,"time":%b,"age_s":' % (head, before, time))
        head = b",%b}," % encode({"quality": quality, "reason": reason})[1:-1]
    return _Pieces(newest_poll, seen, [*cuts, head[:-1]] if cuts else [])


def _aged(stale: QualityFlag, quality: Quality, reason: str) -> QualityFlag:
    """Stale, without forgetting what was wrong with the sample when it was new."""
    return (
        stale
        if quality is Quality.GOOD
        else QualityFlag(stale.quality, f"{stale.reason}; {reason}")
    )


class _Memory:
    """The encoded rows of one query, by device and place among its polls."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._pieces: dict[tuple[str, int], _Pieces] = {}

    def rows(self, device: "DeviceInfo", state: DeviceState, now: int) -> Iterator[bytes]:
        """Rows of each of the device's polls, with commas between."""
        seen: frozenset[str] = frozenset()
        for place, newest_poll in enumerate(newest(device, state, now)):
            written = self._pieces.get((device.id, place))
            is_known = written is not None and written.found.poll is newest_poll.poll
            if (
                written is None
                or not is_known
                or written.found != newest_poll
                or written.seen != seen
            ):
                written = _pieces(newest_poll, seen, self._wanted)
                self._pieces[device.id, place] = written
            if written.bytes:
                age = max(0, now - newest_poll.poll.time) / 1000
                yield (b"%r" % age).join(written.bytes)
            seen |= newest_poll.poll.layout.index.keys()


_Key = tuple[tuple[str, ...], tuple[str, ...]]

# Queries whose answers are remembered: dashboards ask the same again and again.
_MOST_MEMORIES = 32
_memories: "WeakKeyDictionary[Latest, dict[_Key, _Memory]]" = WeakKeyDictionary()


def _memory(site: "Site", query: LatestQuery) -> _Memory:
    by_query = _memories.setdefault(site.latest, {})
    key = (tuple(query.device), tuple(query.quantity))
    memory = by_query.get(key)
    if memory is None:
        if len(by_query) >= _MOST_MEMORIES:
            by_query.clear()
        memory = by_query[key] = _Memory(frozenset(query.quantity))
    return memory


def _body(call: ApiCall, query: LatestQuery, left: Sequence[bytes] = ()) -> bytes:
    """`left`: rows of devices that are polled no more."""
    site, now = call.site, call.now
    memory = _memory(site, query)
    rows: list[bytes] = []
    for device in site.devices():
        state = site.latest.states.get(device.id)
        if state is None or state.last is None:
            state = site.elsewhere.states.get(device.id)
        if state is not None and (not query.device or device.id in query.device):
            rows += memory.rows(device, state, now)
    rows += left
    return b'{"time":"%b","samples":[%b]}' % (rfc3339(now).encode(), b",".join(rows))


async def show(call: ApiCall, query: LatestQuery) -> ApiAnswer:
    polled = {device.id for device in call.site.devices() if device.enabled}
    unpolled = [name for name in dict.fromkeys(query.device) if name not in polled]
    if not unpolled:
        if query.quantity:
            lookups.need_quantities(query.quantity, lookups.measured(call.site))
        return ApiAnswer(_body(call, query))
    # Only those that are named: what was polled long ago is no news to who asks for all.
    stored = await call.site.reader.series()
    lookups.need_devices(
        unpolled, {*lookups.ids(call.site), *(info.device for info in stored)}, call.site
    )
    named = {*lookups.measured(call.site), *(info.quantity for info in stored)}
    lookups.need_quantities(query.quantity, named)
    mine = [
        info
        for info in stored
        if info.device in unpolled and (not query.quantity or info.quantity in query.quantity)
    ]
    return ApiAnswer(_body(call, query, await asyncio.to_thread(_stored_only, call, mine)))


def _stored_only(call: ApiCall, series: "Sequence[SeriesInfo]") -> list[bytes]:
    """The last sample of each series, for devices that are polled no more."""
    by_time: dict[tuple[str, int], list[SeriesInfo]] = {}
    for info in series:
        by_time.setdefault((info.device, info.last), []).append(info)
    rows: list[bytes] = []
    for (device, last), some in by_time.items():
        names = [(info.device, info.quantity, info.unit) for info in some]
        columns = call.site.reader.columns(names, last, last + 1)
        for info, (_, values) in zip(some, columns, strict=True):
            value = float(values[-1]) if len(values) else math.nan
            row = {
                "device": device,
                "quantity": info.quantity,
                "value": value if math.isfinite(value) else None,
                "unit": info.unit,
                "time": rfc3339(last),
                "age_s": max(0, call.now - last) / 1000,
                "quality": Quality.STALE,
                "reason": f"{device} is polled no more; this is its last sample",
            }
            rows.append(encode(row))
    return rows
