"""The awaitable reply of an exchange: parsed as bytes arrive, or failed by timeout or closing."""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, cast

from meterd.errors import LinkCode, LinkError, MeterdError, ProtocolError
from meterd.wire.link import Parse, T
from meterd.wire.stream import BUFFER_LIMIT, Stream

LossError = Callable[[Exception | None], LinkError]
"""Translates the exception of a connection that the peer ended (None: closed) to LinkError."""


class PendingReply(Generic[T]):
    """The reply to one request on a stream, awaited by one task.

    It acts as a future (asyncio accepts any object with `_asyncio_future_blocking`), but resumes
    its task at once, inside the callback that delivers the last byte. asyncio.Future wakes its
    task in the loop's next iteration, and an iteration polls every socket, which costs as much as
    all the rest of an exchange that does not wait for the system.
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

    def __init__(self, stream: Stream, parse: Parse[T], lost: LossError) -> None:
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
        """Parse the stream's buffer: finishes with the reply, with an error, or not yet.

        Called whenever bytes arrive and when the connection ends. More than BUFFER_LIMIT bytes
        without a reply fail with ProtocolError(flood).
        """
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
        """Finish without a reply: `error` is raised where it is awaited."""
        if not self.done:
            self._error = error
            self._finish()

    def _finish(self) -> None:
        self.done = True
        if self._wake is None:
            return  # not awaited yet: __await__ will return at once
        assert self._context is not None  # noqa: S101 (set together)
        if asyncio.current_task(self._loop) is None:
            self._context.run(self._wake, self)
        else:
            # A task may not be resumed inside another one: the one that runs now goes on first.
            self._loop.call_soon(self._wake, self, context=self._context)

    # -- the part of asyncio.Future's interface that a task uses ------------------------------

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
        """Cancel the waiting task; False where the reply is done already."""
        if self.done:
            return False
        self.done = True
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        assert self._wake is not None  # noqa: S101 (a task cancels what it waits for)
        # In the next iteration: the caller of Task.cancel does not expect the task to run inside.
        self._loop.call_soon(self._wake, self, context=self._context)
        return True
