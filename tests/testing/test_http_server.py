"""The HTTP device of `meterd.testing`: what a page is answered with."""

import aiohttp
import pytest

from meterd.errors import LinkError
from meterd.testing import http_server


async def test_pages_are_json_text_bytes_and_statuses() -> None:
    pages: dict[str, object] = {
        "/status": {"power": 5.5},
        "/rpc?id=1": [True, None],
        "/rpc": "no such id",
        "/raw": b"\x00\xff",
        "/busy": 503,
    }
    async with http_server(pages) as url, aiohttp.ClientSession() as client:
        assert url.startswith("tcp://127.0.0.1:")
        base = url.replace("tcp", "http", 1)

        async def ask(path: str) -> tuple[int, bytes]:
            async with client.get(base + path) as reply:
                return reply.status, await reply.read()

        assert await ask("/status") == (200, b'{"power": 5.5}')
        assert await ask("/rpc?id=1") == (200, b"[true, null]")
        assert await ask("/rpc?id=2") == (200, b"no such id")
        assert await ask("/raw") == (200, b"\x00\xff")
        assert await ask("/busy") == (503, b"")
        assert (await ask("/none"))[0] == 404
        pages["/busy"] = "ready"
        assert await ask("/busy") == (200, b"ready")


async def test_a_link_error_closes_the_connection() -> None:
    async with http_server({"/": LinkError("gone")}) as url, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(url.replace("tcp", "http", 1))
