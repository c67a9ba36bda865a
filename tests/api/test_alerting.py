"""Acknowledging and silencing alerts, and commands to devices."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.api.app import Running
from meterd.api.silences import LONGEST
from meterd.errors import DeviceCode, DeviceError, LinkCode, LinkError
from tests.api.conftest import FixedClock
from tests.api.fake import NOW, FakeDevice, FakeSite, good
from tests.api.locked import ask, locked, token

HOT = Rule("hot", "temperature", above=60.0, hold=0.0)


@pytest.fixture
def site(site: FakeSite) -> FakeSite:
    """With an alert that fires."""
    site.alerting = Alerts([HOT], {}, clock=FixedClock())
    site.alerting.take(good("main", NOW, {"temperature": (70.0, "°C")}))
    site.alerts = site.alerting.active  # type: ignore[method-assign]
    return site


async def post(client: ClientSession, path: str, body: Any = None, status: int = 200) -> Any:
    async with client.post(f"/api/v1/{path}", json=body) as reply:
        answer = await reply.json(content_type=None)
        assert reply.status == status, answer
    return answer


async def only_alert(client: ClientSession) -> Any:
    async with client.get("/api/v1/alerts") as reply:
        (found,) = (await reply.json())["alerts"]
    return found


async def test_who_knows_of_an_alert_stands_beside_it(client: ClientSession) -> None:
    alert = await only_alert(client)
    assert (alert["state"], alert["ack"], alert["silenced_by"]) == ("firing", None, [])
    await post(client, f"alerts/{alert['id']}/ack", {"comment": "on my way"})
    ack = (await only_alert(client))["ack"]
    assert ack == {"time": "2026-11-21T10:00:00.000Z", "by": "", "comment": "on my way"}


async def test_an_ack_needs_no_body_but_an_alert(client: ClientSession) -> None:
    alert = await only_alert(client)
    async with client.post(f"/api/v1/alerts/{alert['id']}/ack") as reply:
        assert reply.status == 200
    assert (await post(client, "alerts/none/ack", status=404))["code"] == "unknown_alert"


async def test_a_silence_is_made_listed_and_ended(client: ClientSession) -> None:
    made = await post(client, "silences", {"device": "main", "end": "now+2h", "comment": "x"}, 201)
    assert made["end"] == "2026-11-21T12:00:00.000Z"
    assert (await only_alert(client))["silenced_by"] == [made["id"]]
    async with client.get("/api/v1/silences") as reply:
        assert (await reply.json())["silences"] == [made]
    async with client.delete(f"/api/v1/silences/{made['id']}") as reply:
        assert await reply.json() == {"removed": made["id"]}
    assert (await only_alert(client))["silenced_by"] == []
    async with client.delete(f"/api/v1/silences/{made['id']}") as reply:
        assert (reply.status, (await reply.json(content_type=None))["code"]) == (
            404,
            "unknown_silence",
        )


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({}, 422, "bad_body", "end"),
        ([], 422, "bad_body", "object"),
        (7, 422, "bad_body", "object"),
        ({"end": 5}, 422, "bad_range", "now+2h"),
        ({"end": "soon"}, 422, "bad_body", "now-6h"),
        ({"end": "now-1h"}, 422, "bad_range", "now+2h"),
        ({"end": "now+1h", "start": "now+2h"}, 422, "bad_range", "after start"),
        ({"end": f"now+{LONGEST // 1000 + 1}s"}, 422, "bad_range", "year"),
        ({"end": "now+1h", "device": "nope"}, 404, "unknown_device", "main"),
        ({"end": "now+1h", "rule": "hott"}, 404, "unknown_rule", "did you mean hot?"),
        ({"end": "now+1h", "quantity": "nope"}, 404, "unknown_quantity", "nope"),
        ({"end": "now+1h", "until": 1}, 422, "bad_body", "until"),
        ({"end": "now+1h", "comment": "x" * 501}, 422, "bad_body", "500"),
        ({"end": None}, 422, "bad_body", "end"),
    ],
)
async def test_a_silence_that_makes_no_sense_is_refused(
    client: ClientSession, body: Any, status: int, code: str, said: str
) -> None:
    answer = await post(client, "silences", body, status)
    assert answer["code"] == code
    assert said in str(answer)


async def test_a_body_has_to_be_json(client: ClientSession) -> None:
    async with client.post("/api/v1/silences", data=b"end=now") as reply:
        assert reply.status == 415
    headers = {"Content-Type": "application/json"}
    for broken in (b"{", b"\xff", b"nonsense", b"[" * 5000):
        async with client.post("/api/v1/silences", data=broken, headers=headers) as reply:
            assert (reply.status, (await reply.json(content_type=None))["code"]) == (
                400,
                "bad_json",
            )


async def command(running: Running, key: str, device: str, name: str, status: int = 409) -> Any:
    path = f"/api/v1/devices/{device}/commands"
    body = json.dumps({"command": name}).encode()
    reply = await ask(
        running, path, "POST", body, Authorization=key, Content_Type="application/json"
    )
    assert reply.status == status, reply.body
    return reply.json


async def test_commands_go_only_where_the_configuration_allows_them(tmp_path: Path) -> None:
    site = FakeSite(known=[FakeDevice("ups", commands=("beeper.toggle",)), FakeDevice("main")])
    key = token(tmp_path, "bot", "command")
    async with locked(folder=tmp_path, site=site) as running:
        done = await command(running, key, "ups", "beeper.toggle", 200)
        assert (done["device"], site.sent) == ("ups", [("ups", "beeper.toggle")])
        answer = await command(running, key, "main", "beeper.toggle")
        assert answer["code"] == "command_not_allowed"
        assert "commands: [beeper.toggle]" in answer["hint"]
        assert (await command(running, key, "ups", "load.off"))["allowed"] == ["beeper.toggle"]
        unknown = await command(running, key, "nope", "load.off", 404)
        assert unknown["code"] == "unknown_device"
        reader = token(tmp_path, "reader", "read")
        assert (await command(running, reader, "ups", "beeper.toggle", 403))["code"]
    assert len(site.sent) == 1


async def test_a_command_that_fails_says_how(tmp_path: Path) -> None:
    site = FakeSite(known=[FakeDevice("ups", commands=("beeper.toggle",))])
    key = token(tmp_path, "bot", "command")
    async with locked(folder=tmp_path, site=site) as running:
        site.refusing = LookupError()
        answer = await command(running, key, "ups", "beeper.toggle")
        assert answer["code"] == "no_such_command"
        for error in (
            LinkError("no answer", code=LinkCode.TIMEOUT),
            DeviceError("no", code=DeviceCode.UNSUPPORTED),
        ):
            site.refusing = error
            answer = await command(running, key, "ups", "beeper.toggle", 503)
            assert answer["code"] == "command_failed"


async def test_this_machine_alone_is_no_right_to_send_commands(
    client: ClientSession, site: FakeSite
) -> None:
    answer = await post(client, "devices/main/commands", {"command": "load.off"}, 401)
    assert "command" in answer["detail"]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "\x9b1m", "\u202egnp", "\x00"])
async def test_control_characters_do_not_come_in(client: ClientSession, text: str) -> None:
    alert = await only_alert(client)
    for path, body in (
        ("silences", {"device": "main", "end": "now+2h", "comment": text}),
        (f"alerts/{alert['id']}/ack", {"comment": text}),
    ):
        told = await post(client, path, body, 422)
        assert told["code"] == "bad_body"
        assert "control characters" in told["detail"]
    assert (await only_alert(client))["ack"] is None
    await post(client, f"alerts/{alert['id']}/ack", {"comment": "two\nlines: ü°"})
