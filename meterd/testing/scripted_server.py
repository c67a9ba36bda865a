"""A device on loopback that answers from a script: for what a driver does with a real link."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meterd.errors import LinkError
from meterd.testing.scripted_link import Reply, Script

_RECEIVE_SIZE = 4096


@asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[str]:
    """Answers over TCP; gives the link's URL, `tcp://127.0.0.1:PORT`, whose port is a free one.

    Scripts are those of ScriptedLink, and all clients go on in one. A request that is not in the
    script meets silence; where the reply is a LinkError the connection is closed instead.
    """
    device = ScriptedDevice(script)
    server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await device.hang_up()


class ScriptedDevice:
    """What answers; all clients share the script."""

    def __init__(self, script: Script) -> None:
        self._script: dict[bytes, list[Reply]] = {
            request: list(replies) if isinstance(replies, list) else [replies]
            for request, replies in script.items()
        }
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it or the script closes the connection."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._clients[writer] = task
        received = bytearray()
        try:
            while data := await reader.read(_RECEIVE_SIZE):
                received += data
                if not self._answer(received, writer):
                    return
        except ConnectionError:
            return
        finally:
            del self._clients[writer]
            writer.close()

    def _answer(self, received: bytearray, writer: asyncio.StreamWriter) -> bool:
        """Answer all requests in the buffer; False where the script says that the link fails."""
        while (request := self._first(received)) is not None:
            del received[: received.index(request) + len(request)]
            replies = self._script[request]
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
            if isinstance(reply, LinkError):
                return False
            writer.write(reply if isinstance(reply, bytes) else b"".join(reply))
        return True

    def _first(self, received: bytearray) -> bytes | None:
        """The request that comes first in the buffer: of those that begin alike, the longest."""
        places = [
            (received.index(request), -len(request), request)
            for request in self._script
            if request in received
        ]
        return min(places)[2] if places else None

    async def hang_up(self) -> None:
        """Close every connection."""
        tasks = list(self._clients.values())
        for writer in list(self._clients):
            writer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
