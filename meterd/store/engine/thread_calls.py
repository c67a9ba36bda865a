"""Calls into the store's thread from the event loop, answered by futures."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from meterd.errors import StoreCode, StoreError
from meterd.store.compaction.session import StoreSession

_T = TypeVar("_T")


def closed_error() -> StoreError:
    return StoreError("the store is not open", code=StoreCode.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class ThreadCall(Generic[_T]):
    """`work` is done between two commits; None waits for the next one to be tried."""

    work: Callable[[StoreSession], _T] | None
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[_T]"

    def answer(self, error: StoreError | None, result: _T | None = None) -> None:
        """Completes the call from the store's thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(_settle, self.future, error, result)


class ThreadCalls:
    """Made on the loop, done in the thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: list[ThreadCall[Any]] = []
        self._taken: list[ThreadCall[Any]] = []  # some of them are answered
        self._ended = False

    def add(self, work: Callable[[StoreSession], _T] | None = None) -> "asyncio.Future[_T]":
        """Raises StoreError where the thread has ended."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        with self._guard:
            if self._ended:
                raise closed_error()
            self._open.append(ThreadCall(work, loop, future))
        return future

    def take(self, *, work: bool) -> list[ThreadCall[Any]]:
        """Those with or without work that came until now."""
        with self._guard:
            taken = [call for call in self._open if (call.work is not None) is work]
            self._open = [call for call in self._open if (call.work is not None) is not work]
            self._taken = [*(call for call in self._taken if not call.future.done()), *taken]
        return taken

    def end(self) -> None:
        """Answers all calls with an error, begun or not: nobody waits for ever."""
        with self._guard:
            self._ended = True
            left = [*self._taken, *self._open]
            self._taken, self._open = [], []
        for call in left:
            call.answer(closed_error())


def _settle(future: "asyncio.Future[Any]", error: StoreError | None, result: Any) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
