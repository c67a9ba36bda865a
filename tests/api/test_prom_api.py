import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from meterd.api.promapi import queries, query_executor
from meterd.config.settings import Settings
from meterd.errors import StoreCode, StoreError
from meterd.model.alert import AlertState
from tests.api.fake import NOW, FakeSite, alert, good
from tests.api.promhistory import FakeHistory, served, stored

NOW_S = NOW // 1000


@pytest.fixture
def history() -> FakeHistory:
    return stored()


@pytest.fixture
async def client(site: FakeSite, history: FakeHistory) -> AsyncIterator[ClientSession]:
    async with served(site, history) as url, ClientSession(url) as session:
        yield session


async def get(client: ClientSession, path: str, **params: Any) -> tuple[int, Any]:
    """Status and JSON of a GET; what the form of a POST gives has to be the same."""
    async with client.get(path, params=params) as reply:
        assert reply.content_type == "application/json"
        status, body = reply.status, await reply.json()
    async with client.post(path, data=params) as posted:
        if posted.status != 405:
            assert (posted.status, await posted.json()) == (status, body)
    return status, body


async def data(client: ClientSession, path: str, **params: Any) -> Any:
    status, body = await get(client, path, **params)
    assert (status, body["status"]) == (200, "success"), body
    return body["data"]


async def refused(client: ClientSession, path: str, **params: Any) -> tuple[int, str, str]:
    status, body = await get(client, path, **params)
    assert body["status"] == "error"
    assert list(body) == ["status", "errorType", "error"]
    return status, body["errorType"], body["error"]


async def test_saving_the_data_source_asks_for_one_and_one(client: ClientSession) -> None:
    found = await data(client, "query", query="1+1", time="4")
    assert found == {"resultType": "scalar", "result": [4, "2"]}


async def test_a_vector_has_the_newest_values_and_no_series_of_what_is_gone(
    client: ClientSession,
) -> None:
    found = await data(client, "query", query="meterd_active_power_watts", time=NOW_S)
    assert found["resultType"] == "vector"
    values = {one["metric"]["device"]: one["value"] for one in found["result"]}
    assert values == {"main": [NOW_S, "1119"], "garage": [NOW_S, "55.5"]}
    assert found["result"][0]["metric"]["__name__"] == "meterd_active_power_watts"
    during = await data(client, "query", query="meterd_active_power_watts", time=NOW_S - 90)
    assert [one["metric"]["device"] for one in during["result"]] == ["main"]


async def test_labels_of_the_configuration_are_labels_of_the_series(client: ClientSession) -> None:
    found = await data(client, "query", query='meterd_active_power_watts{building="A"}')
    assert [one["metric"]["device"] for one in found["result"]] == ["main"]


async def test_a_range_has_gaps_where_the_device_was_down(client: ClientSession) -> None:
    times = {"start": NOW_S - 180, "end": NOW_S, "step": "30s"}
    asked = 'meterd_active_power_watts{device="garage"}'
    found = await data(client, "query_range", query=asked, **times)
    assert found["resultType"] == "matrix"
    (one,) = found["result"]
    assert [time - NOW_S for time, _ in one["values"]] == [-180, -150, -60, -30, 0]


async def test_a_rate_of_a_counter_is_power(client: ClientSession) -> None:
    asked = "rate(meterd_active_energy_import_watthours_total[5m]) * 3600"
    found = await data(client, "query", query=asked, time=f"{NOW_S}.5")
    ((time, value),) = [one["value"] for one in found["result"]]
    assert time == NOW_S + 0.5
    assert math.isclose(float(value), 3600, rel_tol=0.02)


async def test_raw_samples_have_their_own_times(client: ClientSession) -> None:
    asked = 'meterd_active_power_watts{device="main"}[11s]'
    found = await data(client, "query", query=asked, time=NOW_S)
    assert found["resultType"] == "matrix"
    assert found["result"][0]["values"] == [[NOW_S - 10, "1118"], [NOW_S - 5, "1119"]]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("1760000000.123", 1760000000.123),
        ("1e9", 1000000000),
        ("-4", -4),
        ("2026-11-21T10:00:00Z", NOW_S),
        ("2026-11-21T10:00:00.5+10:00", NOW_S - 36_000 + 0.5),
        ("", NOW_S),
    ],
)
async def test_times_are_seconds_or_rfc_3339(
    client: ClientSession, time: str, expected: float
) -> None:
    assert (await data(client, "query", query="1", time=time))["result"] == [expected, "1"]


@pytest.mark.parametrize(
    ("path", "params", "error"),
    [
        ("query", {}, 'invalid parameter "query": unknown position: parse error'),
        ("query", {"query": "1", "time": "x"}, 'invalid parameter "time": cannot parse "x"'),
        ("query", {"query": "1", "time": "NaN"}, 'invalid parameter "time"'),
        ("query", {"query": "1", "time": "1e999"}, 'invalid parameter "time"'),
        ("query", {"query": "1", "time": "2026-02-30T10:00:00Z"}, 'invalid parameter "time"'),
        ("query", {"query": "1", "timeout": "x"}, 'invalid parameter "timeout": cannot parse "x"'),
        ("query", {"query": "1", "limit": "-1"}, 'invalid parameter "limit": limit must be non-'),
        ("query", {"query": "1", "limit": "x"}, 'invalid parameter "limit"'),
        ("query", {"query": "1", "lookback_delta": "0"}, 'invalid parameter "lookback_delta"'),
        ("query", {"query": "sum(x"}, 'invalid parameter "query": 1:6: parse error: unclosed'),
        ("query", {"query": "x @ -99e99"}, "out of bounds"),
        ("query", {"query": "(" * 8000}, "nested deeper"),
        ("query", {"query": "\x00"}, "parse error"),
        ("query_range", {"query": "1"}, 'invalid parameter "start"'),
        ("query_range", {"query": "1", "start": "1"}, 'invalid parameter "end"'),
        ("query_range", {"query": "1", "start": "1", "end": "2"}, 'invalid parameter "step"'),
        (
            "query_range",
            {"query": "1", "start": "2", "end": "1", "step": "1"},
            'invalid parameter "end": end timestamp must not be before start',
        ),
        (
            "query_range",
            {"query": "1", "start": "1", "end": "2", "step": "0"},
            'invalid parameter "step": zero or negative query resolution step widths',
        ),
        (
            "query_range",
            {"query": "1", "start": "0", "end": "11001", "step": "1"},
            "exceeded maximum resolution of 11,000 points per timeseries. "
            "Try decreasing the query resolution (?step=XX)",
        ),
        ("query_range", {"query": '"a"', "start": "1", "end": "2", "step": "1"}, "invalid expr"),
        ("query_range", {"query": "x[5m]", "start": "1", "end": "2", "step": "1"}, "invalid expr"),
        ("series", {}, "no match[] parameter provided"),
        ("series", {"match[]": '{a=~".*"}'}, 'invalid parameter "match[]"'),
        ("series", {"match[]": "sum(x)"}, 'invalid parameter "match[]"'),
        ("labels", {"match[]": "x["}, 'invalid parameter "match[]"'),
        ("labels", {"start": "2", "end": "1"}, 'invalid parameter "end"'),
        ("label/bad-name/values", {}, 'invalid label name: "bad-name"'),
        ("label/U__a_2e_b/values", {}, 'invalid label name: "a.b"'),
        ("rules", {"type": "x"}, 'invalid parameter "type"'),
        ("query_exemplars", {"query": "x", "start": "2", "end": "1"}, 'invalid parameter "end"'),
        ("query_exemplars", {"query": "1+"}, "1:3: parse error: unexpected end of input"),
        ("query", {"query": "x[300y]"}, "duration out of range"),
        ("query", {"query": "x offset 293y"}, "duration out of range"),
        ("query", {"query": "1", "timeout": "1e10"}, 'invalid parameter "timeout"'),
        (
            "query_range",
            {"query": "1", "start": "1", "end": "2", "step": "1000y"},
            'invalid parameter "step": cannot parse "1000y" to a valid duration',
        ),
        # Of Prometheus 3, and only where it is told to be experimental.
        ("query", {"query": "info(x)"}, 'unknown function with name "info"'),
        ("query", {"query": "x + fill(0) y"}, "fill modifiers are experimental"),
        ("query", {"query": "x smoothed"}, 'unexpected identifier "smoothed"'),
        ("query", {"query": "rate(x[5m] anchored)"}, 'unexpected identifier "anchored"'),
        ("format_query", {"query": "sum("}, "parse error"),
    ],
)
async def test_what_cannot_be_asked_is_bad_data(
    client: ClientSession, path: str, params: dict[str, str], error: str
) -> None:
    status, kind, text = await refused(client, path, **params)
    assert (status, kind) == (400, "bad_data")
    assert error in text


async def test_a_range_of_11000_steps_is_answered(client: ClientSession) -> None:
    found = await data(client, "query_range", query="1", start="0", end="11000", step="1")
    assert len(found["result"][0]["values"]) == 11_001


async def test_what_cannot_be_executed_is_422(client: ClientSession) -> None:
    asked = "meterd_active_power_watts + on () meterd_active_power_watts"
    status, kind, _ = await refused(client, "query", query=asked)
    assert (status, kind) == (422, "execution")


async def test_a_timeout_is_503(client: ClientSession) -> None:
    asked = "meterd_active_power_watts"
    status, kind, text = await refused(client, "query", query=asked, timeout="0")
    assert (status, kind) == (503, "timeout")
    assert "timed out" in text


async def test_a_store_that_cannot_answer_is_503_or_422(
    client: ClientSession, history: FakeHistory
) -> None:
    for code, status, kind in (("unavailable", 503, "unavailable"), ("too_much", 422, "execution")):
        history.error = StoreError("the disk is gone", code=StoreCode(code))
        assert await refused(client, "query", query="x") == (status, kind, "the disk is gone")


async def test_too_many_questions_at_once_are_turned_away(
    client: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_executor, "MOST_WAITING", -query_executor.THREADS)
    status, kind, _ = await refused(client, "query", query="1")
    assert (status, kind) == (503, "unavailable")


async def test_an_answer_that_would_fill_the_memory_is_refused(
    client: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MOST_ANSWERED", 100)
    times = {"start": "0", "end": "100", "step": "1"}
    status, kind, text = await refused(client, "query_range", query="1", **times)
    assert (status, kind) == (422, "execution")
    assert text.startswith("the answer has 101 points, of 100 at the most")


async def test_limit_cuts_with_a_warning(client: ClientSession) -> None:
    for path, params in (
        ("query", {"query": "meterd_active_power_watts"}),
        ("series", {"match[]": "meterd_active_power_watts"}),
        ("labels", {}),
        ("label/device/values", {}),
        ("metadata", {}),
    ):
        _, body = await get(client, path, limit="1", **params)
        assert body["warnings"] == ["results truncated due to limit"]
        found = body["data"]["result"] if path == "query" else body["data"]
        assert len(found) == 1
        _, whole = await get(client, path, limit="0", **params)
        assert "warnings" not in whole


async def test_series_labels_and_values(client: ClientSession) -> None:
    found = await data(client, "series", **{"match[]": "meterd_active_power_watts"})
    name = "meterd_active_power_watts"
    assert found == [
        {"__name__": name, "building": "A", "device": "main"},
        {"__name__": name, "device": "garage"},
    ]
    assert {"__name__", "building", "device"} <= set(await data(client, "labels"))
    assert await data(client, "label/building/values") == ["A"]
    assert await data(client, "label/nothing/values") == []
    assert "meterd_device_up" in await data(client, "label/__name__/values")
    chosen = {"match[]": '{__name__=~"meterd_active.*", device="main"}'}
    assert await data(client, "label/__name__/values", **chosen) == [
        "meterd_active_energy_import_local_day_watthours",
        "meterd_active_energy_import_watthours_total",
        "meterd_active_power_watts",
    ]


async def test_several_selectors_are_joined(client: ClientSession) -> None:
    url = "series?match[]=meterd_frequency_hertz&match[]=meterd_active_power_watts"
    async with client.get(url) as reply:
        found = (await reply.json())["data"]
    assert {one["device"] for one in found} == {"main", "garage", "old"}


async def test_only_what_lived_in_the_window_is_listed(client: ClientSession) -> None:
    recent = {"start": NOW_S - 3600, "end": NOW_S}
    assert (
        await data(client, "label/device/values", **recent, **{"match[]": "{device='old'}"}) == []
    )
    assert "old" in await data(client, "label/device/values")
    long_ago = {"start": "-292273086-05-16T16:47:06Z", "end": NOW_S - 3600}
    assert await data(client, "label/device/values", **long_ago) == ["old"]


async def test_escaped_names_of_labels_are_understood(client: ClientSession) -> None:
    plain = await data(client, "label/device/values")
    assert {"garage", "main", "old"} <= set(plain)
    assert await data(client, "label/U__device/values") == plain
    assert await data(client, "label/U__no__such/values") == []


async def test_metadata_has_a_type_for_every_metric(client: ClientSession) -> None:
    found = await data(client, "metadata")
    assert found["meterd_active_energy_import_watthours_total"] == [
        {"type": "counter", "help": "Active energy taken from the grid", "unit": "watthours"}
    ]
    assert all(one["type"] for many in found.values() for one in many)
    only = await data(client, "metadata", metric="meterd_frequency_hertz")
    assert list(only) == ["meterd_frequency_hertz"]


async def test_how_meterd_fares_can_be_asked_for(client: ClientSession) -> None:
    found = await data(client, "query", query="sum(meterd_polls_total)")
    assert float(found["result"][0]["value"][1]) >= 6
    info = await data(client, "query", query="meterd_build_info")
    assert "version" in info["result"][0]["metric"]


async def test_exemplars_are_none_even_when_asked_for_in_milliseconds(
    client: ClientSession,
) -> None:
    times = {"start": str(NOW), "end": str(NOW + 1)}
    assert await data(client, "query_exemplars", query="test", **times) == []


async def test_buildinfo_is_not_that_of_mimir(client: ClientSession) -> None:
    found = await data(client, "status/buildinfo")
    assert "features" not in found
    assert all(isinstance(value, str) for value in found.values())
    assert tuple(map(int, found["version"].split("."))) >= (2, 24, 0)
    for path in ("runtimeinfo", "flags", "config"):
        assert isinstance(await data(client, f"status/{path}"), dict)


async def test_a_query_can_be_formatted(client: ClientSession) -> None:
    assert await data(client, "format_query", query="sum(x)by(a)/2") == "sum by (a) (x) / 2"


RULES = {
    "on-battery": {"device": "rack-ups", "quantity": "ups.status.ob", "equals": 1, "for": "5s"},
    "gone": {"quantity": "device.up", "equals": 0, "severity": "critical", "text": "It is gone"},
    "overvoltage": {"device": ["main", "solar"], "quantity": "voltage.l1", "above": 253.5},
    "drained": {"quantity": "active_power", "below": -1e16},
    "own": {"quantity": "x.heat.pump", "above": 0},
}


def configured(site: FakeSite) -> None:
    site.settings = Settings.model_validate({"alerts": {"rules": RULES}})


async def rules(client: ClientSession, **params: Any) -> dict[str, Any]:
    (group,) = (await data(client, "rules", **params))["groups"]
    return {rule["name"]: rule for rule in group["rules"]}


async def test_every_rule_is_there_whether_it_has_alerts_or_not(
    client: ClientSession, site: FakeSite
) -> None:
    configured(site)
    found = await rules(client)
    assert list(found)[-5:] == list(RULES)
    assert {"store-not-writable", "store-set-aside"} < found.keys()
    assert {rule["state"] for rule in found.values()} == {"inactive"}
    assert found["on-battery"]["duration"] == 5
    assert found["gone"]["labels"] == {"severity": "critical"}
    assert found["gone"]["annotations"] == {"summary": "It is gone"}
    assert found["gone"]["alerts"] == []
    assert "alerts" not in (await rules(client, exclude_alerts="true"))["gone"]


async def test_a_rule_is_told_as_a_query_that_runs(client: ClientSession, site: FakeSite) -> None:
    configured(site)
    layout = {"x.heat.pump": (2.0, "kW"), "voltage.l1": (250.0, "V")}
    site.take(good("main", NOW, layout))
    queries = {name: rule["query"] for name, rule in (await rules(client)).items()}
    assert queries["on-battery"] == 'meterd_ups_status_ob{device="rack-ups"} == 1'
    voltage = 'meterd_voltage_volts{device=~"main|solar", phase="l1"} > 253.5'
    assert queries["overvoltage"] == voltage
    assert queries["drained"] == 'meterd_active_power_watts{phase=""} < -1e+16'
    assert queries["gone"] == "meterd_device_up == 0"
    assert queries["store-not-writable"] == "meterd_store_writable == 0"
    assert queries["store-set-aside"] == "meterd_store_files_set_aside_total > 0"
    assert 'quantity="x.heat.pump"' in queries["own"]
    for text in queries.values():
        assert (await data(client, "query", query=text, time=NOW_S))["resultType"] == "vector"


async def test_alerts_and_rules_have_prometheus_shape(
    client: ClientSession, site: FakeSite
) -> None:
    configured(site)
    site.firing = [
        alert(NOW),
        alert(NOW, id="b", rule="overvoltage", device="main", state=AlertState.PENDING),
        alert(NOW, id="c", rule="gone", device="main", state=AlertState.RESOLVED),
    ]
    one, _ = (await data(client, "alerts"))["alerts"]
    assert one["labels"]["alertname"] == "on-battery"
    assert one["labels"]["device"] == "rack-ups"
    assert (one["state"], one["value"]) == ("firing", "1e+00")
    assert one["activeAt"] == "2026-11-21T09:58:25.000Z"
    found = await rules(client)
    states = {name: (rule["state"], len(rule["alerts"])) for name, rule in found.items()}
    assert states["on-battery"] == ("firing", 1)
    assert states["overvoltage"] == ("pending", 1)
    assert states["gone"] == ("inactive", 0)
    assert {rule["type"] for rule in found.values()} == {"alerting"}
    assert list(await rules(client, **{"rule_name[]": "gone"})) == ["gone"]
    assert (await data(client, "rules", type="record"))["groups"] == []
    site.firing = []
    assert await data(client, "alerts") == {"alerts": []}


async def test_form_and_url_are_read_together(client: ClientSession) -> None:
    async with client.post("query?time=4&unknown=1", data={"query": "time()"}) as reply:
        assert (await reply.json())["data"]["result"] == [4, "4"]


async def test_a_body_that_is_no_form_has_no_parameters(client: ClientSession) -> None:
    async with client.post("query", json={"query": "1"}) as reply:
        assert reply.status == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with client.post("query", data=b"query=%ff", headers=form) as reply:
        assert (reply.status, (await reply.json())["errorType"]) == (400, "bad_data")


async def test_what_is_get_only_says_so(client: ClientSession) -> None:
    for path in ("label/device/values", "metadata", "rules", "alerts", "status/buildinfo"):
        async with client.post(path) as reply:
            assert (reply.status, reply.headers["Allow"]) == (405, "GET,HEAD")


async def test_answers_are_gzip_only_when_asked_for(client: ClientSession) -> None:
    params = {"query": "time()", "start": "0", "end": "5000", "step": "1"}
    for coding, expected in (("gzip", "gzip"), ("identity", None)):
        headers = {"Accept-Encoding": coding}
        async with client.get("query_range", params=params, headers=headers) as reply:
            assert reply.headers.get("Content-Encoding") == expected
            assert len((await reply.json())["data"]["result"][0]["values"]) == 5001


async def test_it_is_healthy_and_ready_in_plain_words(
    client: ClientSession, site: FakeSite
) -> None:
    for path in ("/prometheus/-/healthy", "/prometheus/-/ready"):
        async with client.get(URL(path)) as reply:
            assert (reply.status, reply.content_type) == (200, "text/plain")
    site.readiness = (False, "not polled yet: main")
    async with client.get(URL("/prometheus/-/ready")) as reply:
        assert reply.status == 503
