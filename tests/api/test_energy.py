"""`GET energy`: the rows of devices, and refusals; sums are tested in tests/energy."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from multidict import MultiDict

from meterd.api import energy
from meterd.api.answer import ApiCall
from meterd.api.energy import Energy, EnergyQuery
from meterd.api.problem import ApiRefusal
from meterd.api.query import parse
from meterd.energy.quarter import QUARTER, Quarter, QuarterSeries, quarter_floor
from meterd.energy.tariff import Tariff
from meterd.energy.zone_clock import DAY
from meterd.errors import StoreCode, StoreError
from tests.api.fake import NOW, FakeDevice, FakeSeries, FakeSite
from tests.energy.plans import NIGHT, PlainPrices, PlainRule, PlainTariff

HOUR = 4 * QUARTER
RATES = {"day": Decimal("0.3412"), "night": Decimal("0.2")}
HOME = PlainTariff(
    (
        PlainPrices(
            RATES,
            "day",
            (PlainRule("night", time=(NIGHT,)),),
            None,
            Decimal("0.45"),
            Decimal("0.08"),
        ),
    )
)


@dataclass
class EnergyFake(FakeSite):
    """A site whose main meter counts 250 Wh a quarter hour, and gives 100 Wh back."""

    timezone: str = "Europe/Berlin"
    tariffs: Mapping[str, Tariff] = field(default_factory=lambda: {"home": HOME})
    asked_for: list[tuple[str, str, int, int]] = field(default_factory=list)
    unknown: tuple[int, ...] = ()
    failure: StoreError | None = None

    async def quarters(self, device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        self.asked_for.append((device, quantity, start, end))
        if self.failure:
            raise self.failure
        if device == "ups":
            return (), "integrated"
        rise = {"active_energy.import": 250_000, "active_energy.export": 100_001}.get(quantity, 0)
        power = device == "plug"
        times = (time for time in range(start, min(end, NOW), QUARTER) if time not in self.unknown)
        found = [Quarter(time, rise, power or time == NOW - HOUR) for time in times]
        return found, "integrated" if power else "counter"


@pytest.fixture
def site() -> EnergyFake:
    made = EnergyFake()
    for name in ("main", "plug", "ups"):
        made.add(FakeDevice(name))
    return made


async def ask(site: EnergyFake, query: str) -> Any:
    """The answer to a query string, as the server would give it."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    words: MultiDict[str] = MultiDict((name, value) for name, _, value in pairs)
    call = ApiCall(site, NOW, {}, "")
    answer = await energy.show(call, parse(EnergyQuery, words, NOW))
    Energy.model_validate_json(answer.body)
    return json.loads(answer.body)


async def refused(site: EnergyFake, query: str) -> ApiRefusal:
    with pytest.raises(ApiRefusal) as caught:
        await ask(site, query)
    return caught.value


MAIN = "device=main&start=now-2h&end=now&period=hour"


async def test_rows_are_flat_and_say_how_far_they_can_be_trusted(site: EnergyFake) -> None:
    site.unknown = (NOW - HOUR + QUARTER,)
    assert await ask(site, MAIN) == {
        "period": "hour",
        "timezone": "Europe/Berlin",
        "tariff": None,
        "energy": [
            {
                "device": "main",
                "quantity": "active_energy.import",
                "unit": "Wh",
                "start": "2026-11-21T08:00:00.000Z",
                "end": "2026-11-21T09:00:00.000Z",
                "time_ms": NOW - 2 * HOUR,
                "value": 1000.0,
                "complete": True,
                "known_share": 1.0,
                "estimated": False,
                "estimated_share": 0.0,
                "method": "counter",
            },
            {
                "device": "main",
                "quantity": "active_energy.import",
                "unit": "Wh",
                "start": "2026-11-21T09:00:00.000Z",
                "end": "2026-11-21T10:00:00.000Z",
                "time_ms": NOW - HOUR,
                "value": 750.0,
                "complete": False,
                "known_share": 0.75,
                "estimated": True,
                "estimated_share": 0.333333,
                "method": "counter",
            },
        ],
    }


async def test_days_are_those_of_the_site(site: EnergyFake) -> None:
    body = await ask(site, "device=main&start=2026-10-24T22:00:00Z&end=2026-10-26T23:00:00Z")
    assert [(row["start"], row["value"]) for row in body["energy"]] == [
        ("2026-10-24T22:00:00.000Z", 25_000.0),
        ("2026-10-25T23:00:00.000Z", 24_000.0),
    ]


async def test_without_parameters_a_month_of_days_of_every_device_that_counts(
    site: EnergyFake,
) -> None:
    body = await ask(site, "")
    assert {row["device"] for row in body["energy"]} == {"main", "plug"}
    assert len(body["energy"]) == 62
    assert body["energy"][30]["complete"] is False


async def test_a_device_that_is_named_has_rows_without_values(site: EnergyFake) -> None:
    body = await ask(site, "device=ups&start=now-1h")
    assert [(row["value"], row["method"]) for row in body["energy"]] == [(None, None)]


async def test_energy_from_power_is_always_an_estimate(site: EnergyFake) -> None:
    (row,) = (await ask(site, "device=plug&start=now-1h"))["energy"]
    assert (row["method"], row["estimated"], row["estimated_share"]) == ("integrated", True, 1.0)


async def test_net_is_import_less_export(site: EnergyFake) -> None:
    (row,) = (await ask(site, "device=main&quantity=active_energy.net&start=now-1h"))["energy"]
    assert row["value"] == 599.996
    assert row["quantity"] == "active_energy.net"


async def test_a_tariff_gives_exact_costs(site: EnergyFake) -> None:
    query = "device=main&period=day&start=2026-11-19T23:00:00Z&end=2026-11-20T23:00:00Z&tariff=home"
    (row,) = (await ask(site, query))["energy"]
    assert row["rates"] == {
        "day": {"value": 16_500.0, "cost": "5.6298"},
        "night": {"value": 7500.0, "cost": "1.5"},
    }
    assert (row["energy_cost"], row["standing_cost"]) == ("7.1298", "0.45")
    assert (row["cost"], row["currency"]) == ("7.5798", "EUR")


async def test_what_is_fed_in_is_income(site: EnergyFake) -> None:
    query = "device=main&quantity=active_energy.export&start=now-1h&tariff=home"
    (row,) = (await ask(site, query))["energy"]
    assert row["rates"] == {"feed_in": {"value": 400.004, "cost": "-0.03200032"}}
    assert row["cost"] == "-0.03200032"


async def test_snap_widens_to_whole_periods(site: EnergyFake) -> None:
    (row,) = (await ask(site, "device=main&start=now-1h&snap=period"))["energy"]
    assert (row["start"], row["end"]) == ("2026-11-20T23:00:00.000Z", "2026-11-21T23:00:00.000Z")
    assert row["complete"] is False


async def test_the_store_is_asked_for_whole_quarter_hours(site: EnergyFake) -> None:
    await ask(site, "device=main&start=2026-11-21T08:07:00Z&end=2026-11-21T08:16:00Z")
    (asked,) = site.asked_for
    assert asked == ("main", "active_energy.import", NOW - 2 * HOUR, NOW - 2 * HOUR + 2 * QUARTER)


async def test_energy_outlives_its_device(site: EnergyFake) -> None:
    site.reader.known.append(FakeSeries("sold", "guarded.active_energy.import", "Wh"))
    assert (await ask(site, "device=sold&start=now-1h"))["energy"][0]["device"] == "sold"


async def test_what_has_not_begun_is_left_out(site: EnergyFake) -> None:
    assert (await ask(site, "device=main&start=now+1d&end=now+3d"))["energy"] == []
    assert (
        len((await ask(site, "device=main&start=now-1d&end=9999-01-01T00:00:00Z"))["energy"]) == 2
    )


@pytest.mark.parametrize(
    ("query", "status", "code", "said"),
    [
        ("device=nope", 404, "unknown_device", "'nope'"),
        ("quantity=active_enrgy.import", 404, "unknown_quantity", "active_energy.import"),
        ("quantity=active_power", 422, "not_energy", "active_energy.import"),
        ("quantity=guarded.active_energy.import", 422, "not_energy", "active_energy.import"),
        ("tariff=hoem", 404, "unknown_tariff", "did you mean home"),
        ("tariff=home&quantity=reactive_energy.import", 422, "not_priced", "active energy"),
        ("tariff=home&quantity=active_energy.total", 422, "not_priced", "import, export or net"),
        ("period=fortnight", 400, "bad_parameter", "'week'"),
        ("start=yesterday", 400, "bad_time", "now-6h"),
        ("start=now&end=now-1h", 422, "bad_range", "before end"),
        ("start=0&period=hour", 422, "too_many_points", "longer period"),
        ("start=0&period=day", 422, "too_many_points", "longer period"),
        ("group=device", 400, "unknown_parameter", "'group'"),
    ],
)
async def test_bad_input_is_told_what_to_do(
    site: EnergyFake, query: str, status: int, code: str, said: str
) -> None:
    error = await refused(site, query)
    assert (error.status, error.code) == (status, code)
    assert said in f"{error} {error.hint} {error.allowed}"


async def test_an_answer_has_its_limit(site: EnergyFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "MOST_ROWS", 100)
    assert (await refused(site, "period=hour&start=now-3d")).code == "too_much"


async def test_a_store_that_thinks_too_long_is_not_waited_for(
    site: EnergyFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "DEADLINE", 0)
    assert (await refused(site, "")).code == "slow"


async def test_trouble_of_the_store_is_not_hidden(site: EnergyFake) -> None:
    site.failure = StoreError("it cannot be read", code=StoreCode.UNAVAILABLE)
    with pytest.raises(StoreError):
        await ask(site, "")


async def test_nothing_is_looked_for_before_the_first_sample_of_a_device(site: EnergyFake) -> None:
    first = NOW - 40 * DAY + 1
    site.reader.known = [FakeSeries("main", "active_power", "W", first=first)]
    body = await ask(site, "device=main&period=year&start=0")
    assert min(start for *_, start, _ in site.asked_for) == quarter_floor(first)
    assert len(body["energy"]) == 57
    assert [row["known_share"] for row in body["energy"]][:56] == [0.0] * 56
    assert body["energy"][-1]["value"] == (NOW - quarter_floor(first)) // QUARTER * 250


async def test_from_and_to_are_times_in_milliseconds(site: EnergyFake) -> None:
    span = f"from={NOW - 2 * HOUR}&to={NOW}"
    assert await ask(site, f"device=main&period=hour&{span}") == await ask(site, MAIN)
    wrong = await refused(site, f"device=main&{span}&start=now-1h")
    assert (wrong.status, wrong.code) == (400, "repeated_parameter")


async def test_a_device_that_went_is_among_all_where_it_was_polled(site: EnergyFake) -> None:
    """And has no rows of nulls where it was not."""
    last = NOW - 3 * DAY
    site.reader.known = [FakeSeries("gone", "active_energy.import", "Wh", last=last)]
    for start, named in (("now-4d", {"main", "plug", "gone"}), ("now-2d", {"main", "plug"})):
        found = await ask(site, f"start={start}")
        assert {row["device"] for row in found["energy"]} == named
