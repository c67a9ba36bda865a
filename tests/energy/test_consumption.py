"""Whatever a counter did, parts add up to the whole, to the last thousandth."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.energy.consumption import (
    Consumption,
    EnergyQuantity,
    consume,
    default_start,
    energy_quantity,
    period_spans,
)
from meterd.energy.periods import Period, spans
from meterd.energy.quarter import QUARTER, Fetch, Quarter, QuarterSeries
from meterd.energy.tally import EnergyBucket, EnergyDirection
from meterd.energy.tariff import Tariff
from meterd.model.quantity import CATALOGUE, Kind, declare
from tests.energy.histories import DAY, HOUR, ODD_DAYS, ZONES, History, at
from tests.energy.plans import PlainTariff, plans

FOREVER = 10**13
IMPORT = EnergyQuantity(
    "active_energy.import", "Wh", EnergyDirection.IMPORT, imported="active_energy.import"
)
EXPORT = EnergyQuantity(
    "active_energy.export", "Wh", EnergyDirection.EXPORT, exported="active_energy.export"
)
NET = EnergyQuantity(
    "active_energy.net", "Wh", EnergyDirection.NET, "active_energy.import", "active_energy.export"
)


def stored(taken: Sequence[Quarter], given: Sequence[Quarter] = ()) -> Fetch:
    """A store that holds these."""

    async def fetch(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        found = given if quantity.endswith("export") else taken
        return [one for one in found if start <= one.start < end], "counter"

    return fetch


async def total(
    fetch: Fetch,
    zone: ZoneInfo,
    period: Period,
    span: tuple[int, int],
    *,
    asked: EnergyQuantity = IMPORT,
    tariff: Tariff | None = None,
) -> list[EnergyBucket]:
    pieces = spans(zone, period, *span)
    found = await consume(fetch, "main", asked, pieces, zone=zone, now=FOREVER, tariff=tariff)
    return found.buckets


def values(buckets: Sequence[EnergyBucket]) -> int:
    return sum(bucket.value or 0 for bucket in buckets)


def starts(zone: str) -> st.SearchStrategy[int]:
    """Moments shortly before an odd day of the zone, or anywhere."""
    odd = [at(zone, f"{day}T12:00") - 3 * DAY for name, day, _ in ODD_DAYS if name == zone]
    return st.sampled_from(odd) | st.integers(10**9, 1_900_000_000).map(lambda s: s * 1000)


histories = st.sampled_from(ZONES).flatmap(
    lambda zone: st.tuples(
        st.just(ZoneInfo(zone)),
        st.builds(History, st.integers(0, 10**6), starts(zone), st.integers(2, 120)),
    )
)


@settings(deadline=None, max_examples=60)
@given(histories, st.data())
async def test_hours_days_weeks_months_and_years_all_add_up_to_the_rise(
    of: tuple[ZoneInfo, History], data: st.DataObject
) -> None:
    zone, history = of
    known = history.quarters
    if len(known) < 2:
        return
    first = data.draw(st.integers(0, len(known) - 2))
    last = data.draw(st.integers(first + 1, len(known) - 1))
    span = known[first].start, known[last].start
    rise = history.total(span[1]) - history.total(span[0])
    for period in Period:
        buckets = await total(stored(known), zone, period, span)
        assert values(buckets) == rise
        assert all(bucket.value is not None for bucket in buckets)


@settings(deadline=None, max_examples=60)
@given(histories, st.data())
async def test_with_holes_each_hour_is_in_its_day_and_each_day_in_its_month(
    of: tuple[ZoneInfo, History], data: st.DataObject
) -> None:
    zone, history = of
    known = [one for one in history.quarters if one.start // QUARTER % 11]
    hole = data.draw(st.integers(0, len(known)))
    known = known[:hole] + known[hole + data.draw(st.integers(0, 900)) :]
    span = history.samples[0][0] // QUARTER * QUARTER - DAY, known[-1].start if known else FOREVER
    if not known or span[0] >= span[1]:
        return
    counted = [one for one in known if one.start < span[1]]
    found = {period: await total(stored(known), zone, period, span) for period in Period}
    for buckets in found.values():
        assert values(buckets) == sum(one.increase for one in counted)
        assert sum(bucket.known for bucket in buckets) == len(counted)
        assert sum(bucket.estimated for bucket in buckets) == sum(one.estimated for one in counted)
        assert all((bucket.value is None) == (bucket.known == 0) for bucket in buckets)
    for fine, coarse in (("hour", "day"), ("day", "month"), ("month", "year"), ("day", "week")):
        parts = found[Period(fine)]
        for whole in found[Period(coarse)]:
            inside = [part for part in parts if whole.start <= part.start < whole.end]
            assert values(inside) == (whole.value or 0)
            assert inside[-1].end == whole.end


@settings(deadline=None, max_examples=60)
@given(histories, plans(), st.sampled_from([IMPORT, EXPORT, NET]), st.data())
async def test_tariffs_add_up_to_the_whole_energy_and_the_whole_cost(
    of: tuple[ZoneInfo, History], tariff: PlainTariff, asked: EnergyQuantity, data: st.DataObject
) -> None:
    zone, history = of
    known = history.quarters[:1500]
    if not known:
        return
    given_back = [Quarter(one.start, one.increase // 3, False) for one in known if one.start % 11]
    fetch = stored(known, given_back)
    span = known[0].start, known[-1].start + QUARTER
    found = {
        period: await total(fetch, zone, period, span, asked=asked, tariff=tariff)
        for period in (Period.HOUR, Period.DAY, Period.MONTH)
    }
    sums = set()
    for buckets in found.values():
        bills = [bucket.bill for bucket in buckets if bucket.bill is not None]
        assert len(bills) == len(buckets)
        for bucket, bill in zip(buckets, bills, strict=True):
            assert sum(part.energy for part in bill.parts.values()) == (bucket.value or 0)
        costs = sum(part.cost for bill in bills for part in bill.parts.values())
        sums.add((values(buckets), costs, sum(bill.standing for bill in bills)))
    assert len(sums) == 1


@pytest.mark.parametrize(("zone", "day", "quarters"), ODD_DAYS)
async def test_an_odd_day_has_the_raw_rise_of_its_odd_length(
    zone: str, day: str, quarters: int
) -> None:
    noon = at(zone, f"{day}T12:00")
    first = (noon - 3 * DAY) // QUARTER * QUARTER
    # Each quarter hour its own number, so that a wrong one would be noticed.
    known = [Quarter(first + n * QUARTER, n * n, False) for n in range(6 * 96)]
    buckets = await total(stored(known), ZoneInfo(zone), Period.DAY, (first, first + 6 * DAY))
    (that,) = [bucket for bucket in buckets if bucket.start <= noon < bucket.end]
    assert that.value == sum(one.increase for one in known if that.start <= one.start < that.end)
    assert (that.quarters, that.known, that.complete) == (quarters, quarters, True)
    assert values(buckets) == sum(one.increase for one in known)


async def _berlin(
    known: Sequence[Quarter], start: str, end: str, now: int = FOREVER
) -> Consumption:
    zone = ZoneInfo("Europe/Berlin")
    pieces = period_spans(zone, Period.DAY, at(zone.key, start), at(zone.key, end), now)
    return await consume(stored(known), "main", IMPORT, pieces, zone=zone, now=now)


def hours(start: str, count: int) -> list[Quarter]:
    first = at("Europe/Berlin", start)
    return [Quarter(first + n * QUARTER, 1000, False) for n in range(4 * count)]


async def test_nothing_known_is_none_and_not_zero() -> None:
    found = await _berlin(hours("2026-06-02", 24), "2026-06-01", "2026-06-04")
    assert [bucket.value for bucket in found.buckets] == [None, 96_000, None]
    assert [bucket.complete for bucket in found.buckets] == [False, True, False]
    assert (await _berlin([], "2026-06-01", "2026-06-04")).method == ""


async def test_a_missing_quarter_hour_makes_its_day_incomplete() -> None:
    (day,) = (await _berlin(hours("2026-06-02", 24)[:-1], "2026-06-02", "2026-06-03")).buckets
    assert (day.value, day.known, day.quarters, day.complete) == (95_000, 95, 96, False)


async def test_days_that_the_question_cuts_are_incomplete() -> None:
    found = await _berlin(hours("2026-06-01", 72), "2026-06-01T18:07", "2026-06-03T05:52")
    assert [bucket.value for bucket in found.buckets] == [24_000, 96_000, 24_000]
    assert [bucket.complete for bucket in found.buckets] == [False, True, False]


async def test_a_day_that_is_not_over_is_incomplete_and_the_next_has_not_begun() -> None:
    now = at("Europe/Berlin", "2026-06-02T20:00")
    found = await _berlin(hours("2026-06-01", 48), "2026-06-01", "2026-06-30", now)
    assert [bucket.complete for bucket in found.buckets] == [True, False]


async def test_many_years_are_fetched_piece_by_piece() -> None:
    asked: list[int] = []

    async def fetch(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        asked.append(end - start)
        return [Quarter(start, 1)], "counter" if len(asked) % 2 else "integrated"

    zone = ZoneInfo("UTC")
    pieces = spans(zone, Period.YEAR, 0, 5 * 365 * DAY)
    found = await consume(fetch, "main", IMPORT, pieces, zone=zone, now=FOREVER)
    assert max(asked) <= 92 * DAY
    assert values(found.buckets) == len(asked)
    assert found.method == "mixed"


async def test_a_store_that_gives_more_than_asked_for_doubles_nothing() -> None:
    known = [Quarter(n * QUARTER, 1) for n in range(365 * 96)]

    async def fetch(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        return known, "counter"

    zone = ZoneInfo("UTC")
    pieces = spans(zone, Period.MONTH, 0, 365 * DAY)
    found = await consume(fetch, "main", IMPORT, pieces, zone=zone, now=FOREVER)
    assert values(found.buckets) == len(known)


async def test_net_is_known_where_both_sides_are() -> None:
    zone = ZoneInfo("UTC")
    taken = [Quarter(n * QUARTER, 10, False) for n in range(4)]
    given_back = [Quarter(n * QUARTER, 30, n == 2) for n in range(1, 4)]
    (hour,) = await total(stored(taken, given_back), zone, Period.HOUR, (0, HOUR), asked=NET)
    assert (hour.value, hour.known, hour.estimated) == (-60, 3, 1)


async def test_net_without_an_export_counter_is_not_known() -> None:
    taken = [Quarter(n * QUARTER, 10, False) for n in range(4)]
    (hour,) = await total(stored(taken), ZoneInfo("UTC"), Period.HOUR, (0, HOUR), asked=NET)
    assert hour.value is None


def test_snapped_periods_are_whole() -> None:
    zone = ZoneInfo("Europe/Berlin")
    start, end = at(zone.key, "2026-06-01T18:07"), at(zone.key, "2026-06-03T05:52")
    found = period_spans(zone, Period.MONTH, start, end, FOREVER, whole=True)
    assert found == spans(
        zone, Period.MONTH, at(zone.key, "2026-06-01"), at(zone.key, "2026-07-01")
    )


@pytest.mark.parametrize(
    ("period", "begins", "count"),
    [
        (Period.HOUR, "2026-11-20T11:00", 24),
        (Period.DAY, "2026-10-22", 31),
        (Period.WEEK, "2026-08-24", 13),
        (Period.MONTH, "2025-11-01", 13),
        (Period.YEAR, "2017-01-01", 10),
    ],
)
def test_without_a_start_whole_periods_are_shown(period: Period, begins: str, count: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = at(zone.key, "2026-11-21T10:20")
    start = default_start(zone, period, now)
    assert start == at(zone.key, begins)
    assert len(period_spans(zone, period, start, now, now)) == count


@pytest.mark.parametrize(
    ("quantity", "way", "taken", "given_back"),
    [
        ("active_energy.import.l1", EnergyDirection.IMPORT, "active_energy.import.l1", ""),
        ("active_energy.export", EnergyDirection.EXPORT, "", "active_energy.export"),
        (
            "reactive_energy.net.l2",
            EnergyDirection.NET,
            "reactive_energy.import.l2",
            "reactive_energy.export.l2",
        ),
    ],
)
def test_a_name_tells_which_counters_it_takes(
    quantity: str, way: EnergyDirection, taken: str, given_back: str
) -> None:
    asked = energy_quantity(quantity)
    assert asked is not None
    assert (asked.direction, asked.imported, asked.exported) == (way, taken, given_back)


@pytest.mark.parametrize(
    "quantity",
    ["active_power", "voltage.l1", "guarded.active_energy.import", "active_energy.today", "x.own"],
)
def test_what_is_no_counter_of_energy_is_none(quantity: str) -> None:
    assert energy_quantity(quantity) is None


def test_every_counter_of_energy_in_the_catalogue_can_be_asked_for() -> None:
    asked = {name for name in CATALOGUE if energy_quantity(name)}
    counters = {name for name, one in CATALOGUE.items() if one.kind is Kind.COUNTER}
    assert {name for name in counters if name.partition(".")[0].endswith("_energy")} <= asked


def test_a_counter_of_ones_own_is_asked_for_like_energy() -> None:
    declare("x.e.net.water", "m³", Kind.COUNTER)
    declare("x.e.level", "m³", Kind.GAUGE)
    asked = energy_quantity("x.e.net.water")
    assert asked == EnergyQuantity(
        "x.e.net.water", "m³", EnergyDirection.IMPORT, imported="x.e.net.water"
    )
    assert not asked.priced
    assert energy_quantity("x.e.level") is None
    assert energy_quantity("x.e.never_heard_of") is None
    assert energy_quantity("guarded.x.e.net.water") is None


@pytest.mark.parametrize(
    ("first", "last"),
    [(QUARTER, QUARTER), (QUARTER, 1), (1, QUARTER), (QUARTER // 3, QUARTER // 2)],
)
async def test_a_day_is_complete_where_it_was_read_from_end_to_end(first: int, last: int) -> None:
    inner = [Quarter(n * QUARTER, 1000) for n in range(1, 95)]
    ends = Quarter(0, 500, False, first), Quarter(95 * QUARTER, 500, True, last)
    fetch, zone = stored([ends[0], *inner, ends[1]]), ZoneInfo("UTC")
    pieces = spans(zone, Period.DAY, 0, DAY)
    (bucket,) = (await consume(fetch, "main", IMPORT, pieces, zone=zone, now=DAY)).buckets
    # The value is a lower bound, and what is known of the time.
    assert bucket.value == 95_000
    assert bucket.complete == (first == last == QUARTER)
    assert bucket.known == pytest.approx(94 + (first + last) / QUARTER)
    assert bucket.estimated == pytest.approx(last / QUARTER)
