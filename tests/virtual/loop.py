"""An event loop whose clock jumps to the next timer as soon as nothing is ready."""

import asyncio
import selectors
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.virtual.network import Factory, Listener, Network

# When virtual time begins, in seconds; at no round number of anything.
START = 1000.0
# Real seconds that work in threads may take, and that are waited for where nothing is scheduled.
_WORK = 120.0
_SURPRISE = 10.0


class NothingLeftError(RuntimeError):
    """A test waits for what nothing can bring about any more."""


class _Selector(selectors.DefaultSelector):
    """Never waits: moves the clock instead, unless threads are at work for the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.working or timeout is None:
            # What threads do takes no time; only they can go on now.
            events = super().select(_WORK if self.working else _SURPRISE)
            if not events:
                raise NothingLeftError("nothing is scheduled, and no thread has anything to say")
            return events
        self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time is what timers were set to; connections are made in memory; real ones are refused."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self.network = Network(self)
        self.thread = threading.get_ident()
        self.at_close = ExitStack()

    def close(self) -> None:
        super().close()
        self.at_close.close()

    def time(self) -> float:
        return self._clock.now

    def pass_by(self, seconds: float) -> None:
        """Work that takes so long: nothing else goes on meanwhile."""
        self._clock.now += max(seconds, 0.0)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Time stands still: a thread of one's own is at work, and will wake the loop."""
        self._clock.working += 1
        try:
            yield
        finally:
            self._clock.working -= 1

    # -- threads -----------------------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._clock.working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: object) -> None:
        self._clock.working -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        with self.hold():
            await super().shutdown_default_executor(*args)

    # -- connections -------------------------------------------------------------------------

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: object = None,
        **_: object,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        _plain(ssl)
        return await self.network.connect(protocol_factory, host or "127.0.0.1", port or 0)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: object = None,
        **_: object,
    ) -> Listener:
        _plain(ssl)
        return self.network.listen(protocol_factory, host or "0.0.0.0", port or 0)

    def add_reader(self, fd: Any, callback: Any, *_: Any) -> None:  # type: ignore[override]
        raise NotImplementedError(f"file {fd}: nothing real is waited for in virtual time")

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("datagrams: nothing real is waited for in virtual time")

    async def subprocess_exec(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("processes: nothing real is waited for in virtual time")


def _plain(ssl: object) -> None:
    if ssl:
        raise NotImplementedError("TLS: nothing real is waited for in virtual time")


def running() -> VirtualLoop:
    """The loop that runs now, which must be one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "a test in virtual time is decorated with @virtual"
    return loop
