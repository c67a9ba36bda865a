"""A headless Chromium that can be asked what its page looks like."""

import asyncio
import contextlib
import json
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


class Refused(Exception):  # noqa: N818 (it is an answer)
    """Chromium would not: a page that is being loaded has nothing to run scripts in."""


class Page:
    """One page, spoken to in Chromium's own protocol."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._id = 0

    async def send(self, method: str, **parameters: Any) -> Any:
        self._id += 1
        await self._socket.send_json({"id": self._id, "method": method, "params": parameters})
        while True:
            message = json.loads(await self._socket.receive_str(timeout=30))
            if message.get("id") != self._id:
                continue
            if "error" in message:
                raise Refused(f"{method}: {message['error']}")
            return message["result"]

    async def size(self, width: int, height: int) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def scheme(self, name: str) -> None:
        """Dark or light, and no transitions: colours are measured at once."""
        wanted = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        features = [{"name": key, "value": value} for key, value in wanted.items()]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def run(self, script: str) -> Any:
        """The value of an expression, promises awaited."""
        answer = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression holds."""
        async with asyncio.timeout(60):
            while not await self._holds(condition):
                await asyncio.sleep(0.05)

    async def _holds(self, condition: str) -> bool:
        try:
            return bool(await self.run(condition))
        except Refused:
            return False


async def dump(url: str, ready: str) -> str:
    """The DOM as Chromium holds it once an expression holds."""
    async with opened(url) as page:
        await page.until(ready)
        return str(await page.run("document.documentElement.outerHTML"))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Page]:
    """A page at that address."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = (f"--user-data-dir={profile}", "--remote-debugging-port=0")
        process = await asyncio.create_subprocess_exec(
            "chromium", *QUIET, *OFFLINE, *options, "about:blank", stdout=DEVNULL, stderr=PIPE
        )
        try:
            async with asyncio.timeout(60), ClientSession() as session:
                targets = await _targets(session, process)
                address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
                async with session.ws_connect(address) as socket:
                    page = Page(socket)
                    await page.send("Page.navigate", url=url)
                    yield page
        finally:
            process.terminate()
            await process.communicate()


async def _targets(session: ClientSession, process: asyncio.subprocess.Process) -> Any:
    assert process.stderr is not None
    while b"DevTools listening on ws://" not in (line := await process.stderr.readline()):
        assert line, "chromium ended before it listened"
    host = line.decode().split("ws://")[1].split("/")[0]
    async with session.get(f"http://{host}/json/list") as reply:
        return await reply.json(content_type=None)
