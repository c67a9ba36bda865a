"""GET export: all samples with their qualities, streamed; mistakes are told before it begins."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.api.conftest import FixedClock, served
from tests.api.fake import NOW
from tests.api.stored import StoredSite, stored_site

PATH = "/api/v1/export"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StoredSite]:
    async with stored_site(tmp_path / "meterd.db") as made:
        yield made


@pytest.fixture
async def client(site: StoredSite) -> AsyncIterator[ClientSession]:
    async with served(site, clock=FixedClock()) as running, ClientSession(running.url) as session:
        yield session


async def rows(client: ClientSession, **query: str) -> list[dict[str, str]]:
    async with client.get(PATH, params=query) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/csv"
        return list(csv.DictReader(io.StringIO(await answer.text())))


async def test_csv_has_every_sample_with_its_quality(client: ClientSession) -> None:
    found = await rows(client)
    assert len(found) == 2 * 120 * 3
    assert found[0] == {
        "time": "2026-11-21T08:00:00.000Z",
        "device": "main",
        "quantity": "voltage.l1",
        "unit": "V",
        "value": "230.0",
        "quality": "good",
        "reason": "",
    }
    null = found[3]
    assert (null["value"], null["quality"], null["reason"]) == ("", "invalid", "not, available")


async def test_devices_quantities_and_times_narrow_it(client: ClientSession) -> None:
    query = {"device": "solar", "quantity": "active_power", "start": "now-30m", "end": "now-10m"}
    found = await rows(client, **query)
    assert [row["value"] for row in found] == [f"{number}.0" for number in range(90, 110)]
    assert {(row["device"], row["quantity"]) for row in found} == {("solar", "active_power")}


async def test_ndjson_says_null_and_never_zero(client: ClientSession) -> None:
    query = {"format": "ndjson", "quantity": "voltage.l1", "device": "main", "end": "now-116m"}
    async with client.get(PATH, params=query) as answer:
        assert answer.content_type == "application/x-ndjson"
        found = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [line["value"] for line in found] == [230.0, 230.1, 230.2, None]
    assert "reason" not in found[0]
    assert found[3]["reason"] == "not, available"


async def test_what_is_not_committed_yet_is_there_too(
    site: StoredSite, client: ClientSession
) -> None:
    from meterd.model.sample import Layout, Poll

    assert site.writer is not None
    site.writer.take(Poll("new", NOW, Layout.of([("frequency", "Hz")]), (50.0,)))
    (row,) = await rows(client, device="new")
    assert (row["quantity"], row["value"]) == ("frequency", "50.0")


async def test_nothing_is_a_header_alone(client: ClientSession) -> None:
    assert await rows(client, end="1") == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"device": "mian"}, 404, "unknown_device"),
        ({"quantity": "volts"}, 404, "unknown_quantity"),
        ({"format": "xls"}, 400, "bad_format"),
        ({"start": "now", "end": "now-1h"}, 422, "bad_range"),
    ],
)
async def test_mistakes_are_told(
    client: ClientSession, query: dict[str, str], status: int, code: str
) -> None:
    async with client.get(PATH, params=query) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_from_and_to_are_times_in_milliseconds(client: ClientSession) -> None:
    asked = {"device": "solar", "quantity": "active_power"}
    by_name = await rows(client, **asked, start="now-30m", end="now-10m")
    span = {"from": str(NOW - 1_800_000), "to": str(NOW - 600_000)}
    assert await rows(client, **asked, **span) == by_name
    async with client.get(PATH, params={**asked, **span, "start": "now-1h"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "repeated_parameter")


async def test_buckets_instead_of_samples(client: ClientSession) -> None:
    query = {"device": "solar", "quantity": "active_power", "resolution": "1h"}
    first, second = await rows(client, **query)
    assert first["time"].startswith("2026-11-21T08:00")
    assert [first[name] for name in ("n", "min", "mean", "max")] == ["60", "0.0", "29.5", "59.0"]
    assert second["mean"] == "89.5"


async def test_a_resolution_that_is_none_is_refused_with_those_there_are(
    client: ClientSession,
) -> None:
    async with client.get(PATH, params={"resolution": "7m"}) as answer:
        assert answer.status == 400
        assert "15m" in await answer.text()
