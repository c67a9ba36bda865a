from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from meterd.api import range as history
from meterd.api.range import RangeAnswer
from meterd.api.window import COMFORTABLE_POINTS, nice_step
from meterd.errors import StoreCode, StoreError
from tests.api.fake import NOW, FakeSeries, FakeSite

POWER = "device=main&quantity=active_power"


async def ask(client: ClientSession, query: str, status: int = 200) -> Any:
    async with client.get(f"/api/v1/range?{query}") as reply:
        body = await reply.json(content_type=None)
        assert reply.status == status, body
        if status == 200:
            RangeAnswer.model_validate_json(await reply.read())
    return body


async def test_the_answer_has_the_form_of_the_contract(client: ClientSession) -> None:
    body = await ask(client, f"{POWER}&start=now-1m&end=now&step=30s&agg=max")
    assert body == {
        "series": [
            {
                "device": "main",
                "quantity": "active_power",
                "unit": "W",
                "agg": "max",
                "points": [[NOW - 60_000, 1000.0], [NOW - 30_000, 1000.0]],
            }
        ],
        "step_ms": 30_000,
        "raised": None,
    }


async def test_the_reader_is_asked_for_what_was_said(client: ClientSession, site: FakeSite) -> None:
    await ask(client, f"{POWER}&start=2026-11-21T09:00:00Z&end=1795255200&step=1m&agg=sum")
    names = (["main"], ["active_power"])
    assert site.reader.asked == [(*names, NOW - 3_600_000, NOW, 60_000, "sum")]


async def test_absent_parameters_have_sensible_meanings(
    client: ClientSession, site: FakeSite
) -> None:
    await ask(client, "quantity=active_power")
    devices, _, start, end, step, agg = site.reader.asked[0]
    assert devices == sorted(device.id for device in site.devices())
    assert (start, end, step, agg) == (NOW - 3_600_000, NOW, 5000, "avg")


async def test_without_quantities_all_of_the_device_are_meant(
    client: ClientSession, site: FakeSite
) -> None:
    body = await ask(client, "device=kitchen&start=now-1m")
    assert {one["quantity"] for one in body["series"]} >= {"active_power", "device.up"}


async def test_history_outlives_its_device(client: ClientSession, site: FakeSite) -> None:
    site.reader.known.append(FakeSeries("sold", "x.own", "W"))
    body = await ask(client, "device=sold&quantity=x.own&start=now-10s&step=10s")
    assert body["series"][0]["device"] == "sold"


async def test_raw_asks_for_samples_as_they_were_polled(
    client: ClientSession, site: FakeSite
) -> None:
    assert (await ask(client, f"{POWER}&start=now-1m&step=raw"))["step_ms"] == 0
    assert site.reader.asked[0][4] == 0
    assert (await ask(client, f"{POWER}&step=raw&agg=avg", 422))["code"] == "agg_of_raw"


async def test_gaps_stay_gaps(client: ClientSession, site: FakeSite) -> None:
    site.reader.points = lambda device, ms: None if ms == NOW - 20_000 else 1.0
    body = await ask(client, f"{POWER}&start=now-40s&step=10s")
    times = [ms for ms, _ in body["series"][0]["points"]]
    assert times == [NOW - 40_000, NOW - 30_000, NOW - 10_000]


async def test_no_nan_leaves_the_house(client: ClientSession, site: FakeSite) -> None:
    site.reader.points = lambda device, ms: float("inf")
    async with client.get(f"/api/v1/range?{POWER}&start=now-10s&step=10s") as reply:
        assert b"[1795255190000,null]" in await reply.read()


@pytest.mark.parametrize(
    ("query", "status", "code", "said"),
    [
        ("device=nope", 404, "unknown_device", "'nope'"),
        ("quantity=active_pwr", 404, "unknown_quantity", "active_power"),
        ("quantity=x.none", 404, "unknown_quantity", "'x.none'"),
        (f"{POWER}&agg=median", 400, "bad_agg", "avg"),
        (f"{POWER}&start=yesterday", 400, "bad_time", "now-6h"),
        (f"{POWER}&end=1795255200000", 400, "bad_time", "milliseconds"),
        (f"{POWER}&step=soon", 400, "bad_step", "raw"),
        (f"{POWER}&step=0", 400, "bad_step", "too short"),
        (f"{POWER}&step=-5", 400, "bad_step", "no duration"),
        (f"{POWER}&start=now&end=now", 422, "bad_range", "before end"),
        (f"{POWER}&start=now-1h&end=now-2h", 422, "bad_range", "before end"),
        (f"{POWER}&start=now-3650d&step=1s", 422, "too_many_points", "max_points=1000"),
        (f"{POWER}&start=now-1d&step=raw", 422, "too_many_points", "every sample"),
        ("start=now-3h&step=1s", 422, "too_much", "fewer series"),
        (f"{POWER}&form=now-1h", 400, "unknown_parameter", "from"),
        (f"{POWER}&from=now-1h", 400, "bad_time", "milliseconds"),
        (f"{POWER}&from=1795251600", 400, "bad_time", "write start=1795251600 for Unix seconds"),
        (f"{POWER}&from=now-1h&to=1", 400, "bad_time", "milliseconds"),
        (f"{POWER}&to=1795255200", 400, "bad_time", "to=1795255200000 for milliseconds"),
        (f"{POWER}&start=1795251600000", 400, "bad_time", "1795251600 without the milliseconds"),
        (f"{POWER}&end=true", 400, "bad_time", "Unix seconds"),
        (f"{POWER}&from=9999999999999999", 400, "bad_time", "milliseconds"),
        (f"{POWER}&from=1&start=now-1h", 400, "repeated_parameter", "one of the two"),
        (f"{POWER}&max_points=0", 400, "bad_number", "whole number"),
        (f"{POWER}&max_points=11001", 400, "bad_parameter", "11000"),
        (f"{POWER}&max_points=1e3", 400, "bad_number", "whole number"),
        (f"{POWER}&shape=round", 400, "bad_parameter", "flat"),
        ("device=%00", 404, "unknown_device", "x00"),
        ("device=%ff", 404, "unknown_device", "no device"),
        (f"{POWER}&start=now-3650d&step=1s&agg=min&agg=max", 422, "too_many_points", "step"),
        (f"{POWER}&start=now&start=now", 400, "repeated_parameter", "2 times"),
        ("device=&quantity=", 400, "bad_parameter", "empty"),
        (f"device={'x' * 200}", 400, "bad_parameter", "longer than"),
    ],
)
async def test_bad_input_is_told_what_is_allowed(
    client: ClientSession, query: str, status: int, code: str, said: str
) -> None:
    body = await ask(client, query, status)
    assert body["code"] == code
    assert said in str(body)


async def test_the_step_that_is_hinted_at_is_accepted(client: ClientSession) -> None:
    body = await ask(client, f"{POWER}&start=now-3650d&step=1s", 422)
    step = body["hint"].partition("step=")[2].split()[0]
    await ask(client, f"{POWER}&start=now-3650d&step={step}")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [("too_much", 422, "too_much"), ("unavailable", 503, "store_unavailable")],
)
async def test_what_the_store_refuses_is_a_problem(
    client: ClientSession, site: FakeSite, code: str, status: int, said: str
) -> None:
    site.reader.error = StoreError("it cannot be read", code=StoreCode(code))
    assert (await ask(client, POWER, status))["code"] == said


async def test_a_store_that_thinks_too_long_is_not_waited_for(
    client: ClientSession, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "DEADLINE", 0.01)
    site.reader.delay = 5
    assert (await ask(client, POWER, 503))["code"] == "slow"


@given(st.integers(1, 10**15), st.integers(0, 10**7))
def test_a_chosen_step_is_never_uncomfortable(span: int, least: int) -> None:
    step = nice_step(span, least)
    assert step >= least
    assert -(-span // step) <= COMFORTABLE_POINTS


async def test_grafana_may_give_times_in_milliseconds(
    client: ClientSession, site: FakeSite
) -> None:
    await ask(client, f"{POWER}&from={NOW - 60_000}&to={NOW}&step=30s")
    assert site.reader.asked[0][2:4] == (NOW - 60_000, NOW)


async def test_several_aggregates_come_in_one_answer(client: ClientSession) -> None:
    body = await ask(client, f"{POWER}&start=now-1m&step=30s&agg=min&agg=max&agg=min")
    assert [one["agg"] for one in body["series"]] == ["min", "max"]


async def test_a_flat_answer_is_a_list_of_points(client: ClientSession, site: FakeSite) -> None:
    site.reader.points = lambda device, ms: float("inf") if ms == NOW - 30_000 else 1.5
    body = await ask(client, f"{POWER}&start=now-1m&step=30s&shape=flat")
    names = {"device": "main", "quantity": "active_power", "unit": "W", "agg": "avg"}
    assert body == [
        {"time": NOW - 60_000, **names, "value": 1.5},
        {"time": NOW - 30_000, **names, "value": None},
    ]


async def test_more_points_than_wanted_raise_the_step_and_the_answer_says_so(
    client: ClientSession, site: FakeSite
) -> None:
    body = await ask(client, f"{POWER}&start=now-3650d&step=1s&max_points=500")
    assert body["raised"] == {"from_ms": 1000, "why": "max_points is 500"}
    assert 3650 * 86_400_000 / body["step_ms"] <= 500
    body = await ask(client, f"{POWER}&start=now-1d&step=raw&max_points=500")
    assert (body["raised"]["from_ms"], body["step_ms"]) == (0, 300_000)
    assert body["series"][0]["agg"] == "avg"
    assert (await ask(client, f"{POWER}&start=now-5m&step=1s&max_points=500"))["raised"] is None
    body = await ask(client, f"{POWER}&start=now-1h&max_points=10")
    assert (body["raised"], body["step_ms"]) == (None, 600_000)


async def test_where_samples_are_deleted_quarter_hours_are_said_to_answer(
    client: ClientSession, site: FakeSite
) -> None:
    site.keep_raw = 86_400.0
    body = await ask(client, f"{POWER}&start=now-3d&step=1m")
    assert body["step_ms"] == 900_000
    assert body["raised"]["from_ms"] == 60_000
    assert "2026-11-20T00:00:00" in body["raised"]["why"]
    assert (await ask(client, f"{POWER}&start=now-1d&step=1m"))["raised"] is None


async def test_an_answer_that_is_known_already_is_not_sent_again(client: ClientSession) -> None:
    url = f"/api/v1/range?{POWER}&start=100&end=200&step=1m"
    async with client.get(url) as reply:
        etag = reply.headers["ETag"]
    for known in (etag, f'"x", {etag}', "*"):
        async with client.get(url, headers={"If-None-Match": known}) as reply:
            assert (reply.status, await reply.read()) == (304, b"")
    async with client.get(url, headers={"If-None-Match": '"other"'}) as reply:
        assert reply.status == 200


async def test_ten_years_by_the_second_are_refused_before_the_store_is_asked(
    client: ClientSession, site: FakeSite
) -> None:
    site.reader.error = StoreError("nobody may ask", code=StoreCode.UNAVAILABLE)
    assert (await ask(client, "start=now-3650d&step=1s", 422))["code"] == "too_many_points"
