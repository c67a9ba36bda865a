"""REST corrections: marked, listed, undone; mistakes are told; reading alone does not suffice."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from meterd.api.answer import JSON
from meterd.api.app import ServingRules
from meterd.api.auth import tokens
from meterd.api.auth.authenticator import Access
from meterd.api.corrections import CorrectionList, CorrectionRow
from meterd.api.routes import ROUTES
from tests.api.conftest import FixedClock, served
from tests.api.stored import StoredSite, stored_site

PATH = "/api/v1/corrections"
ASKED = {
    "device": "main",
    "quantity": "active_power",
    "start": "now-60m",
    "end": "now-30m",
    "why": "clamp was off",
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StoredSite]:
    async with stored_site(tmp_path / "meterd.db") as made:
        yield made


@pytest.fixture
async def client(site: StoredSite) -> AsyncIterator[ClientSession]:
    async with served(site, clock=FixedClock()) as running, ClientSession(running.url) as session:
        yield session


async def power(client: ClientSession) -> int:
    query = {"device": "main", "quantity": "active_power", "start": "now-2h", "step": "raw"}
    async with client.get("/api/v1/range", params=query) as answer:
        (series,) = (await answer.json())["series"]
        return len(series["points"])


async def post(client: ClientSession, path: str = PATH, **body: Any) -> tuple[int, dict[str, Any]]:
    async with client.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def test_an_interval_is_marked_listed_and_undone(client: ClientSession) -> None:
    before = await power(client)
    status, made = await post(client, **ASKED, who="anna")
    assert status == 200, made
    row = CorrectionRow.model_validate(made)
    assert (row.samples, row.state, row.why, row.who) == (30, "marked", "clamp was off", "anna")
    assert row.start == "2026-11-21T09:00:00.000Z"
    assert await power(client) == before - 30
    async with client.get(PATH) as answer:
        listed = CorrectionList.model_validate(await answer.json())
    assert listed.corrections == [row]
    status, undone = await post(client, f"{PATH}/{row.id}/undo", who="bert")
    assert (status, undone["state"], undone["undone_by"]) == (200, "undone", "bert")
    assert await power(client) == before


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"why": " "}, 422, "bad_body"),
        ({"why": None}, 422, "bad_body"),
        ({"start": "yesterday"}, 422, "bad_body"),
        ({"oops": 1}, 422, "bad_body"),
        ({"device": "mian"}, 404, "unknown_device"),
        ({"quantity": "activ_power"}, 404, "unknown_quantity"),
        ({"quantity": "frequency"}, 404, "unknown_correction"),
        ({"end": "now+1h"}, 422, "bad_range"),
        ({"start": "now-10m"}, 422, "bad_range"),
    ],
)
async def test_mistakes_are_told_and_change_nothing(
    client: ClientSession, more: dict[str, Any], status: int, code: str
) -> None:
    before = await power(client)
    got, told = await post(client, **{**ASKED, **more})
    assert (got, told["code"]) == (status, code), told
    assert await power(client) == before


async def test_a_correction_is_json_and_says_so(client: ClientSession) -> None:
    for path in (PATH, f"{PATH}/1/undo"):
        async with client.post(path, data={"who": "a form"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (415, "bad_media")
        async with client.post(path, data=b"{", headers={"Content-Type": JSON}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "bad_json")


async def test_what_does_not_exist_cannot_be_undone(client: ClientSession) -> None:
    for number in ("7", "x", "9" * 40):
        status, told = await post(client, f"{PATH}/{number}/undo")
        assert (status, told["code"]) == (404, "unknown_correction")


def test_only_admins_change_anything() -> None:
    changing = [route for route in ROUTES if route.path.startswith(PATH) and route.method == "POST"]
    assert [route.scope for route in changing] == ["admin", "admin"]


async def test_whoever_logged_in_is_who_did_it(site: StoredSite, tmp_path: Path) -> None:
    from meterd.api.app import serve

    file = tmp_path / "tokens"
    admin = tokens.add(file, "phone", ("read", "admin"), 1, None)
    reading = tokens.add(file, "grafana", ("read",), 1, None)
    rules = ServingRules(Access(login_always=True, tokens=file))
    running = await serve(site, "127.0.0.1", 0, clock=FixedClock(), rules=rules)
    try:
        async with ClientSession(running.url) as session:
            for token, status in ((reading, 403), (admin, 200)):
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(PATH, json=ASKED, headers=headers) as answer:
                    assert answer.status == status, await answer.text()
                    told = await answer.json()
        assert told["who"] == "phone"
    finally:
        await running.close()


@pytest.mark.parametrize("name", ["why", "who"])
async def test_control_characters_do_not_come_in(client: ClientSession, name: str) -> None:
    status, told = await post(client, **{**ASKED, name: "bad\x1b[31m"})
    assert status == 422
    assert "control characters" in told["detail"]


async def test_a_right_value_is_entered_in_another_unit_and_undone(client: ClientSession) -> None:
    before = await values(client)
    status, made = await post(client, **ASKED, value=1.25, unit="kW", who="anna")
    assert status == 200, made
    row = CorrectionRow.model_validate(made)
    assert (row.samples, row.state, row.value) == (30, "set", 1250.0)
    after = await values(client)
    assert len(after) == len(before)
    assert after.count(1250.0) == 30
    status, undone = await post(client, f"{PATH}/{row.id}/undo")
    assert (status, undone["state"], undone["lost"]) == (200, "undone", None)
    assert await values(client) == before


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"value": 1.0, "unit": "°C"}, "bad_correction", "is in W"),
        ({"value": 1e300, "unit": "kW"}, "bad_correction", "no number that can be measured"),
        ({"unit": "kW"}, "bad_body", "there is none"),
        ({"value": "x"}, "bad_body", "number"),
    ],
)
async def test_values_that_cannot_be_set_are_refused(
    client: ClientSession, more: dict[str, Any], code: str, says: str
) -> None:
    status, told = await post(client, **{**ASKED, **more})
    assert (status, told["code"]) == (422, code), told
    assert says in told["detail"]


async def test_infinity_in_a_body_is_refused(client: ClientSession) -> None:
    body = json.dumps({**ASKED, "value": 1.0}).replace("1.0", "1e999")
    async with client.post(PATH, data=body, headers={"Content-Type": JSON}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "bad_body")


async def values(client: ClientSession) -> list[float]:
    query = {"device": "main", "quantity": "active_power", "start": "now-2h", "step": "raw"}
    async with client.get("/api/v1/range", params=query) as answer:
        (series,) = (await answer.json())["series"]
        return [value for _, value in series["points"]]
