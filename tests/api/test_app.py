import asyncio
import gzip
import json
import logging
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterd.api.answer import ApiAnswer
from meterd.api.app import Running, serve
from meterd.api.connection import LONGEST_LINE
from meterd.api.hosts import check_host, check_near, own_names
from meterd.api.middleware import LARGEST_BODY
from meterd.api.problem import ApiRefusal, ProblemDetails
from meterd.api.routes import FILES, ROUTES
from meterd.api.series import AllSeries
from meterd.model.alert import AlertState
from tests.api.conftest import FixedClock, served
from tests.api.fake import NOW, FakeSite, alert, busy, home

GETS = [route for route in (*ROUTES, *FILES) if route.method == "GET"]
PATHS = [route.path.replace("{id}", "main") for route in GETS]
# A stream has no end: tests/api/live reads it.
WHOLE = [path for path in PATHS if path != "/api/v1/stream"]
PROBLEM = "application/problem+json"


async def raw(running: Running, request: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Bytes in, status line, headers and body out."""
    reader, writer = await asyncio.open_connection(running.host, running.port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    writer.close()
    await writer.wait_closed()
    return head.split(b"\r\n")[0], headers, body


@pytest.mark.parametrize("path", WHOLE)
async def test_every_route_answers_with_the_headers_that_protect(
    client: ClientSession, path: str
) -> None:
    async with client.get(path) as reply:
        assert reply.status == 200
        policy = reply.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Server"] == "meterd"
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert "Content-Type" in reply.headers


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_a_body(client: ClientSession, path: str) -> None:
    async with client.head(path) as reply:
        assert (reply.status, await reply.read()) == (200, b"")


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_405_and_say_what_is_possible(
    client: ClientSession, path: str
) -> None:
    here = {r.method for r in ROUTES if r.path.replace("{id}", "main") == path} | {"GET", "HEAD"}
    for method in {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} - here:
        async with client.request(method, path) as reply:
            body = ProblemDetails.model_validate_json(await reply.read())
            assert (reply.status, body.code) == (405, "method_not_allowed")
            assert reply.headers["Allow"] == ", ".join(sorted(here))


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_parameter_is_refused_everywhere(client: ClientSession, path: str) -> None:
    async with client.get(f"{path}?nonsense=1") as reply:
        body = ProblemDetails.model_validate_json(await reply.read())
        assert (reply.status, reply.content_type) == (400, PROBLEM)
        assert (body.code, body.parameter) == ("unknown_parameter", "nonsense")


@pytest.mark.parametrize(
    "path",
    [
        *("/nix", "/api/v1/latst", "/api/v1/latest/", "//latest", "/api/v2/latest", "/web/"),
        *("/web/../app.py", "/web/%2e%2e/app.py", "/web/..%2fapp.py", "/web/style.css%00"),
    ],
)
async def test_unknown_paths_are_404_and_say_which_there_are(running: Running, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    line, _, text = await raw(running, request.encode())
    body = ProblemDetails.model_validate_json(text)
    assert (line, body.code) == (b"HTTP/1.1 404 Not Found", "unknown_path")
    assert body.allowed is not None
    assert "/api/v1/latest" in body.allowed


async def test_a_body_is_refused_before_it_is_read(client: ClientSession) -> None:
    async with client.request("GET", "/healthz", data=b"x" * (LARGEST_BODY + 1)) as reply:
        body = ProblemDetails.model_validate_json(await reply.read())
    assert (reply.status, body.code) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"NONSENSE\r\n\r\n", 400, "bad_http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_http"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "bad_http"),
        (
            b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * (LONGEST_LINE + 1)),
            431,
            "header_too_large",
        ),
        (
            b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"a" * (LONGEST_LINE + 1)),
            431,
            "header_too_large",
        ),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "foreign_host"),
        (b"GET / HTTP/1.0\r\n\r\n", 421, "foreign_host"),
    ],
)
async def test_what_is_no_proper_request_is_a_quiet_problem(
    running: Running, caplog: pytest.LogCaptureFixture, request_bytes: bytes, status: int, code: str
) -> None:
    with caplog.at_level(logging.INFO):
        line, headers, body = await raw(running, request_bytes)
    assert line.split()[1] == str(status).encode()
    assert headers["content-type"] == PROBLEM
    assert headers["x-content-type-options"] == "nosniff"
    assert json.loads(body)["code"] == code
    assert caplog.records == []


async def test_an_unexpected_error_is_logged_and_tells_the_client_nothing(
    site: FakeSite, client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("secret detail")

    site.alerts = broken  # type: ignore[method-assign]
    async with client.get("/api/v1/alerts") as reply:
        text = await reply.text()
    assert (reply.status, reply.content_type) == (500, PROBLEM)
    assert json.loads(text)["code"] == "internal"
    assert "secret" not in text
    assert [record.name for record in caplog.records] == ["meterd.api"]
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("listen", "host", "allowed"),
    [
        ("127.0.0.1", "localhost:8420", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "[::1]:8420", True),
        ("127.0.0.1", "meterd.localhost", True),
        ("localhost", "127.0.0.1:1", True),
        ("127.0.0.1", "evil.example:8420", False),
        ("127.0.0.1", "192.0.2.1", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", None, False),
        ("::1", "evil.example", False),
        ("0.0.0.0", "anything.example", True),
        ("192.0.2.1", None, True),
    ],
)
def test_on_loopback_only_local_names_are_answered(
    listen: str, host: str | None, allowed: bool
) -> None:
    if allowed:
        check_host(host, listen)
        return
    with pytest.raises(ApiRefusal) as refused:
        check_host(host, listen)
    assert refused.value.status == 421


@pytest.mark.parametrize(
    ("listen", "host", "allowed"),
    [
        ("0.0.0.0", "192.0.2.7:8420", True),
        ("0.0.0.0", "[2001:db8::7]:8420", True),
        ("0.0.0.0", "localhost:8420", True),
        ("0.0.0.0", "nas:8420", True),
        ("0.0.0.0", "nas.lan", True),
        ("0.0.0.0", "Raspberry.Local.:8420", True),
        ("0.0.0.0", "meter.home.arpa", True),
        ("0.0.0.0", socket.gethostname(), True),
        ("meter.example", "meter.example:8420", True),
        ("0.0.0.0", None, True),
        ("0.0.0.0", "evil.example:8420", False),
        ("0.0.0.0", "192.0.2.7.evil.example", False),
        ("0.0.0.0", "evillan.example", False),
        ("0.0.0.0", "evil.xlan", False),
        ("meter.example", "x.meter.example", False),
    ],
)
def test_without_a_login_names_that_a_public_dns_may_give_out_are_refused(
    listen: str, host: str | None, allowed: bool
) -> None:
    if allowed:
        check_near(host, listen)
        return
    with pytest.raises(ApiRefusal) as refused:
        check_near(host, listen)
    assert (refused.value.status, refused.value.code) == (421, "foreign_host")


def test_a_machine_knows_its_name_in_the_domains_that_it_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "NAS")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("# search x\nnameserver 192.0.2.1\nsearch Fritz.Box. a.example\n\n")
    assert own_names(resolver) == {"nas", "nas.fritz.box", "nas.a.example"}
    assert own_names(tmp_path / "none") == {"nas"}


async def test_long_answers_are_gzip_for_those_who_take_it(running: Running) -> None:
    async with ClientSession(running.url, auto_decompress=False) as client:
        async with client.get("/api/v1/latest", headers={"Accept-Encoding": "gzip"}) as reply:
            assert reply.headers["Content-Encoding"] == "gzip"
            squeezed = await reply.read()
        for refusing in ("identity", "gzip;q=0", "br"):
            async with client.get("/api/v1/latest", headers={"Accept-Encoding": refusing}) as reply:
                assert "Content-Encoding" not in reply.headers
                plain = await reply.read()
        async with client.get("/healthz", headers={"Accept-Encoding": "gzip"}) as reply:
            assert "Content-Encoding" not in reply.headers
    assert gzip.decompress(squeezed) == plain
    assert len(squeezed) < len(plain) / 4


async def test_readiness_says_why_not(client: ClientSession, site: FakeSite) -> None:
    site.readiness = (False, "garage has not been polled yet")
    async with client.get("/readyz") as reply:
        body = await reply.json(content_type=PROBLEM)
    assert (reply.status, body["code"]) == (503, "not_ready")
    assert body["detail"] == "garage has not been polled yet"
    async with client.get("/healthz") as reply:
        assert (reply.status, await reply.json()) == (200, {"status": "ok"})


async def test_series_and_alerts_answer_as_their_models_say(
    client: ClientSession, site: FakeSite
) -> None:
    async with client.get("/api/v1/series") as reply:
        assert len(AllSeries.model_validate_json(await reply.read()).series) > 40
    site.firing = [alert(NOW), alert(NOW, state=AlertState.PENDING, value=None)]
    async with client.get("/api/v1/alerts") as reply:
        body = (await reply.json())["alerts"]
    assert [one["state"] for one in body] == ["firing", "pending"]
    assert body[0]["since"] == "2026-11-21T09:58:25.000Z"
    assert body[1]["value"] is None


@pytest.mark.parametrize("route", [r for r in GETS if r.answer], ids=lambda r: r.path)
async def test_every_answer_validates_against_its_model(client: ClientSession, route: Any) -> None:
    async with client.get(route.path.replace("{id}", "main")) as reply:
        route.answer.model_validate_json(await reply.read())


async def test_a_taken_port_is_an_oserror(site: FakeSite, running: Running) -> None:
    with pytest.raises(OSError, match="in use"):
        await serve(site, "127.0.0.1", running.port)


async def test_latest_of_forty_series_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    # No stopwatch: what must not happen on the hot path is validation of answers.
    from pydantic import BaseModel

    from meterd.api import latest
    from meterd.api.answer import ApiCall

    site = busy()
    query = latest.LatestQuery()
    monkeypatch.setattr(BaseModel, "__init__", lambda *a, **k: pytest.fail("a model was built"))
    answer: ApiAnswer = await latest.show(ApiCall(site, NOW, {}, ""), query)
    assert len(json.loads(answer.body)["samples"]) == 50


words = st.text(max_size=20) | st.sampled_from(["now", "now-1h", "main", "raw", "avg", "1s", "%00"])
names = st.sampled_from(["device", "quantity", "start", "end", "step", "agg"]) | st.text(max_size=8)
octets = st.binary(max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(WHOLE),
    pairs=st.lists(st.tuples(names, words), max_size=5),
    tail=octets,
    accept=st.sampled_from(["", "*/*", "application/openmetrics-text;version=x", ";;,,q="]),
)
def test_no_query_string_makes_the_server_fail(
    path: str, pairs: list[tuple[str, str]], tail: bytes, accept: str
) -> None:
    async def go() -> None:
        encoded = "&".join(
            f"{quote_from_bytes(k.encode(errors='ignore'))}={quote_from_bytes(v.encode(errors='ignore'))}"
            for k, v in pairs
        )
        target = f"{path}?{encoded}&{quote_from_bytes(tail)}"
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
        async with served(home(), clock=FixedClock()) as running:
            line, headers, body = await raw(running, request.encode())
        status = int(line.split()[1])
        assert status < 500
        if status >= 400:
            assert headers["content-type"] == PROBLEM
            assert json.loads(body)["status"] == status

    asyncio.run(go())
