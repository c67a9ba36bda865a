"""The lock as a client meets it, over real sockets."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meterd.api import app
from meterd.api.answer import ApiCall, StreamedAnswer
from meterd.api.app import Running, ServingRules, serve
from meterd.api.auth import tokens
from meterd.api.auth.authenticator import Access
from meterd.api.query import NoQuery
from meterd.api.route import Route
from meterd.api.routes import FILES, ROUTES
from meterd.testing import FakeClock
from tests.api.fake import good, home
from tests.api.locked import LATEST, PASSWORD, ask, basic, locked, scoped, token
from tests.cli.command import run

__all__ = ["scoped"]

PATHS = [route.path.replace("{id}", "main") for route in (*ROUTES, *FILES) if route.method == "GET"]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with locked() as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
async def test_every_route_asks_for_a_login_but_that_of_health(running: Running, path: str) -> None:
    reply = await ask(running, path)
    assert reply.status == (200 if path == "/healthz" else 401)
    if reply.status == 401:
        assert reply.json["code"] == "unauthorized"
        assert reply.all("x-content-type-options") == ["nosniff"]


async def test_all_ways_to_log_in_are_offered_each_in_a_header_of_its_own(running: Running) -> None:
    offers = (await ask(running)).all("www-authenticate")
    assert [offer.split()[0] for offer in offers] == ["Digest", "Basic", "Bearer"]
    async with locked(users={}) as bare:
        offers = (await ask(bare)).all("www-authenticate")
    assert [offer.split()[0] for offer in offers] == ["Bearer"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (basic("anna"), 200),
        (basic("anna").replace("Basic", "bASIC"), 200),
        (basic("anna", "wrong"), 401),
        (basic("eve"), 401),
        ("Basic", 401),
        ("Basic !!!", 401),
        ("Basic YW5uYQ==", 401),
        ("Basic //79", 401),
        ("Bearer", 401),
        ("Bearer meterd_x", 401),
        ("Digest", 401),
        ('Digest username="anna"', 401),
        ("Negotiate abc", 401),
        ("\u00ff\u00fe", 401),
    ],
)
async def test_a_login_is_right_or_refused(running: Running, header: str, status: int) -> None:
    reply = await ask(running, Authorization=header)
    assert reply.status == status


async def test_who_is_wrong_is_not_told_what_is_wrong(running: Running) -> None:
    replies = [
        await ask(running, Authorization=basic(*who)) for who in [("anna", "wrong"), ("eve", "x")]
    ]
    assert replies[0].body == replies[1].body


async def test_a_token_opens_also_as_a_password(tmp_path: Path) -> None:
    async with locked(folder=tmp_path, users={}) as running:
        header = token(tmp_path, "phone")
        assert (await ask(running, Authorization=header)).status == 200
        secret = header.split()[1]
        assert (await ask(running, Authorization=basic("any", secret))).status == 200
        assert (await ask(running, Authorization=basic("any", secret + "x"))).status == 401


@pytest.mark.usefixtures("scoped")
@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (("read",), {"open", "read"}),
        (("admin",), {"open", "read", "admin"}),
        (("command",), {"open", "read", "command"}),
        (("admin", "command"), {"open", "read", "admin", "command"}),
    ],
)
async def test_a_token_may_what_its_scopes_say(
    tmp_path: Path, scopes: tuple[str, ...], allowed: set[str]
) -> None:
    async with locked(folder=tmp_path) as running:
        header = token(tmp_path, "it", *scopes)
        for scope, method in [
            ("open", "GET"),
            ("read", "GET"),
            ("admin", "POST"),
            ("command", "POST"),
        ]:
            reply = await ask(running, f"/test/{scope}", method, Authorization=header)
            assert reply.status == (200 if scope in allowed else 403), scope
            if reply.status == 403:
                assert (reply.json["code"], f"--scope {scope}" in reply.json["hint"]) == (
                    "scope_missing",
                    True,
                )
            elif scope != "open":
                assert reply.json["who"] == "it"


@pytest.mark.usefixtures("scoped")
async def test_on_loopback_nobody_logs_in_but_to_send_commands() -> None:
    async with locked(login_always=False) as running:
        assert (await ask(running)).status == 200
        assert (await ask(running, "/test/admin", "POST")).status == 200
        assert (await ask(running, "/test/command", "POST")).status == 401
        # What is given has to be right, even where nothing is needed.
        assert (await ask(running, Authorization=basic("anna", "wrong"))).status == 401


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_what_came_through_a_proxy_is_not_local(header: str) -> None:
    headers: dict[str, Any] = {header: "192.0.2.1"}
    async with locked(login_always=False) as running:
        assert (await ask(running, **headers)).status == 401
    async with locked(ServingRules(trusted=("127.0.0.1",)), login_always=False) as running:
        assert (await ask(running)).status == 401
        assert (await ask(running, Host="energy.example")).status == 401
        named = await ask(running, Host="energy.example", Authorization=basic("anna"))
        assert named.status == 200


async def test_foreign_names_are_refused_where_no_login_is_asked() -> None:
    async with locked(login_always=False) as running:
        assert (await ask(running, Host="evil.example")).status == 421
        assert (await ask(running, Host="evil.example", X_Forwarded_For="192.0.2.1")).status == 421
    async with locked() as running:
        assert (await ask(running, Host="nas.lan")).status == 401
        assert (await ask(running, Host="nas.lan", Authorization=basic("anna"))).status == 200


@pytest.mark.usefixtures("scoped")
async def test_an_open_network_may_look_until_there_is_a_token(tmp_path: Path) -> None:
    access: dict[str, Any] = {
        "is_loopback": False,
        "login_always": False,
        "insecure": True,
        "users": {},
    }
    async with locked(folder=tmp_path, clock=(clock := FakeClock()), **access) as running:
        assert (await ask(running)).status == 200
        assert (await ask(running, "/test/admin", "POST")).status == 401
        token(tmp_path, "first")
        clock.pass_by(1.0)
        assert (await ask(running)).status == 401
        (tmp_path / "meterd.tokens").unlink()
        clock.pass_by(1.0)
        assert (await ask(running)).status == 401


async def test_an_open_network_is_closed_to_names_that_strangers_give_out(tmp_path: Path) -> None:
    access: dict[str, Any] = {
        "is_loopback": False,
        "login_always": False,
        "insecure": True,
        "users": {},
    }
    site = home()
    rules = ServingRules(
        Access(**access, tokens=tmp_path / "meterd.tokens"), trusted=("127.0.0.1",)
    )
    running = await serve(site, "0.0.0.0", 0, rules=ServingRules(rules.access))
    try:
        for path in (LATEST, "/", "/metrics", "/prometheus/api/v1/labels"):
            refused = await ask(running, path, Host="evil.example")
            assert refused.status == 421
            if path.startswith("/prometheus"):
                assert refused.json["errorType"] == "bad_data"
            else:
                assert refused.json["code"] == "foreign_host"
            assert (await ask(running, path, Host="nas.lan:8420")).status == 200
        assert (await ask(running, "/healthz", Host="evil.example")).status == 200
        key = token(tmp_path, "grafana")
        assert (await ask(running, Host="evil.example", Authorization=key)).status == 200
    finally:
        await running.close()
    (tmp_path / "meterd.tokens").unlink()
    proxied = await serve(site, "0.0.0.0", 0, rules=rules)
    try:
        assert (await ask(proxied, Host="home.example", X_Forwarded_For="192.0.2.1")).status == 200
    finally:
        await proxied.close()


async def heard(reader: asyncio.StreamReader, what: bytes) -> None:
    async with asyncio.timeout(60):
        await reader.readuntil(what)


async def test_a_long_answer_is_cut_off_when_its_token_is_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked, clock = asyncio.Event(), FakeClock()

    async def parts() -> AsyncIterator[bytes]:
        yield b"the first part"
        await revoked.wait()
        yield b"the second part"

    async def export(call: ApiCall, query: NoQuery) -> StreamedAnswer:
        return StreamedAnswer(parts(), "text/csv")

    monkeypatch.setattr(app, "ROUTES", (*ROUTES, Route("/test/flow", "", export, listed=False)))
    async with locked(folder=tmp_path, clock=clock) as running:
        key = token(tmp_path, "phone")
        reader, writer = await asyncio.open_connection(running.host, running.port)
        head = f"GET /test/flow HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n\r\n"
        writer.write(head.encode())
        await heard(reader, b"the first part")
        tokens.revoke(tmp_path / "meterd.tokens", "phone")
        clock.pass_by(1.0)
        revoked.set()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                rest = await reader.read()
            assert b"second" not in rest
            assert not rest.endswith(b"0\r\n\r\n"), "it looks whole"
        writer.close()


@pytest.mark.parametrize("ending", ["revoked", "expired"])
async def test_a_stream_ends_with_its_token(tmp_path: Path, ending: str) -> None:
    kept, clock, site = tmp_path / "meterd.tokens", FakeClock(), home()
    now = clock.now_ms() // 1000
    secret = tokens.add(kept, "phone", ("read",), now, now + 60)
    token(tmp_path, "wall")
    async with locked(folder=tmp_path, clock=clock, site=site) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        writer.write(
            b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n"
            + f"Authorization: Bearer {secret}\r\n\r\n".encode()
        )
        await heard(reader, b"event: state")
        clock.pass_by(30)
        site.take(good("main", clock.now_ms(), {"active_power": (1.0, "W")}))
        await heard(reader, b"event: changes")
        if ending == "revoked":
            tokens.revoke(kept, "phone")
        clock.pass_by(31)
        site.take(good("main", clock.now_ms(), {"active_power": (2.0, "W")}))
        async with asyncio.timeout(60):
            rest = await reader.read()
        assert b"event: changes" not in rest
        writer.close()


@pytest.mark.usefixtures("scoped")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://LOCALHOST", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_a_page_of_another_site_changes_nothing(headers: dict[str, str], status: int) -> None:
    async with locked() as running:
        sent: dict[str, Any] = {"Authorization": basic("chief"), **headers}
        reply = await ask(running, "/test/admin", "POST", **sent)
        assert reply.status == status
        if status == 403:
            assert reply.json["code"] == "foreign_origin"


async def test_guessing_is_slowed_down_and_the_log_stays_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    async with locked(clock=clock) as running:
        statuses = []
        with caplog.at_level(logging.WARNING, "meterd.api"):
            for number in range(60):
                name = "eve\u2028" if number % 2 else "anna"
                statuses.append((await ask(running, Authorization=basic(name, str(number)))).status)
        assert statuses.count(401) <= 10
        assert statuses[-1] == 429
        refused = await ask(running, Authorization=basic("anna"))
        assert refused.status == 429
        assert 0 < int(refused.all("retry-after")[0]) <= 61
        clock.pass_by(61)
        assert (await ask(running, Authorization=basic("anna"))).status == 200
    assert len(caplog.records) == 1
    assert "\u2028" not in caplog.text


async def curl(running: Running, *words: str, path: str = LATEST) -> tuple[str, str]:
    """curl's status code, and how many requests it took."""
    said = "%{http_code} %{num_connects}"
    url = f"{running.url}{path}"
    ended = await run("curl", "-s", "-o", "/dev/null", "-w", said, "--noproxy", "*", *words, url)
    status, connects = ended.out.split()
    return status, connects


@pytest.mark.needs("curl")
@pytest.mark.parametrize("kind", ["--digest", "--basic", "--anyauth"])
async def test_curl_logs_in_with_a_password(running: Running, kind: str) -> None:
    assert (await curl(running, kind, "-u", f"anna:{PASSWORD}"))[0] == "200"
    assert (await curl(running, kind, "-u", "anna:wrong"))[0] == "401"
    assert (await curl(running, kind, "-u", f"anna:{PASSWORD}", path="/api/v1/series?"))[0] in (
        "200",
        "400",
    )


@pytest.mark.needs("curl")
async def test_curl_logs_in_with_a_token(tmp_path: Path) -> None:
    async with locked(folder=tmp_path) as running:
        header = token(tmp_path, "script")
        assert (await curl(running, "-H", f"Authorization: {header}"))[0] == "200"
        assert (await curl(running, "--oauth2-bearer", header.split()[1]))[0] == "200"


@pytest.mark.needs("curl")
async def test_curl_logs_in_by_digest_behind_a_proxy_that_takes_a_prefix_off() -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A proxy as simple as can be: one request a connection, /meterd taken off."""
        while (head := await reader.readuntil(b"\r\n\r\n")) if not reader.at_eof() else b"":
            head = head.replace(b" /meterd/", b" /", 1)
            extra = b"X-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n"
            up_reader, up_writer = await asyncio.open_connection(*place)
            up_writer.write(head[:-2] + extra)
            writer.write(await up_reader.read())
            up_writer.close()
            break
        writer.close()

    rules = ServingRules(trusted=("127.0.0.1",), base="/meterd")
    async with locked(rules) as server:
        place = (server.host, server.port)
        proxy = await asyncio.start_server(forward, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/meterd{LATEST}"
        words = ("-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "--digest")
        ended = await run("curl", *words, "-u", f"anna:{PASSWORD}", url)
        assert ended.out == "200"
        proxy.close()
        await proxy.wait_closed()


@pytest.mark.usefixtures("scoped")
async def test_below_a_base_path_everything_is_there_with_and_without_it() -> None:
    async with locked(ServingRules(base="/meterd")) as running:
        header = basic("anna")
        for path in ("/test/read", "/meterd/test/read"):
            reply = await ask(running, path, Authorization=header)
            assert (reply.status, reply.json["base"]) == (200, "/meterd")
        bare = await ask(running, "/meterd")
        assert (bare.status, bare.all("location")) == (308, ["/meterd/"])
        assert (await ask(running, "/meterd/", Authorization=header)).status == 200
        assert (await ask(running, "/other/test/read", Authorization=header)).status == 404
