"""Clients that are slow, many, or silent: they are shown out, and others notice nothing."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from meterd.api import app
from meterd.api.acceptor import bind
from meterd.api.answer import ApiAnswer, ApiCall
from meterd.api.app import Running, ServingRules
from meterd.api.limits import Guests, ServerLimits
from meterd.api.middleware import LARGEST_BODY
from meterd.api.query import NoQuery
from meterd.api.route import Route
from meterd.api.routes import ROUTES
from tests.api.locked import ask, locked, say, scoped

__all__ = ["scoped"]

SHORT = ServerLimits(head=0.3, body=0.3, idle=0.3, unread=0.4, look_every=0.05)
# For clients that do nothing wrong: a machine that halts for a moment shows nobody out.
PATIENT = {"head": 60.0, "body": 60.0, "idle": 60.0, "unread": 60.0}


@contextlib.asynccontextmanager
async def limited(**limits: Any) -> AsyncIterator[Running]:
    rules = ServingRules(limits=replace(SHORT, **limits))
    async with locked(rules, login_always=False) as running:
        yield running


async def closed(reader: asyncio.StreamReader) -> tuple[float, bytes]:
    """Seconds until the server closes, and what it said."""
    began = time.monotonic()
    said = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            said = await reader.read()
    return time.monotonic() - began, said


async def until_empty(running: Running) -> None:
    async with asyncio.timeout(60):
        while running.guests.count:
            await asyncio.sleep(0.02)


async def drip(writer: asyncio.StreamWriter, data: bytes, every: float) -> None:
    with contextlib.suppress(ConnectionError):
        for byte in data * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every)


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: local", b"HTTP/1.1 408"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT", b"HTTP/1.1 200"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200"),
    ],
    ids=["silent", "half a head", "half a second head", "idle"],
)
async def test_who_does_not_go_on_is_shown_out(start: bytes, answer: bytes) -> None:
    async with limited() as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        writer.write(start)
        seconds, said = await closed(reader)
        assert said.startswith(answer)
        assert seconds > 0.2
        writer.close()
        await until_empty(running)


async def test_a_byte_now_and_then_is_no_way_to_stay() -> None:
    async with limited() as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        task = asyncio.create_task(drip(writer, b"X-A: b\r\n", 0.02))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        # It would go on for 16 s, and then be silent.
        _, said = await closed(reader)
        assert not task.done()
        assert said.startswith(b"HTTP/1.1 408") or said == b""
        task.cancel()
        writer.close()


@pytest.mark.usefixtures("scoped")
async def test_a_body_has_its_time_too() -> None:
    async with limited() as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        head = b"POST /test/admin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        writer.write(head + b"half")
        first = await asyncio.wait_for(reader.readline(), 60)
        assert first.startswith(b"HTTP/1.1 408")
        _, said = await closed(reader)
        assert b"slow_body" in said
        writer.close()


@pytest.mark.usefixtures("scoped")
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (f"Content-Length: {LARGEST_BODY + 1}", b""),
        ("Transfer-Encoding: chunked", b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
    ],
)
async def test_a_long_body_is_refused_whatever_it_says_of_its_length(
    encoding: str, body: bytes
) -> None:
    async with limited(**PATIENT) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        writer.write(f"POST /test/admin HTTP/1.1\r\nHost: localhost\r\n{encoding}\r\n\r\n".encode())
        for _ in range(6):
            writer.write(body)
        first = await asyncio.wait_for(reader.readline(), 60)
        assert first.startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_body_that_comes_before_anybody_looked_is_refused_and_not_cut_off() -> None:
    """The loop reads on while the request is not begun: that are no headers any more."""
    async with limited(**PATIENT, head_bytes=1000) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        async with asyncio.timeout(60):
            while not running._acceptor._connections:
                await asyncio.sleep(0.01)
        (connection,) = running._acceptor._connections
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGEST_BODY + 1}\r\n\r\n"
        for data in (head.encode(), b"x" * 2000, b"x" * 2000):
            connection.data_received(data)
        first = await asyncio.wait_for(reader.readline(), 60)
        assert first.startswith(b"HTTP/1.1 4")
        writer.close()


@pytest.mark.usefixtures("scoped")
@pytest.mark.parametrize(
    ("length", "first"), [(5, b"HTTP/1.1 100"), (LARGEST_BODY + 1, b"HTTP/1.1 413")]
)
async def test_who_asks_first_is_told_to_go_on_or_not(length: int, first: bytes) -> None:
    async with limited(**PATIENT) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        head = (
            "POST /test/admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {length}\r\nExpect: 100-Continue\r\n\r\n"
        )
        writer.write(head.encode())
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(first)
        if length == 5:
            writer.write(b"hello")
            assert b'"body":"hello"' in await asyncio.wait_for(reader.read(), 60)
        writer.close()


@pytest.mark.usefixtures("scoped")
async def test_an_expectation_that_nobody_knows_is_no_matter() -> None:
    async with limited(**PATIENT) as running:
        reply = await ask(running, "/test/admin", "POST", b"hello", Expect="nonsense")
        assert (reply.status, reply.json["body"]) == (200, "hello")


@pytest.mark.usefixtures("scoped")
@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("x", 415), ("Identity", 200)])
async def test_a_body_that_is_coded_is_refused(coding: str, status: int) -> None:
    async with limited(**PATIENT) as running:
        reply = await ask(running, "/test/admin", "POST", b"hello", Content_Encoding=coding)
        assert reply.status == status
        assert (await ask(running, "/test/read", Content_Encoding=coding)).status == 200


@pytest.mark.usefixtures("scoped")
async def test_a_malformed_body_is_a_400() -> None:
    async with limited(**PATIENT) as running:
        head = b"POST /test/admin HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await say(running, head + b"zz\r\nnonsense\r\n\r\n")
        assert reply.status == 400


@pytest.mark.usefixtures("scoped")
async def test_a_body_of_the_right_size_comes_through() -> None:
    async with limited(**PATIENT) as running:
        reply = await ask(running, "/test/admin", "POST", b"a" * LARGEST_BODY)
        assert reply.json["body"] == "a" * LARGEST_BODY


async def test_headers_without_end_are_cut_off() -> None:
    async with limited(head=600.0, head_bytes=20_000) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(60):
                writer.write(b"X-%d: " % number + b"a" * 1000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        await closed(reader)
        writer.close()
        await until_empty(running)


async def _large(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return ApiAnswer(b"x" * 30_000_000, "text/plain")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    route = Route("/test/large", "30 MB", _large, listed=False)
    monkeypatch.setattr(app, "ROUTES", (*ROUTES, route))


@pytest.mark.usefixtures("large")
async def test_who_does_not_read_the_answer_is_dropped() -> None:
    async with limited() as running:
        reader, writer = await asyncio.open_connection(running.host, running.port, limit=1024)
        writer.write(b"GET /test/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.1)
        assert running.guests.count == 1
        await until_empty(running)
        writer.close()
        await reader.read(1)


@pytest.mark.usefixtures("large")
async def test_who_reads_slowly_gets_it_all() -> None:
    # It takes longer than the limit, but never that long to read on.
    async with limited(unread=2.0) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port, limit=65_536)
        writer.write(b"GET /test/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read = 0
        while read < 30_000_000:
            chunk = await reader.read(1_000_000)
            assert chunk, read
            read += len(chunk)
            if read // 1_000_000 > (read - len(chunk)) // 1_000_000:
                await asyncio.sleep(0.1)
        writer.close()


def half_open(running: Running, count: int, start: bytes) -> list[socket.socket]:
    sockets = [socket.create_connection((running.host, running.port)) for _ in range(count)]
    for each in sockets:
        each.sendall(start)
    return sockets


@pytest.mark.parametrize("start", [b"", b"GET /api/v1/latest HTTP/1.1\r\nHost: loc"])
async def test_500_half_open_sockets_hurt_nobody(start: bytes) -> None:
    async with limited(head=5.0) as running:
        sockets = await asyncio.to_thread(half_open, running, 500, start)
        try:
            for _ in range(5):
                assert (await ask(running)).status == 200
                # Answered while they are there, not after they were shown out.
                assert running.guests.count >= 450
            await until_empty(running)
        finally:
            for each in sockets:
                each.close()


BUSY = b"POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


async def until_full(running: Running, most: int) -> None:
    async with asyncio.timeout(60):
        while running.guests.count < most:
            await asyncio.sleep(0.01)


async def test_there_is_an_end_to_connections_and_it_is_told() -> None:
    async with limited(most=5, head=30.0, body=30.0) as running:
        pairs = [await asyncio.open_connection(running.host, running.port) for _ in range(5)]
        for _, writer in pairs:
            writer.write(BUSY)
        await until_full(running, 5)
        connections = running._acceptor._connections
        async with asyncio.timeout(60):
            while any(one.slot("") for one in connections):
                await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(running.host, running.port)
        _, said = await closed(reader)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in said
        writer.close()
        pairs.pop()[1].close()
        async with asyncio.timeout(60):
            while running.guests.count == 5:
                await asyncio.sleep(0.01)
        assert (await ask(running)).status == 200
        for _, writer in pairs:
            writer.close()


@pytest.mark.parametrize("start", [b"", b"GET /api/v1/latest HTTP/1.1\r\nHost: loc"])
async def test_connections_that_nobody_uses_give_way_to_who_asks(start: bytes) -> None:
    async with limited(most=40, head=30.0) as running:
        sockets = await asyncio.to_thread(half_open, running, 40, start)
        await until_full(running, 40)
        for _ in range(60):
            assert (await ask(running)).status == 200
        assert running.guests.refused == 0
        assert running.guests.count <= 40
        for each in sockets:
            each.close()
        await until_empty(running)


def test_one_ipv6_host_with_a_network_of_addresses_counts_as_one() -> None:
    guests = Guests(ServerLimits(most=100, most_each=3), lambda _: False)
    assert [guests.admit(f"2001:db8:1:2::{n}") for n in range(5)] == [True] * 3 + [False] * 2
    assert guests.admit("2001:db8:1:3::1")
    guests.leave("2001:db8:1:2::1")
    assert guests.admit("2001:db8:1:2::77")


def test_one_address_cannot_take_all_the_room() -> None:
    guests = Guests(ServerLimits(most=10, most_each=3), lambda address: address == "127.0.0.1")
    assert [guests.admit("192.0.2.1") for _ in range(5)] == [True] * 3 + [False] * 2
    assert guests.admit("192.0.2.2")
    assert [guests.admit("127.0.0.1") for _ in range(8)] == [True] * 6 + [False] * 2
    assert (guests.count, guests.refused) == (10, 4)
    for _ in range(3):
        guests.leave("192.0.2.1")
    assert guests.admit("192.0.2.1")


async def test_after_many_clients_nothing_is_left() -> None:
    async with limited(**PATIENT) as running:
        for _ in range(200):
            assert (await ask(running)).status == 200
        await until_empty(running)
        assert not running._acceptor._connections


async def test_both_addresses_of_localhost_have_one_port() -> None:
    sockets = await bind("localhost", 0)
    assert len({each.getsockname()[1] for each in sockets}) == 1
    for each in sockets:
        each.close()


async def test_an_address_of_another_machine_is_an_oserror() -> None:
    with pytest.raises(OSError, match="assign"):
        await bind("192.0.2.1", 0)


@pytest.mark.parametrize(
    "path",
    [
        *("/%00", "/api/v1/devices/%00", "/api/v1/devices/main%00", "/api/v1/latest?device=%00"),
        *("/api/v1/latest?%00=%00", "/api/v1/devices/%ff", "/%2e%2e%2fetc/passwd", "/%0d%0aX: y"),
        *("/" + "(" * 8000, "/api/v1/latest?device=" + "%28" * 2600),
    ],
)
async def test_odd_urls_are_problems_and_nothing_else(path: str) -> None:
    async with limited(**PATIENT) as running:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        reply = await say(running, head.encode())
        assert 400 <= reply.status < 500
        assert reply.all("content-type") == ["application/problem+json"]
        assert "x" not in dict(reply.fields)
