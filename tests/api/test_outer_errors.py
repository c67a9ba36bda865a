"""What is refused before any route is asked: in the shape of the API that the path belongs to."""

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from meterd.api.app import ServingRules
from meterd.api.connection import LONGEST_LINE
from meterd.api.limits import ServerLimits
from meterd.api.middleware import LARGEST_BODY
from tests.api.fake import FakeDevice, FakeSite, good, home
from tests.api.locked import PASSWORD, Reply, ask, basic, locked, say, token
from tests.cli.command import run

PLAIN = {"no_proxy": "*"}
QUERY = "/prometheus/api/v1/query"
FORM = "application/x-www-form-urlencoded"


def judged(reply: Reply) -> Any:
    """An error as Grafana reads it."""
    assert reply.all("content-type") == ["application/json"], reply.body
    told = reply.json
    assert set(told) == {"status", "errorType", "error"}
    assert told["status"] == "error"
    assert told["error"]
    return told["errorType"]


def request(head: str, body: bytes = b"", **headers: str) -> bytes:
    fields = {"Host": "localhost", "Connection": "close", **headers}
    lines = [head, *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


LONG = "a" * (LONGEST_LINE + 1)
CASES = {
    "unknown path": (request("GET /prometheus/api/v1/nothing HTTP/1.1"), 404, "not_found"),
    "unknown root": (request("GET /prometheus/nothing HTTP/1.1"), 404, "not_found"),
    "bare": (request("GET /prometheus HTTP/1.1"), 404, "not_found"),
    "method": (request(f"DELETE {QUERY} HTTP/1.1"), 405, "bad_data"),
    "host": (request(f"GET {QUERY}?query=1 HTTP/1.1", Host="evil.example"), 421, "bad_data"),
    "body": (
        request(f"POST {QUERY} HTTP/1.1", Content_Length=str(LARGEST_BODY + 1), Content_Type=FORM),
        413,
        "bad_data",
    ),
    "expected body": (
        request(
            f"POST {QUERY} HTTP/1.1", Content_Length=str(LARGEST_BODY + 1), Expect="100-continue"
        ),
        413,
        "bad_data",
    ),
    "coding": (
        request(f"POST {QUERY} HTTP/1.1", b"ab", Content_Length="2", Content_Encoding="gzip"),
        415,
        "bad_data",
    ),
    "URL": (request(f"GET {QUERY}?query={LONG} HTTP/1.1"), 431, "bad_data"),
    "header": (request(f"GET {QUERY}?query=1 HTTP/1.1", X=LONG), 431, "bad_data"),
    "blank": (request(f"GET {QUERY}?query=1 + 1 HTTP/1.1"), 400, "bad_data"),
    "version": (request(f"GET {QUERY} HTTP/9.x"), 400, "bad_data"),
}


@pytest.mark.parametrize("case", CASES)
async def test_under_prometheus_errors_have_its_shape(case: str) -> None:
    data, status, kind = CASES[case]
    async with locked(login_always=False) as running:
        reply = await say(running, data)
    assert (reply.status, judged(reply)) == (status, kind)


@pytest.mark.parametrize("case", [case for case in CASES if case != "expected body"])
async def test_elsewhere_they_are_problems(case: str) -> None:
    data, status, _ = CASES[case]
    # A device may have any name.
    data = data.replace(QUERY.encode(), b"/api/v1/devices/prometheus")
    data = data.replace(b" /prometheus", b" /other")
    async with locked(login_always=False) as running:
        reply = await say(running, data)
    assert reply.all("content-type") == ["application/problem+json"]
    assert (reply.status, bool(reply.json["code"])) == (status, True)


async def test_who_may_not_is_told_in_its_shape(tmp_path: Path) -> None:
    async with locked(folder=tmp_path) as running:
        reply = await ask(running, f"{QUERY}?query=1")
        assert (reply.status, judged(reply)) == (401, "unauthorized")
        assert reply.all("www-authenticate")
        for _ in range(12):
            reply = await ask(running, QUERY, Authorization=basic("anna", "wrong"))
        assert (reply.status, judged(reply)) == (429, "too_many_requests")
        assert reply.all("retry-after")
        key = token(tmp_path, "grafana")
        reply = await ask(running, f"{QUERY}?query=1", Authorization=key)
        assert reply.json["status"] == "success"


async def test_behind_a_base_path_too() -> None:
    async with locked(ServingRules(base="/meterd"), login_always=False) as running:
        for path in ("/meterd/prometheus/api/v1/none", "/meterd/prometheus/none", "/prometheus/x"):
            reply = await ask(running, path)
            assert (reply.status, judged(reply)) == (404, "not_found")
        reply = await say(running, request(f"GET /meterd{QUERY}?query={LONG} HTTP/1.1"))
        assert (reply.status, judged(reply)) == (431, "bad_data")


async def test_an_error_of_its_own_has_its_shape(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = home()

    def broken() -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(site, "alerts", broken)
    with caplog.at_level(logging.CRITICAL):
        async with locked(site=site, login_always=False) as running:
            reply = await ask(running, "/prometheus/api/v1/alerts")
    assert (reply.status, judged(reply)) == (500, "internal")
    assert b"secret" not in reply.body


NAMES = ("küche", "水", "a\u0301", "🔌", "naïve-ñ")


def labelled() -> FakeSite:
    site = home()
    for name in NAMES:
        site.add(FakeDevice(name), good(name, site.started, {"active_power": (5.0, "W")}))
    return site


@pytest.mark.parametrize("name", NAMES)
async def test_utf_8_in_a_url_is_understood_as_it_is(name: str) -> None:
    async with locked(site=labelled(), login_always=False) as running:
        for written in (name, quote(name)):
            reply = await say(running, request(f"GET /api/v1/latest?device={written} HTTP/1.1"))
            assert {one["device"] for one in reply.json["samples"]} == {name}
            reply = await say(running, request(f"GET /api/v1/devices/{written} HTTP/1.1"))
            assert reply.json["id"] == name
            text = f'"{written}"'
            reply = await say(running, request(f"GET {QUERY}?query={text} HTTP/1.1"))
            assert reply.json["data"]["result"][1] == name


async def test_utf_8_may_come_in_pieces() -> None:
    data = request(f"GET /api/v1/latest?device={NAMES[0]} HTTP/1.1")
    async with locked(site=labelled(), login_always=False) as running:
        for cut in range(1, data.index(b" HTTP"), 7):
            reply = await _in_two(running, data, cut)
            assert reply.json["samples"][0]["device"] == NAMES[0], cut


async def _in_two(running: Any, data: bytes, cut: int) -> Reply:
    import asyncio

    reader, writer = await asyncio.open_connection(running.host, running.port)
    writer.write(data[:cut])
    await writer.drain()
    for _ in range(5):
        await asyncio.sleep(0)
    writer.write(data[cut:])
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return Reply(int(head.split()[1]), (), content)


@pytest.mark.needs("curl")
async def test_utf_8_goes_with_digest(tmp_path: Path) -> None:
    async with locked(site=labelled()) as running:
        words = ["--digest", "-u", f"anna:{PASSWORD}"]
        ended = await run(
            "curl", "-s", *words, f"{running.url}/api/v1/latest?device={NAMES[0]}", env=PLAIN
        )
    assert json.loads(ended.out)["samples"][0]["device"] == NAMES[0]


@pytest.mark.parametrize(
    ("line", "media"),
    [("GET /prometheus/api", "application/json"), ("GET /api/v1/la", "application/problem+json")],
)
async def test_a_head_that_does_not_come_is_told_in_its_shape(line: str, media: str) -> None:
    rules = ServingRules(limits=ServerLimits(head=0.05, look_every=0.02))
    async with locked(rules, login_always=False) as running:
        reply = await say(running, line.encode())
    assert (reply.status, reply.all("content-type")) == (408, [media])
    assert "headers did not come" in reply.body.decode()


async def test_other_encodings_are_refused_with_what_came() -> None:
    async with locked(site=labelled(), login_always=False) as running:
        line = "GET /api/v1/latest?device=küche HTTP/1.1\r\nHost: localhost\r\n"
        reply = await say(running, line.encode("latin-1") + b"Connection: close\r\n\r\n")
    assert reply.status == 404
    assert "che'" in json.loads(reply.body)["detail"]
