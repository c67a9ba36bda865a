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
        """From the thread to whoever waits on the loop."""
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
            taken = [one for one in self._open if (one.work is not None) is work]
            self._open = [one for one in self._open if (one.work is not None) is not work]
            self._taken = [*(one for one in self._taken if not one.future.done()), *taken]
        return taken

    def end(self) -> None:
        """Nobody may wait for the thread for ever, whether it has begun or not."""
        with self._guard:
            self._ended = True
            left = [*self._taken, *self._open]
            self._taken, self._open = [], []
        for one in left:
            one.answer(closed_error())


def _settle(future: "asyncio.Future[Any]", error: StoreError | None, result: Any) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
