"""The public boundary for packages that bring a driver: all that such a package may import.

A driver is a class with `Options` and `async def read(self)`, found by its entry point in the
group `meterd.drivers`; docs/plugins.md shows one from nothing to a running test. For tests there is
`meterd.testing`, on the same terms.

What is promised, by semantic versioning of meterd:

- A name of `__all__` here stays, and means the same, within a major version. A minor version may
  add names, capabilities, optional parameters and fields with a default behind those there are. A
  patch version changes nothing here.
- What is to go warns with DeprecationWarning for one minor version at least, and goes with the
  next major one. Before 1.0 a minor version counts as a major one.
- Of a Link it holds for `url`, `options`, `epoch`, `timeout`, `close` and `exchange(request, parse,
  timeout=, quiet=, once=)`; its other members and parameters are meterd's own.
- Every other module of meterd may change at any time, and so may every name with an underscore.
- meterd calls what the Protocols here list, and nothing else, always in one event loop. Of one
  driver `read`, `act` and `close` are never under way together, except that `close` does not wait
  for a cancelled poll that does not end. What a driver has wrong is told by its entry point.

Capabilities of a driver (Commands, Notices, CounterRegisters, Quantities, UnitAddress,
ExchangeTimeout, RequestSizes, Closes), of its class (BuildsItself, LinkDefaults, ValueNames) and of
its options (LimitsPower, SlowTier) are Protocols: whoever has the members has the capability, and
nothing is inherited.
"""

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from meterd.errors import (
    ConfigError,
    DeviceCode,
    DeviceError,
    LinkCode,
    LinkError,
    MeterdError,
    PluginCode,
    ProtocolError,
    Unsupported,
)
from meterd.model import units
from meterd.model.driver import (
    POLL_LIMIT_S,
    BuildsItself,
    Closes,
    Commands,
    CounterRegisters,
    Driver,
    DriverClass,
    ExchangeTimeout,
    LimitsPower,
    LinkDefaults,
    Notices,
    Quantities,
    RequestSizes,
    SlowTier,
    UnitAddress,
    ValueNames,
)
from meterd.model.event import EventKind, Notice
from meterd.model.sample import CounterRegister, Quality, Reading
from meterd.wire.link import Link, Parse

__all__ = [
    "POLL_LIMIT_S",
    "BlockingCalls",
    "BuildsItself",
    "Closes",
    "Commands",
    "ConfigError",
    "CounterRegister",
    "CounterRegisters",
    "DeviceCode",
    "DeviceError",
    "Driver",
    "DriverClass",
    "EventKind",
    "ExchangeTimeout",
    "LimitsPower",
    "Link",
    "LinkCode",
    "LinkDefaults",
    "LinkError",
    "MeterdError",
    "Notice",
    "Notices",
    "Options",
    "Parse",
    "PluginCode",
    "ProtocolError",
    "Quality",
    "Quantities",
    "Reading",
    "RequestSizes",
    "SlowTier",
    "UnitAddress",
    "Unsupported",
    "ValueNames",
    "units",
]

T = TypeVar("T")


class Options(BaseModel):
    """The keys of a device in meterd.yaml that are a driver's own: derive the driver's from it.

    A key that the model does not have is refused, with its place in the file and a "did you
    mean"; values cannot be changed once they are read. Keys that every device has (`link`,
    `interval`, `labels`, …) never come here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class BlockingCalls:
    """Runs the calls of a blocking library in a thread, one at a time, while the loop goes on.

    One object for each driver: all its calls are made by the same thread, which begins with the
    first call, holds up no end of the process, and ends when the object is given up.
    """

    def __init__(self, name: str = "driver") -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._last: Future[Any] | None = None
        self._thread: threading.Thread | None = None

    async def run(
        self, function: Callable[..., T], *arguments: Any, timeout: float | None = None
    ) -> T:
        """What `function(*arguments)` returns; what it raises is raised here.

        After `timeout` seconds, or where the function raises TimeoutError, LinkError with the code
        `timeout` is raised; without one the poll's own limit ends the wait (POLL_LIMIT_S). No
        thread can be stopped: as long as it is at a call that nobody waits for any more, each
        further call raises DeviceError with the code `driver_stuck`, so that no calls pile up.
        """
        if self._last is not None and not self._last.done():
            raise DeviceError(
                "the library is still at the call before", code=DeviceCode.DRIVER_STUCK
            )
        self._start()
        self._last = future = Future[Any]()
        self._calls.put((future, function, arguments))
        try:
            async with asyncio.timeout(timeout):
                result: T = await asyncio.wrap_future(future)
        except TimeoutError as error:
            within = "" if timeout is None else f" within {timeout:g} s"
            raise LinkError(f"no answer{within}", code=LinkCode.TIMEOUT) from error
        return result

    def _start(self) -> None:
        if self._thread is not None:
            return
        name = f"blocking calls of {self._name}"
        self._thread = threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._calls.put, None)


_Call = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


def _for_the_loop(error: BaseException) -> Exception:
    """What can be raised in a task: SystemExit would end meterd, and StopIteration no future."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _serve(calls: "queue.SimpleQueue[_Call | None]") -> None:
    """The thread: call after call, until None. It must not hold the object that it serves."""
    while (call := calls.get()) is not None:
        future, function, arguments = call
        if future.set_running_or_notify_cancel():
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 (it is raised where it was called for)
                future.set_exception(_for_the_loop(error))
            else:
                future.set_result(result)
            result = None
        call = future = function = arguments = None  # type: ignore[assignment]
