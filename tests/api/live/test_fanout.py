"""Streams over real sockets: state, changes, resumption, filters, limits and the end."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientResponse, ClientSession

from meterd.api import app
from meterd.api.app import Running, ServingRules, serve
from meterd.api.limits import ServerLimits
from meterd.api.live import fanout, serializers
from meterd.model.alert import AlertState
from meterd.model.sample import Fault, failed
from tests.api.fake import NOW, FakeSite, alert, good

POWER = {"active_power": (100.0, "W"), "voltage.l1": (230.0, "V")}


class Heard(NamedTuple):
    kind: str
    number: str
    data: Any


class Ear:
    """Reads events one by one."""

    def __init__(self, reply: ClientResponse) -> None:
        self._reply = reply

    async def next(self) -> Heard:
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            while line := (await self._reply.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
        return Heard(fields["event"], fields.get("id", ""), json.loads(fields["data"]))

    async def ended(self) -> bool:
        async with asyncio.timeout(60):
            return await self._reply.content.read() == b""


@contextlib.asynccontextmanager
async def listening(
    client: ClientSession, query: str = "", last: str = ""
) -> AsyncIterator[tuple[Ear, Heard]]:
    headers = {"Last-Event-ID": last} if last else {}
    async with client.get(f"/api/v1/stream{query}", headers=headers) as reply:
        assert reply.status == 200
        ear = Ear(reply)
        yield ear, await ear.next()


def by_device(heard: Heard) -> dict[str, Any]:
    return {one["device"]: one for one in heard.data["devices"]}


async def test_the_whole_state_comes_first_and_then_what_changes(
    client: ClientSession, site: FakeSite
) -> None:
    async with listening(client) as (ear, state):
        assert state.kind == "state"
        power = by_device(state)["main"]["samples"]["active_power"]
        assert power["value"] == 3412.5
        assert by_device(state)["garage"]["error"]["code"] == "timeout"
        site.take(good("main", NOW, POWER))
        first = await ear.next()
        assert (first.kind, list(by_device(first))) == ("changes", ["main"])
        site.take(good("main", NOW + 1000, {**POWER, "active_power": (101.0, "W")}))
        main = by_device(await ear.next())["main"]
    assert main["samples"] == {"active_power": {"value": 101.0, "unit": "W", "quality": "good"}}
    assert main["same"] == ["voltage.l1", "device.up"]
    assert main["time"] == "2026-11-21T10:00:01.000Z"


async def test_an_outage_and_its_end_are_told_in_full(
    client: ClientSession, site: FakeSite
) -> None:
    async with listening(client, "?device=main&quantity=voltage.l1") as (ear, state):
        assert list(by_device(state)["main"]["samples"]) == ["voltage.l1"]
        site.take(failed("main", NOW, Fault("timeout", "no answer")))
        main = by_device(await ear.next())["main"]
        assert (main["up"], main["error"]["code"]) == (False, "timeout")
        site.take(good("main", NOW + 1000, POWER))
        main = by_device(await ear.next())["main"]
    assert (main["up"], main["error"]) == (True, None)
    assert main["samples"]["voltage.l1"]["value"] == 230.0


async def test_a_filter_keeps_out_what_was_not_asked_for(
    client: ClientSession, site: FakeSite
) -> None:
    async with listening(client, "?device=solar&quantity=active_power") as (ear, state):
        assert list(by_device(state)) == ["solar"]
        site.take(good("main", NOW, POWER))
        site.take(good("solar", NOW, POWER))
        heard = await ear.next()
    assert list(by_device(heard)) == ["solar"]
    assert list(by_device(heard)["solar"]["samples"]) == ["active_power"]


async def test_alerts_are_told_when_they_come_and_go(client: ClientSession, site: FakeSite) -> None:
    async with listening(client, "?device=rack-ups") as (ear, state):
        assert state.data["alerts"] == []
        site.firing = [alert(NOW)]
        site.take(good("main", NOW, POWER))
        heard = await ear.next()
    assert [one["state"] for one in heard.data["alerts"]] == ["firing"]


async def test_of_an_alert_that_flaps_only_what_changed_is_told(
    client: ClientSession, site: FakeSite
) -> None:
    """Nine hundred that were resolved within a quarter of an hour are listed, and no news."""
    old = [alert(NOW, id=f"old-{n}", state=AlertState.RESOLVED) for n in range(900)]
    site.firing = old
    async with listening(client, "?device=rack-ups") as (ear, state):
        assert len(state.data["alerts"]) == 900
        site.take(good("rack-ups", NOW, {"ups.load": (1.0, "%")}))
        await ear.next()
        new = alert(NOW, id="new")
        for firing, told, gone in (
            ([new, *old], ["new"], []),
            ([replace(new, value=2.0), *old], None, None),
            ([replace(new, state=AlertState.RESOLVED), *old[:-1]], ["new"], ["old-899"]),
        ):
            site.firing = firing
            site.take(good("rack-ups", NOW, {"ups.load": (1.0, "%")}))
            heard = await ear.next()
            found = heard.data.get("alerts")
            assert (found and [one["id"] for one in found]) == told
            assert heard.data.get("alerts_gone") == gone
            assert len(json.dumps(heard.data)) < 1000


async def test_who_asked_for_one_device_hears_of_no_others_alerts(
    client: ClientSession, site: FakeSite
) -> None:
    async with listening(client, "?device=main") as (ear, _):
        site.firing = [alert(NOW)]
        site.take(good("solar", NOW, POWER))
        site.take(good("main", NOW, POWER))
        heard = await ear.next()
    assert "alerts" not in heard.data
    assert list(by_device(heard)) == ["main"]


async def test_who_comes_back_is_told_what_was_missed(
    client: ClientSession, site: FakeSite
) -> None:
    async with listening(client) as (ear, _):
        site.take(good("main", NOW, POWER))
        last = (await ear.next()).number
        async with listening(client) as (other, _):
            for value in (1.0, 2.0):
                site.take(good("main", NOW, {"active_power": (value, "W")}))
                await other.next()
        await ear.next()
        async with listening(client, last=last) as (again, first):
            missed = [first, await again.next()]
    values = [by_device(one)["main"]["samples"]["active_power"]["value"] for one in missed]
    assert values == [1.0, 2.0]


@pytest.mark.parametrize("last", ["0-1", "nonsense", "-", "1-²", "x" * 4000, f"{NOW:x}-99999"])
async def test_what_cannot_be_resumed_begins_anew(client: ClientSession, last: str) -> None:
    async with listening(client, last=last) as (_, first):
        assert first.kind == "state"


async def test_a_sign_of_life_comes_where_nothing_changes(
    client: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "HEARTBEAT", 0.0)
    async with listening(client, "?device=main") as (ear, _):
        kinds = {(await ear.next()).kind for _ in range(3)}
    assert "beat" in kinds


async def test_nothing_between_may_hold_it_back(client: ClientSession) -> None:
    async with client.get("/api/v1/stream") as reply:
        assert reply.content_type == "text/event-stream"
        assert reply.headers["X-Accel-Buffering"] == "no"
        assert "no-transform" in reply.headers["Cache-Control"]
    async with client.head("/api/v1/stream") as reply:
        assert (reply.status, reply.content_type) == (200, "text/event-stream")


async def test_names_that_are_not_there_are_refused(client: ClientSession) -> None:
    async with client.get("/api/v1/stream?device=nope") as reply:
        assert (reply.status, reply.content_type) == (404, "application/problem+json")


async def test_the_end_of_the_server_is_the_end_of_every_stream_at_once(
    client: ClientSession, running: Running
) -> None:
    async with listening(client) as (ear, _):
        began = time.monotonic()
        await running.close()
        # Without being told, it would be waited for this long.
        assert time.monotonic() - began < app._GRACE
        assert await ear.ended()


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_streams_have_a_limit_and_free_their_place(site: FakeSite) -> None:
    limits = replace(ServerLimits(), most=4)
    server = await serve(site, "127.0.0.1", 0, rules=ServingRules(limits=limits))
    try:
        async with ClientSession(server.url) as client:
            three = listening(client), listening(client), listening(client)
            async with three[0], three[1], three[2], client.get("/api/v1/stream") as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (503, "10")
            await until(lambda: server.guests.count <= 1)
            async with listening(client) as (_, first):
                assert first.kind == "state"
    finally:
        await server.close()


async def test_the_state_is_made_once_for_all_who_come_together(
    client: ClientSession, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def counted(*words: Any) -> bytes:
        made.append(words)
        return serializers.state(*words)

    monkeypatch.setattr(fanout, "state", counted)
    async with listening(client) as (ear, first), listening(client) as (_, second):
        assert (len(made), second) == (1, first)
        async with listening(client, "?device=main") as (_, other):
            assert (len(made), list(by_device(other))) == (2, ["main"])
        site.take(good("main", NOW, POWER))
        await ear.next()
        async with listening(client) as (_, third):
            assert by_device(third)["main"]["samples"]["active_power"]["value"] == 100.0
        assert len(made) == 3


async def test_who_reads_nothing_falls_behind_alone_and_gets_the_state_anew(
    client: ClientSession, site: FakeSite, running: Running
) -> None:
    # Large polls fill what the kernel and meterd keep for the one that reads nothing.
    wide = {f"x.{'long' * 20}{n}": (float(n), "1") for n in range(3000)}
    reader, writer = await asyncio.open_connection(running.host, running.port, limit=1024)
    writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readline()
    async with listening(client) as (ear, _):
        for turn in range(24):
            site.take(good("main", NOW + turn, {k: (v + turn, u) for k, (v, u) in wide.items()}))
            heard = await ear.next()
            assert heard.kind == "changes"
        site.latest.take(good("main", NOW + 99, POWER))
        said = b""
        while said.count(b"event: state") < 2:
            site.take(good("solar", NOW, POWER))
            said += await asyncio.wait_for(reader.read(1 << 20), 60)
        async with client.get("/metrics") as scraped:
            assert "meterd_streams_slow_total 1.0" in await scraped.text()
    writer.close()
    assert said.count(b"event: changes") < 24
