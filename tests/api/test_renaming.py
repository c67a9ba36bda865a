"""REST renames and replacements: done, refused, and how each route tells of devices that went."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from meterd.api.latest import LatestSamples
from meterd.api.renaming import Renamed, ReplacedMeter
from meterd.model.sample import Layout, Poll
from tests.api.conftest import FixedClock, served
from tests.api.fake import NOW, FakeDevice
from tests.api.stored import StoredSite, stored_site

COUNTER = Layout.of([("active_energy.import", "Wh"), ("guarded.active_energy.import", "Wh")])


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StoredSite]:
    async with stored_site(tmp_path / "meterd.db") as made:
        made.known = [FakeDevice("main"), FakeDevice("off", enabled=False)]
        yield made


@pytest.fixture
async def client(site: StoredSite) -> AsyncIterator[ClientSession]:
    async with served(site, clock=FixedClock()) as running, ClientSession(running.url) as session:
        yield session


async def get(client: ClientSession, path: str, **query: str) -> tuple[int, Any]:
    async with client.get(f"/api/v1/{path}", params=query) as answer:
        return answer.status, await answer.json()


async def post(client: ClientSession, path: str, **body: Any) -> tuple[int, Any]:
    async with client.post(f"/api/v1/devices/{path}", json=body) as answer:
        return answer.status, await answer.json()


async def test_a_device_that_only_the_store_knows_is_denied_nowhere(client: ClientSession) -> None:
    """`solar` is configured no more."""
    assert (await get(client, "devices"))[1]["stored"] == [
        {"id": "solar", "first": "2026-11-21T08:00:00.000Z", "last": "2026-11-21T09:59:00.000Z"}
    ]
    status, told = await get(client, "devices/solar")
    assert (status, "its history is in the store" in told["hint"]) == (404, True)
    status, told = await get(client, "latest", device="solar")
    samples = {one.quantity: one for one in LatestSamples.model_validate(told).samples}
    assert (samples["active_power"].value, samples["active_power"].quality) == (119.0, "stale")
    assert samples["active_power"].age_s == 60.0
    assert status == 200
    for query in ({"device": "solar"}, {}):
        _, told = await get(client, "range", quantity="active_power", start="now-2h", **query)
        assert "solar" in {one["device"] for one in told["series"]}
        async with client.get("/api/v1/export", params=query) as answer:
            assert b",solar," in await answer.read()
        _, told = await get(client, "series", **query)
        assert "solar" in {one["device"] for one in told["series"]}
    status, _ = await get(client, "energy", device="solar")
    assert status == 200
    status, made = await post_correction(client, "solar")
    assert status == 200, made
    question = "count by (device) (meterd_active_power_watts)"
    async with client.get(
        "/prometheus/api/v1/query", params={"query": question, "time": str(NOW / 1000 - 60)}
    ) as answer:
        found = (await answer.json())["data"]["result"]
    assert {one["metric"]["device"] for one in found} == {"main", "solar"}


async def post_correction(client: ClientSession, device: str) -> tuple[int, Any]:
    body = {"device": device, "quantity": "active_power", "start": "now-60m", "end": "now-50m"}
    async with client.post("/api/v1/corrections", json={**body, "why": "clamp"}) as answer:
        return answer.status, await answer.json()


async def test_renamed_and_told(client: ClientSession) -> None:
    status, made = await post(client, "solar/rename", name="roof", who="anna")
    assert status == 200, made
    assert Renamed.model_validate(made) == Renamed(
        device="roof", was="solar", time="2026-11-21T10:00:00.000Z"
    )
    status, told = await get(client, "range", device="solar", quantity="active_power")
    assert (status, told["hint"]) == (404, "it was renamed: it is called roof now")
    _, told = await get(client, "range", device="roof", quantity="active_power", start="now-2h")
    assert len(told["series"]) == 1


@pytest.mark.parametrize(
    ("device", "body", "status", "code"),
    [
        ("lost", {"name": "roof"}, 404, "unknown_device"),
        ("solar", {"name": "main"}, 409, "device_exists"),
        ("solar", {"name": "Roof top"}, 422, "bad_body"),
        ("solar", {}, 422, "bad_body"),
    ],
)
async def test_what_is_not_renamed(
    client: ClientSession, device: str, body: dict[str, str], status: int, code: str
) -> None:
    found, told = await post(client, f"{device}/rename", **body)
    assert (found, told["code"]) == (status, code)


async def test_replaced(site: StoredSite, client: ClientSession) -> None:
    assert site.writer is not None
    for minute in range(60):
        total = 1000.0 + minute
        time = NOW - (60 - minute) * 60_000
        site.writer.take(Poll("main", time, COUNTER, (total, total)))
    status, made = await post(client, "main/replace", at="now-30m", who="anna")
    assert status == 200, made
    row = ReplacedMeter.model_validate(made)
    assert (row.at, row.replaced, row.totals) == ("2026-11-21T09:30:00.000Z", True, 30)
    status, made = await post(client, "main/replace", at="now-30m", undo=True)
    assert (status, made["replaced"], made["totals"]) == (200, False, 30)


@pytest.mark.parametrize(
    ("device", "body", "status", "code"),
    [
        ("lost", {"at": "now"}, 404, "unknown_device"),
        ("main", {"at": "now-1h"}, 409, "not_replaced"),
        ("main", {"at": "now+1h"}, 422, "bad_range"),
        ("main", {"at": "yesterday"}, 422, "bad_body"),
    ],
)
async def test_what_is_not_replaced(
    client: ClientSession, device: str, body: dict[str, str], status: int, code: str
) -> None:
    found, told = await post(client, f"{device}/replace", **body)
    assert (found, told["code"]) == (status, code)
