"""What an exchange waits for: an answer among the bytes that arrive, or a failure."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, cast

from meterd.errors import LinkCode, LinkError, MeterdError, ProtocolError
from meterd.wire.link import Parse, T
from meterd.wire.stream import BUFFER_LIMIT, Stream

Lost = Callable[[Exception | None], LinkError]
"""What a connection that ended by itself means."""


class PendingReply(Generic[T]):
    """The answer to one request on a stream, for one task to await.

    To a task it is a future (asyncio takes whatever has `_asyncio_future_blocking` for one), but
    one that lets it go on at once, while the last byte is being delivered. A future of
    asyncio's own wakes its task in the loop's next turn, and a turn, which asks the system about
    every socket, costs as much as all the rest of a transaction that does not wait for the system.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_context",
        "_error",
        "_loop",
        "_lost",
        "_parse",
        "_result",
        "_stream",
        "_wake",
        "done",
    )

    def __init__(self, stream: Stream, parse: Parse[T], lost: Lost) -> None:
        self._asyncio_future_blocking = False
        self._loop = stream.loop
        self._stream = stream
        self._parse = parse
        self._lost = lost
        self._wake: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._error: BaseException | None = None
        self._result: T | None = None
        self.done = False

    def look(self) -> None:
        """Is the answer in what has arrived by now, or is it clear that none will come?"""
        if self.done:
            return
        stream = self._stream
        try:
            result = self._parse(stream.buffer)
        except MeterdError as error:
            self.fail(error)
            return
        if result is not None:
            self._result = result
            self._finish()
        elif stream.lost:
            self.fail(self._lost(stream.error))
        elif len(stream.buffer) > BUFFER_LIMIT:
            self.fail(ProtocolError("more bytes than any frame has", code=LinkCode.FLOOD))

    def fail(self, error: BaseException) -> None:
        """Nothing will come: `error` is raised where the answer is awaited."""
        if not self.done:
            self._error = error
            self._finish()

    def _finish(self) -> None:
        self.done = True
        if self._wake is None:
            return  # not awaited yet: it never will wait
        assert self._context is not None  # noqa: S101 (set together)
        if asyncio.current_task(self._loop) is None:
            self._context.run(self._wake, self)
        else:
            # Only one task runs at a time: the one that brought the bytes goes on first.
            self._loop.call_soon(self._wake, self, context=self._context)

    # -- what a task asks of a future --------------------------------------------------------

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wake: Callable[[Any], object], *, context: Context) -> None:
        self._wake, self._context = wake, context

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def cancel(self, msg: Any | None = None) -> bool:
        """The task that waits is cancelled; false where it is about to go on anyway."""
        if self.done:
            return False
        self.done = True
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        assert self._wake is not None  # noqa: S101 (a task cancels what it waits for)
        # Not at once: who cancels a task does not expect it to run before he is done.
        self._loop.call_soon(self._wake, self, context=self._context)
        return True
