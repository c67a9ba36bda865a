"""Whatever is asked while a reload changes the store is answered, or told to come again."""

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from meterd.api import openapi
from meterd.api.routes import ROUTES
from meterd.config.settings import Settings
from meterd.daemon.reload import PreparedChange, Unchanged
from meterd.model.sample import Layout, Poll
from meterd.store.reader import Reader
from meterd.store.writer import Writer

from .test_reload import _BEFORE, Running, running

__all__ = ["running"]

# What a route cannot do without, and what makes it look into the store.
_QUERIES = {
    "/api/v1/range": "device=a&quantity=voltage.l1&step=1m",
    "/api/v1/export": "format=ndjson",
}
_PROMETHEUS = (
    "/prometheus/api/v1/query?query=meterd_active_power_watts",
    "/prometheus/api/v1/query_range?query=meterd_active_power_watts&start=0&end=600&step=60",
    "/prometheus/api/v1/series?match[]=meterd_active_power_watts",
    "/prometheus/api/v1/labels",
    "/prometheus/api/v1/label/device/values",
)
_BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/corrections": {
        "device": "a",
        "quantity": "voltage.l1",
        "start": "now-1h",
        "end": "now",
        "why": "x",
    },
    "/api/v1/silences": {"device": "a", "end": "now+1h", "comment": "x"},
    "/api/v1/devices/{id}/rename": {"name": "b"},
    "/api/v1/devices/{id}/replace": {"at": "now-1m"},
    "/api/v1/devices/{id}/commands": {"command": "beeper.toggle"},
}
# The door stays, as it does wherever its own settings do.
_DOOR_STAYS = _BEFORE.replace(
    "listen: '127.0.0.1:0'", "listen: '127.0.0.1:0', tokens: '{folder}/tokens'"
)
# Streams end when their client goes.
_ENDLESS = "/api/v1/stream"


def questions() -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Method, path with query, and body of every operation that the document lists."""
    for path, operations in openapi.document(ROUTES)["paths"].items():
        device = "nobody" if path.endswith("/rename") else "a"
        there = path.replace("{id}", device if "/devices/" in path else "1")
        query = f"?{_QUERIES[path]}" if path in _QUERIES else ""
        for method in operations:
            yield method.upper(), there + query, None if method == "get" else _BODIES.get(path, {})
    for path in _PROMETHEUS:
        yield "GET", path, None


def test_every_operation_is_asked() -> None:
    asked = list(questions())
    assert len(asked) >= len([one for one in ROUTES if one.listed])
    assert {method for method, _, _ in asked} == {"GET", "POST", "DELETE"}


def unasked(found: Mapping[tuple[str, str], set[int]]) -> set[str]:
    """What was not understood yet, or turned away at the door, but for questions of one device."""
    return {
        path
        for (method, path), seen in found.items()
        if method == "GET" and 200 not in seen and "/devices/" not in path
    }


async def test_questions_during_reloads_are_answered_or_told_to_come_again(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """The store changes all the while; no answer is an error of meterd's own."""
    found: dict[tuple[str, str], set[int]] = {}
    over = asyncio.Event()

    async def ask(client: ClientSession, method: str, path: str, said: Any) -> None:
        seen = found.setdefault((method, path), set())
        while not over.is_set():
            async with client.request(method, running.doors.url + path, json=said) as reply:
                body = "" if path == _ENDLESS else await reply.text()
                seen.add(reply.status)
                assert "Traceback" not in body
                if reply.status == 503:
                    assert "Retry-After" in reply.headers
            # Beside the polls, on a machine with little to spare.
            await asyncio.sleep(0.05)

    await running.site.apply(running.settings(_DOOR_STAYS))
    await running.until_polled("a")
    async with ClientSession() as client:
        asking = [asyncio.create_task(ask(client, *one)) for one in questions()]
        for name in ("two", "three"):
            another = _DOOR_STAYS.replace("one.db", f"{name}.db")
            await running.site.apply(running.settings(another))
            await running.until_polled("a", 1)
        async with asyncio.timeout(60):
            while unasked(found) - {"/readyz"} or 200 not in found["POST", "/api/v1/corrections"]:
                await asyncio.sleep(0.01)
        over.set()
        ends = await asyncio.gather(*asking, return_exceptions=True)
    failed = [(one[:2], end) for one, end in zip(questions(), ends, strict=True) if end]
    assert not failed
    assert {path for path, seen in found.items() if seen & {500, 502, 504}} == set()
    assert found["POST", "/api/v1/corrections"] <= {200, 404, 503}
    assert not [one for one in caplog.records if one.exc_info]


async def filled(writer: Writer) -> int:
    """Three series over six days, a sample an hour; how many lines they make in a file."""
    phases = ("l1", "l2", "l3")
    layout = Layout.of([(f"voltage.{phase}", "V") for phase in phases])
    hours = range(20_000 * 24, 20_006 * 24)
    for hour in hours:
        writer.take(Poll("old", hour * 3_600_000, layout, (230.0,) * 3))
    await writer.settle()
    return 1 + len(hours) * len(phases)


async def exported(url: str) -> bytes | None:
    """None where the client sees that it is not all."""
    async with ClientSession() as client:
        try:
            async with client.get(url) as reply:
                return await reply.read() if reply.status == 200 else None
        except ClientError:
            return None


async def test_who_renames_or_replaces_during_a_reload_is_told_to_come_again(
    running: Running,
) -> None:
    """They would wait for the reload, and it for them: it closes a door when all are served."""
    site, begun, go_on = running.site, asyncio.Event(), asyncio.Event()

    class Slow:
        async def prepare(self, settings: Settings | None) -> PreparedChange:
            begun.set()
            await go_on.wait()
            return Unchanged()

    site.join(Slow())
    reload = asyncio.create_task(site.apply(running.settings(_BEFORE)))
    await begun.wait()
    async with ClientSession() as client:
        for path, body in (("rename", {"name": "c"}), ("replace", {"at": "now-1m"})):
            url = f"{running.doors.url}/api/v1/devices/a/{path}"
            async with client.post(url, json=body) as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
                assert "ask again" in (await reply.json())["detail"]
        go_on.set()
        await reload
        url = f"{running.doors.url}/api/v1/devices/nobody/rename"
        async with client.post(url, json={"name": "c"}) as reply:
            assert reply.status == 404


@pytest.mark.parametrize("resolution", ["raw", "1h"])
async def test_an_export_under_way_ends_whole_or_is_cut_where_its_client_sees_it(
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    resolution: str,
) -> None:
    """It stands in the middle, between two of its days, while another store takes the place."""
    site, begun, go_on = running.site, threading.Event(), threading.Event()
    await site.apply(running.settings(_DOOR_STAYS))
    lines = await filled(site._open_store.writer)
    looked = 0

    def slow(original: Any) -> Any:
        def called(self: Any, *args: Any) -> Any:
            nonlocal looked
            looked += 1
            if looked == 3:
                begun.set()
                go_on.wait(60)
            return original(self, *args)

        return called

    for name in ("day", "columns", "quarters"):
        monkeypatch.setattr(Reader, name, slow(getattr(Reader, name)))
    url = f"{running.doors.url}/api/v1/export?device=old&resolution={resolution}"

    asked, old = asyncio.create_task(exported(url)), site.reader
    assert await asyncio.to_thread(begun.wait, 60)
    another = _DOOR_STAYS.replace("one.db", "two.db")
    reload = asyncio.create_task(site.apply(running.settings(another)))
    async with asyncio.timeout(60):
        while site.reader is old:
            await asyncio.sleep(0.01)
    go_on.set()
    body = await asked
    await reload
    if body is not None:
        assert len(body.splitlines()) == lines
    assert not [one for one in caplog.records if one.exc_info]


async def test_who_is_refused_while_the_door_changes_is_told_to_come_anew(running: Running) -> None:
    """Else its next question meets a closed connection; a POST is not sent again by itself."""
    place = running.doors.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(place[0], int(place[2]))
    other = running.settings(_BEFORE.replace("one.db", "two.db"))
    change = asyncio.create_task(running.site.apply(other))
    head = b""
    while b"connection: close" not in head.lower():
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404")
        (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length))
        await asyncio.sleep(0.01)
    assert await reader.read() == b""
    writer.close()
    await change
