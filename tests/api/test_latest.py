import json
from typing import Any

from aiohttp import ClientSession

from meterd.api.latest import LatestSamples
from meterd.model.sample import Fault, failed
from tests.api.fake import NOW, FakeDevice, FakeSite, good


async def latest(client: ClientSession, query: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    async with client.get(f"/api/v1/latest{query}") as reply:
        assert reply.status == 200
        body = LatestSamples.model_validate_json(await reply.read(), strict=False)
        assert body.time == "2026-11-21T10:00:00.000Z"
        rows = (await reply.json())["samples"]
    found = {(row["device"], row["quantity"]): row for row in rows}
    assert len(found) == len(rows), "a series came twice"
    return found


async def test_a_fresh_sample_is_good_and_carries_its_own_time(client: ClientSession) -> None:
    row = (await latest(client))["main", "voltage.l1"]
    assert row == {
        "device": "main",
        "quantity": "voltage.l1",
        "value": 229.8,
        "unit": "V",
        "time": "2026-11-21T09:59:58.000Z",
        "age_s": 2.0,
        "quality": "good",
        "reason": "",
    }


async def test_devices_and_quantities_can_be_chosen_and_repeated(client: ClientSession) -> None:
    query = "?device=main&device=kitchen&quantity=voltage.l1&quantity=voltage.l2"
    assert set(await latest(client, query)) == {
        ("main", "voltage.l1"),
        ("main", "voltage.l2"),
        ("kitchen", "voltage.l1"),
    }


async def test_a_device_that_is_down_has_stale_values_and_a_current_up(
    client: ClientSession,
) -> None:
    rows = await latest(client, "?device=garage")
    power, up = rows["garage", "active_power"], rows["garage", "device.up"]
    assert (power["quality"], power["value"], power["age_s"]) == ("stale", 55.0, 200.0)
    assert "down since 2026-11-21T09:58:00.000Z: timeout: no answer" in power["reason"]
    assert (up["quality"], up["value"], up["age_s"]) == ("good", 0.0, 120.0)


async def test_a_sample_older_than_three_intervals_is_stale(client: ClientSession) -> None:
    rows = await latest(client, "?device=kitchen")
    power, factor = rows["kitchen", "active_power"], rows["kitchen", "power_factor"]
    assert power["quality"] == "stale"
    assert "no poll since 2026-11-21T09:59:20.000Z" in power["reason"]
    assert factor["value"] is None
    assert factor["reason"].endswith("; the meter says: not available")


async def test_exactly_three_intervals_are_not_yet_stale(
    client: ClientSession, site: FakeSite
) -> None:
    site.add(FakeDevice("edge"), good("edge", NOW - 15_000, {"frequency": (50.0, "Hz")}))
    site.add(FakeDevice("over"), good("over", NOW - 15_001, {"frequency": (50.0, "Hz")}))
    rows = await latest(client, "?quantity=frequency")
    assert rows["edge", "frequency"]["quality"] == "good"
    assert rows["over", "frequency"]["quality"] == "stale"


async def test_a_device_that_never_answered_has_only_its_up(
    client: ClientSession, site: FakeSite
) -> None:
    site.add(FakeDevice("dead"), failed("dead", NOW, Fault("refused", "nobody listens")))
    site.add(FakeDevice("new"))
    rows = await latest(client, "?device=dead&device=new")
    assert list(rows) == [("dead", "device.up")]
    assert rows["dead", "device.up"]["quality"] == "good"


async def test_what_is_no_number_becomes_null_never_nan(
    client: ClientSession, site: FakeSite
) -> None:
    site.add(FakeDevice("odd"), good("odd", NOW, {"frequency": (float("nan"), "Hz")}))
    async with client.get("/api/v1/latest?device=odd") as reply:
        body = json.loads(await reply.text(), parse_constant=lambda word: f"found {word}")
    assert body["samples"][0]["value"] is None


async def test_unknown_names_are_refused_with_what_there_is(client: ClientSession) -> None:
    async with client.get("/api/v1/latest?device=mian") as reply:
        body = await reply.json(content_type="application/problem+json")
    assert (reply.status, body["code"]) == (404, "unknown_device")
    assert body["hint"] == "did you mean main?"
    assert "rack-ups" in body["allowed"]
    async with client.get("/api/v1/latest?quantity=voltage.l9") as reply:
        body = await reply.json(content_type="application/problem+json")
    assert (reply.status, body["code"]) == (404, "unknown_quantity")
    assert "voltage.l1" in body["hint"]


async def test_a_quantity_of_the_catalogue_that_nobody_has_gives_nothing(
    client: ClientSession,
) -> None:
    assert await latest(client, "?quantity=thd.voltage.l1") == {}
