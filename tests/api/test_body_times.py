"""Times in bodies: the same as in queries, and nothing else is taken for one."""

import json
from typing import Any

import pytest
from aiohttp import ClientSession

from meterd.api.answer import JSON
from meterd.api.routes import ROUTES
from tests.api.fake import NOW

NOW_S = NOW // 1000
SILENCES = "/api/v1/silences"
CORRECTIONS = "/api/v1/corrections"
MARKING = {
    "device": "main",
    "quantity": "active_power",
    "start": "now-2h",
    "end": "now",
    "why": "x",
}
SILENCE = {"device": "main", "end": "now+2h"}
BODIES = [(SILENCES, SILENCE, "start"), (SILENCES, SILENCE, "end")]
BODIES += [(CORRECTIONS, MARKING, "start"), (CORRECTIONS, MARKING, "end")]


async def post(client: ClientSession, path: str, text: str) -> tuple[int, dict[str, Any]]:
    async with client.post(path, data=text, headers={"Content-Type": JSON}) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (NOW_S + 7200, "2026-11-21T12:00:00.000Z"),
        (NOW_S + 0.25, "2026-11-21T10:00:00.250Z"),
        (str(NOW_S + 7200), "2026-11-21T12:00:00.000Z"),
        ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.000Z"),
        ("now+2h", "2026-11-21T12:00:00.000Z"),
    ],
)
async def test_a_number_is_unix_seconds_as_in_a_query(
    client: ClientSession, value: object, time: str
) -> None:
    status, made = await post(client, SILENCES, json.dumps({"device": "main", "end": value}))
    assert (status, made["end"]) == (201, time)


NO_TIMES = (
    *("true", "false", "[]", "[1796036000]", "{}", "-1", "-0.5", "NaN", "Infinity", "1e400"),
    *("9" * 40, "9" * 4300, '"NaN"', '"inf"', '"-5"', '""', '"true"', '"1e9"', "1796036000000"),
    '"1796036000000"',
)


@pytest.mark.parametrize(("path", "body", "name"), BODIES)
async def test_anything_else_is_refused_and_changes_nothing(
    client: ClientSession, path: str, body: dict[str, str], name: str
) -> None:
    for value in NO_TIMES:
        text = json.dumps({**body, name: "?"}).replace('"?"', value)
        status, told = await post(client, path, text)
        assert (status, told["code"], told["parameter"]) == (422, "bad_body", name), (value, told)
        assert "Unix seconds" in told["detail"] + told["hint"]
    async with client.get(SILENCES) as answer:
        assert (await answer.json())["silences"] == []


@pytest.mark.parametrize(
    "value",
    ["9" * 4301, "-" + "9" * 50_000, "[" * 5000 + "]" * 5000, '"\\ud800"', "1." + "0" * 9999],
)
async def test_the_odd_ends_of_json_are_refused_or_mean_what_they_say(
    client: ClientSession, value: str
) -> None:
    status, told = await post(client, SILENCES, f'{{"end": {value}}}')
    assert (status, told["code"]) in ((400, "bad_json"), (422, "bad_body"), (422, "bad_range"))


async def test_milliseconds_by_habit_are_told_what_they_are(client: ClientSession) -> None:
    _, told = await post(client, SILENCES, '{"end": 1796036000000}')
    assert told["detail"] == (
        "'end': '1796036000000' is the year 58884: "
        "times are Unix seconds, 1796036000 without the milliseconds"
    )


def test_every_body_with_a_time_was_asked() -> None:
    named = {
        (route.path, name)
        for route in ROUTES
        if route.body is not None
        for name in route.body.model_fields
        if {"start", "end", "time", "until", "from"} & {name}
    }
    assert named == {(path, name) for path, _, name in BODIES}
