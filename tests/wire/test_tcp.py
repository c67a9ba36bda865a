"""TCP links: what the network's refusals mean, and what they cost."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from meterd.errors import LinkError
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.megatec import send_command
from meterd.wire.stream import Stream
from tests.ports import free_port
from tests.virtual import virtual


@contextlib.asynccontextmanager
async def serving(answer: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[str]:
    """A server that answers byte by byte; gives its URL, and waits for its connections' ends."""
    connections: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while question := await reader.read(1):
                writer.write(await answer(question))
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.wait_for(asyncio.gather(*filter(None, connections)), 60)
    server.close()


def anything(buffer: bytearray) -> bytes | None:
    return bytes(buffer) or None


def link_to(url: str, **times: float) -> Link:
    return open_link(parse(url), defaults={}, times=Times(**{"timeout": 0.2, **times}))


async def test_nothing_is_opened_before_the_first_exchange() -> None:
    link = link_to(f"tcp://127.0.0.1:{free_port()}")
    assert link.epoch == 0
    await link.close()


async def test_a_refused_connection_is_tried_again_after_a_pause_not_at_once() -> None:
    link = link_to(f"tcp://127.0.0.1:{free_port()}")
    for _ in range(20):
        with pytest.raises(LinkError) as caught:
            await link.exchange(b"x", anything)
        assert caught.value.code == "refused"
    assert link.counters["open_failures"] == 1


async def test_a_name_that_nobody_knows() -> None:
    link = link_to("tcp://no-such-host.invalid:502", connect_timeout=10)
    with pytest.raises(LinkError) as caught:
        await link.exchange(b"x", anything)
    assert caught.value.code in ("dns", "unreachable")


async def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    # A full backlog is as silent as a host that is down.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        link = link_to(f"tcp://127.0.0.1:{port}", connect_timeout=0.2)
        with pytest.raises(LinkError) as caught:
            await link.exchange(b"x", anything)
        assert caught.value.code in ("unreachable", "timeout")
        for other in others:
            other.close()


@virtual
async def test_one_that_accepts_and_closes_is_not_hammered() -> None:
    connections = 0

    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    link = link_to(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    for _ in range(5):
        with pytest.raises(LinkError) as caught:
            await link.exchange(b"x", anything)
        assert caught.value.code == "closed"
    assert connections == 5
    await link.close()
    server.close()


@virtual
async def test_exchanges_of_two_tasks_go_one_after_the_other() -> None:
    open_requests = most = 0

    async def answer(question: bytes) -> bytes:
        nonlocal open_requests, most
        open_requests += 1
        most = max(most, open_requests)
        await asyncio.sleep(0.01)
        open_requests -= 1
        return b"!"

    async with serving(answer) as url:
        link = link_to(url)
        await asyncio.gather(*(link.exchange(b"?", anything) for _ in range(5)))
        assert most == 1
        await link.close()


@virtual
async def test_a_cancelled_exchange_leaves_a_link_that_works() -> None:
    async def answer(question: bytes) -> bytes:
        await asyncio.sleep(0.05)
        return question

    async with serving(answer) as url:
        link = link_to(url)
        question = asyncio.create_task(link.exchange(b"a", anything))
        await asyncio.sleep(0.02)
        question.cancel()
        await asyncio.gather(question, return_exceptions=True)
        assert await link.exchange(b"b", anything) == b"b"
        await link.close()


@contextlib.asynccontextmanager
async def hanging_up(after: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers so many questions of a connection and hangs up at the next one."""
    heard: list[bytes] = []
    connections: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            for _ in range(after):
                heard.append(await reader.read(64))
                writer.write(b"!")
            heard.append(await reader.read(64))
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    await asyncio.wait_for(asyncio.gather(*filter(None, connections)), 60)
    server.close()


def taken(buffer: bytearray) -> bytes | None:
    found = bytes(buffer)
    buffer.clear()
    return found or None


@virtual
async def test_a_question_is_asked_again_where_the_connection_ends() -> None:
    async with hanging_up(after=1) as (url, heard):
        link = link_to(url)
        await link.exchange(b"a", taken, quiet=False)
        assert await link.exchange(b"b", taken, quiet=False) == b"!"
        assert heard == [b"a", b"b", b"b"]
        await link.close()


@virtual
async def test_an_order_is_sent_once_though_the_connection_ends() -> None:
    async with hanging_up(after=1) as (url, heard):
        link = link_to(url)
        await link.exchange(b"a", taken)
        with pytest.raises(LinkError, match=r"nobody knows whether S\.5 was taken") as caught:
            await send_command(link, "S.5")
        assert caught.value.code == "closed"
        assert await link.exchange(b"c", taken) == b"!"
        assert heard == [b"a", b"S.5\r", b"c"]
        await link.close()


class _ForeignTransport:
    """A transport of another event loop, which is no subclass of asyncio's, as uvloop's are not."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


async def test_a_transport_need_not_be_a_subclass_of_asyncios() -> None:
    stream, transport = Stream(), _ForeignTransport()
    stream.connection_made(cast("asyncio.BaseTransport", transport))
    stream.send(b"\x01\x04")
    assert transport.written == b"\x01\x04"
