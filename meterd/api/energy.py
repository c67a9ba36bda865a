"""Energy by hour, day, week, month or year of the site's own clock, and what it costs."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from meterd.api import lookups
from meterd.api.answer import ApiAnswer, ApiCall, encode
from meterd.api.problem import ApiRefusal, unknown
from meterd.api.problem_code import ProblemCode
from meterd.api.query import Between, Moment, Name
from meterd.api.times import rfc3339
from meterd.energy.bill import Bill, money
from meterd.energy.consumption import (
    Consumption,
    EnergyQuantity,
    consume,
    default_start,
    energy_quantity,
    period_spans,
)
from meterd.energy.periods import HOUR, Period, PeriodSpan
from meterd.energy.quarter import COUNTER, QuarterSeries, quarter_floor
from meterd.energy.tally import EnergyBucket
from meterd.energy.tariff import Tariff
from meterd.energy.zone_clock import DAY
from meterd.model.quantity import CATALOGUE, is_known

if TYPE_CHECKING:
    from meterd.daemon.site import Site

MOST_BUCKETS = 11_000  # a series, as of points
MOST_ROWS = 50_000  # an answer: about 12 MB of JSON
DEADLINE = 20.0  # seconds that the store may think
_LONG = 32 * DAY  # of a question, in ms
_WIDTH = {Period.HOUR: HOUR, Period.DAY: DAY}

IMPORT = "active_energy.import"

PeriodName = Literal["hour", "day", "week", "month", "year"]


class EnergyQuery(Between):
    device: list[Name] = Field([], description="These devices; may be repeated; absent: all")
    quantity: list[Name] = Field(
        [],
        description=f"Energy counters, and .net, import less export; absent: {IMPORT}",
    )
    period: PeriodName = Field("day", description="By the clock of the site; weeks from Monday on")
    start: Moment | None = Field(
        None,
        description="First moment; RFC 3339, Unix seconds or now-30d, rounded down to a quarter "
        "hour; absent: 24 hours, 31 days, 13 weeks, 13 months or 10 years up to the end",
    )
    end: Moment | None = Field(
        None, description="Moment after the last, rounded up to a quarter hour; absent: now"
    )
    snap: Literal["quarter", "period"] = Field(
        "quarter", description="period: round start and end outwards to whole periods instead"
    )
    tariff: Name | None = Field(
        None, description="Price by this tariff of the configuration; absent: no costs"
    )


class RatePart(BaseModel):
    value: float = Field(description="Energy under this rate, in the row's unit")
    cost: str = Field(description="Its cost, an exact decimal number")


class EnergyRow(BaseModel):
    device: str
    quantity: str
    unit: str
    start: str = Field(description="What the row covers begins here, RFC 3339")
    end: str = Field(description="And ends before this, RFC 3339")
    time_ms: int = Field(description="The start as Unix ms")
    value: float | None = Field(description="Null where nothing is known, never 0 for it")
    complete: bool = Field(description="A whole period, over, and known from end to end")
    known_share: float = Field(description="Part of its time that is known, 0 to 1")
    estimated: bool = Field(description="Some of it was interpolated over a hole or integrated")
    estimated_share: float = Field(description="Part of the known time that was, 0 to 1")
    method: Literal["counter", "integrated", "mixed"] | None = Field(
        description="From a counter or from power, for all rows of the series alike"
    )
    currency: str | None = Field(None, description="Of all costs")
    cost: str | None = Field(
        None, description="Energy and daily charge; null where the energy has no price"
    )
    energy_cost: str | None = Field(None, description="Negative for what is fed in")
    standing_cost: str | None = Field(
        None, description="The daily charge of the days that begin in this row"
    )
    rates: dict[str, RatePart] | None = Field(
        None, description="By rate, and feed_in and unpriced; the values add up to the row's"
    )


class Energy(BaseModel):
    period: PeriodName
    timezone: str = Field(description="IANA name of the clock that cuts the periods")
    tariff: str | None
    energy: list[EnergyRow]


class _EnergyQuestion(NamedTuple):
    """The parameters for every device and quantity of a request."""

    site: "Site"
    zone: ZoneInfo
    pieces: list[PeriodSpan]
    now: int
    tariff: Tariff | None
    firsts: Mapping[str, int]


def row(device: str, energy: EnergyQuantity, bucket: EnergyBucket, method: str) -> dict[str, Any]:
    """A bucket as answers show it, without costs. Values are exact: thousandths of the unit."""
    return {
        "device": device,
        "quantity": energy.quantity,
        "unit": energy.unit,
        "start": rfc3339(bucket.start),
        "end": rfc3339(bucket.end),
        "time_ms": bucket.start,
        "value": None if bucket.value is None else bucket.value / 1000,
        "complete": bucket.complete,
        "known_share": _share(bucket.known, bucket.quarters),
        "estimated": bucket.estimated > 0,
        "estimated_share": _share(bucket.estimated, bucket.known),
        "method": method or None,
    }


def costs(bill: Bill, currency: str) -> dict[str, Any]:
    """A bill as answers show it."""
    return {
        "currency": currency,
        "cost": None if bill.cost is None else money(bill.cost),
        "energy_cost": None if bill.energy_cost is None else money(bill.energy_cost),
        "standing_cost": money(bill.standing),
        "rates": {
            name: {"value": part.energy / 1000, "cost": money(part.cost)}
            for name, part in bill.parts.items()
        },
    }


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0


def rows_of(
    device: str, energy: EnergyQuantity, consumption: Consumption, tariff: Tariff | None
) -> list[dict[str, Any]]:
    """The rows of one series, as answers show them."""
    return [
        row(device, energy, bucket, consumption.method)
        | ({} if bucket.bill is None or tariff is None else costs(bucket.bill, tariff.currency))
        for bucket in consumption.buckets
    ]


def need_energy(quantity: str) -> EnergyQuantity:
    """What a quantity's name asks for. Raises ApiRefusal."""
    energy = energy_quantity(quantity)
    if energy is not None:
        return energy
    if not is_known(quantity):
        energies = [name for name in CATALOGUE if energy_quantity(name)]
        raise unknown("quantity", quantity, energies, parameter="quantity")
    hint = f"ask for a counter such as {IMPORT}, or for active_energy.net"
    detail = f"{quantity} is no energy that is counted"
    raise ApiRefusal(422, ProblemCode.NOT_ENERGY, detail, hint=hint, parameter="quantity")


def need_tariff(name: str | None, tariffs: Mapping[str, Tariff]) -> Tariff | None:
    """The tariff of this name, None where no name is given. Raises ApiRefusal."""
    if name is None:
        return None
    if name not in tariffs:
        raise unknown("tariff", name, tariffs, parameter="tariff")
    return tariffs[name]


def need_priced(energy: EnergyQuantity) -> None:
    """Refuse to price what has no price per kWh."""
    if not energy.priced:
        detail = f"a tariff is for active energy, and has no price for {energy.quantity}"
        hint = "leave tariff out, or ask for import, export or net"
        raise ApiRefusal(422, ProblemCode.NOT_PRICED, detail, hint=hint, parameter="tariff")


def need_pieces(zone: ZoneInfo, query: EnergyQuery, now: int) -> list[PeriodSpan]:
    """The periods of the request. Raises ApiRefusal."""
    period = Period(query.period)
    end = now if query.end is None else query.end
    start = default_start(zone, period, min(end, now)) if query.start is None else query.start
    if start >= end:
        hint = "start has to lie before end; absent, end is now"
        raise ApiRefusal(
            422, ProblemCode.BAD_RANGE, "start is not before end", hint=hint, parameter="start"
        )
    whole = query.snap == "period"
    # A rough count, before any is worked out.
    count = (min(end, now) - start) // _WIDTH.get(period, 7 * DAY)
    pieces = (
        [] if count > MOST_BUCKETS else period_spans(zone, period, start, end, now, whole=whole)
    )
    if max(count, len(pieces)) > MOST_BUCKETS:
        detail = f"that is more than {MOST_BUCKETS} {period}s"
        hint = "ask for a shorter range or a longer period"
        raise ApiRefusal(422, ProblemCode.TOO_MANY_POINTS, detail, hint=hint, parameter="period")
    return pieces


async def show(call: ApiCall, query: EnergyQuery) -> ApiAnswer:
    site = call.site
    zone = ZoneInfo(call.site.timezone)
    tariff = need_tariff(query.tariff, site.tariffs)
    energies = [need_energy(name) for name in dict.fromkeys(query.quantity or [IMPORT])]
    for each in energies if tariff is not None else ():
        need_priced(each)
    pieces = need_pieces(zone, query, call.now)
    devices = await _devices(call, query, pieces)
    if len(pieces) * len(energies) * len(devices) > MOST_ROWS:
        detail = (
            f"{len(devices)} devices of {len(pieces)} {query.period}s are more than {MOST_ROWS}"
        )
        hint = "ask for fewer devices, a shorter range or a longer period"
        raise ApiRefusal(422, ProblemCode.TOO_MUCH, detail, hint=hint, parameter="device")
    firsts = await _firsts(call, pieces)
    question = _EnergyQuestion(site, zone, pieces, call.now, tariff, firsts)
    head = {"period": query.period, "timezone": call.site.timezone, "tariff": query.tariff}
    parts = await _in_time(question, devices, energies, bool(query.device))
    return ApiAnswer(b'%b,"energy":[%b]}' % (encode(head)[:-1], b",".join(parts)))


async def _devices(call: ApiCall, query: EnergyQuery, pieces: Sequence[PeriodSpan]) -> list[str]:
    """The devices of the request; where none is named, also those that only the store has.

    Of these, only those that have samples in that time.
    """
    devices = list(lookups.ids(call.site))
    if query.device and set(query.device) <= set(devices):
        return list(dict.fromkeys(query.device))
    stored = await call.site.reader.series()
    if query.device:
        lookups.need_devices(
            query.device, {*devices, *(series.device for series in stored)}, call.site
        )
        return list(dict.fromkeys(query.device))
    start = pieces[0].start if pieces else 0
    left = (series.device for series in stored if series.last >= start)
    return list(dict.fromkeys((*devices, *left)))


async def _firsts(call: ApiCall, pieces: Sequence[PeriodSpan]) -> dict[str, int]:
    """The first sample (Unix ms) of each device: nobody need look for power before it.

    Empty for short questions, which have nothing to gain.
    """
    firsts: dict[str, int] = {}
    if not pieces or pieces[0].start > call.now - _LONG:
        return firsts
    for series in await call.site.reader.series():
        firsts[series.device] = min(series.first, firsts.get(series.device, series.first))
    return firsts


async def _in_time(
    question: _EnergyQuestion,
    devices: Sequence[str],
    energies: Sequence[EnergyQuantity],
    named: bool,
) -> list[bytes]:
    try:
        async with asyncio.timeout(DEADLINE):
            return [part async for part in _energy(question, devices, energies, named)]
    except TimeoutError as error:
        detail = f"the store did not answer within {DEADLINE:g} s"
        hint = "ask for a shorter range or fewer devices"
        raise ApiRefusal(
            503, ProblemCode.SLOW, detail, hint=hint, headers={"Retry-After": "5"}
        ) from error


async def _energy(
    question: _EnergyQuestion,
    devices: Sequence[str],
    energies: Sequence[EnergyQuantity],
    named: bool,
) -> AsyncIterator[bytes]:
    """The rows of each series, in JSON. A UPS that nobody named has no rows of nulls."""
    site, zone, pieces, now, tariff, firsts = question

    async def lookups(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        start = max(start, quarter_floor(firsts.get(device, start)))
        return await site.quarters(device, quantity, start, end) if start < end else ((), COUNTER)

    for device, energy in product(devices, energies):
        consumption = await consume(
            lookups, device, energy, pieces, zone=zone, now=now, tariff=tariff
        )
        if consumption.buckets and (named or consumption.method):
            yield encode(rows_of(device, energy, consumption, tariff))[1:-1]
        # Polls go on while a large answer is written: one series at a time.
        await asyncio.sleep(0)
