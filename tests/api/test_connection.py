"""Where a head ends is seen by itself: aiohttp says so only once the request is begun."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from meterd.api.connection import Connection
from meterd.api.limits import ServerLimits

LIMITS = ServerLimits(head_bytes=1000)
HEAD = b"POST /k\xc3\xbcche HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n"
BODY = b"x" * 2000


class Wire(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        """Nobody reads it."""

    def is_closing(self) -> bool:
        return self.aborted

    def close(self) -> None:
        self.aborted = True

    def abort(self) -> None:
        self.aborted = True


async def _nothing(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


def was_cut(*parts: bytes) -> bool:
    """Whether a client that sends these parts at once is cut off before anybody looked."""

    async def send() -> bool:
        wire = Wire()
        connection = Connection(web.Server(_nothing), asyncio.get_running_loop(), LIMITS)
        connection.connection_made(wire)
        for part in parts:
            connection.data_received(part)
        cut = wire.aborted
        await connection.shutdown(0.0)
        return cut

    return asyncio.run(send())


@pytest.mark.parametrize("cut", range(1, len(HEAD)))
def test_a_head_is_over_wherever_its_parts_were_cut(cut: int) -> None:
    assert not was_cut(HEAD[:cut], HEAD[cut:], BODY, BODY)


def test_a_body_in_the_part_that_ends_the_head_is_none_of_it() -> None:
    assert not was_cut(HEAD + BODY, BODY)


@pytest.mark.parametrize("start", [b"\r\n", b"\r\n\r\n", b"\n\n\n"])
def test_empty_lines_before_a_request_end_no_head(start: bytes) -> None:
    line = b"X-A: " + b"a" * 900 + b"\r\n"
    head = HEAD[: HEAD.index(b"\r\n") + 2]
    assert not was_cut(start, HEAD, BODY, BODY)
    assert was_cut(start, head, line, line, line)
    assert was_cut(start + head, line, line, line)


def test_a_head_without_end_is_cut_off_once_it_is_too_long() -> None:
    line = b"X-A: " + b"a" * 400 + b"\r\n"
    head = HEAD[: HEAD.index(b"\r\n") + 2]
    assert not was_cut(head, line, line)
    assert was_cut(head, line, line, line, line)
