"""Virtual time: whole links, buses and servers run in it, at once and each time the same.

    from tests.virtual import virtual

    @virtual
    async def test_a_late_answer(tmp_path: Path) -> None:
        ...

The decorated coroutine runs in a `VirtualLoop`. When nothing is ready, its clock jumps to the
next timer; so an hour of polling takes as long as the polls compute, a busy machine changes
nothing, and `await asyncio.sleep(0.3)` or `asyncio.timeout(20)` cost nothing. In it

- `loop.time()`, `SystemClock` and `time.sleep` (in the loop's thread) are virtual; work takes no
  time, unless `running().pass_by(seconds)` says that it does,
- `create_connection`, `create_server`, `asyncio.start_server` and `asyncio.open_connection` make
  connections in memory. So `open_link("tcp://…")`, `ModbusServer.start_tcp()` and the proxy work
  as they are. `network()` has `latency`, `mangle` (cut, delay, change bytes), `blocked` ports,
- `serial://` links, `ModbusServer.start_pty(path)`, `serve_ups(link_path=…)` and `PtyPort` meet on
  ports in memory; `wire_of(path).baud = 9600` makes their bytes take their time,
- `asyncio.to_thread` works, and time stands still meanwhile; other threads need `running().hold()`,
- `random` is seeded by the test's name, or by `@virtual(seed=7)`,
- sockets, files, processes and TLS of the machine are refused, and a wait for what nothing can
  bring about any more raises NothingLeftError in place of hanging.

Fixtures that are themselves coroutines run in another loop then. A whole module with its fixtures,
or one test, runs in virtual time by `pytestmark = pytest.mark.virtual` (see tests/conftest.py).
`tests.virtual.modbus` has a Modbus server whose every byte a test decides.
"""

import asyncio
import functools
import random
import threading
import time
import zlib
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, overload
from unittest import mock

import serial
import serial_asyncio

from meterd.model.clock import SystemClock
from meterd.sim.pty import PtyPort
from tests.virtual import ports
from tests.virtual.loop import START, NothingLeftError, VirtualLoop, running
from tests.virtual.network import Mangle, Network, Way
from tests.virtual.ports import Wire, wire_of

__all__ = [
    "Mangle",
    "Network",
    "NothingLeftError",
    "VirtualLoop",
    "Way",
    "Wire",
    "network",
    "new_loop",
    "now",
    "running",
    "seed_of",
    "virtual",
    "wire_of",
]

P = ParamSpec("P")
_Test = Callable[P, Coroutine[Any, Any, None]]

# UTC when virtual time begins, in Unix milliseconds.
EPOCH_MS = 1_800_000_000_000
_sleep = time.sleep


def network() -> Network:
    """The network of the loop that runs."""
    return running().network


def now() -> float:
    """Virtual seconds."""
    return running().time()


@overload
def virtual(test: _Test[P], /) -> Callable[P, None]: ...
@overload
def virtual(*, seed: int) -> Callable[[_Test[P]], Callable[P, None]]: ...
def virtual(test: _Test[P] | None = None, /, *, seed: int | None = None) -> Any:
    """Runs the test in a loop of its own, in virtual time."""
    if test is None:
        return functools.partial(_decorated, seed=seed)
    return _decorated(test, seed=seed)


def _decorated(test: _Test[P], *, seed: int | None) -> Callable[P, None]:
    found = seed_of(test.__qualname__) if seed is None else seed

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=functools.partial(new_loop, found)) as runner:
            runner.run(test(*args, **kwargs))

    return run


def seed_of(name: str) -> int:
    """The same for each run of a test."""
    return zlib.crc32(name.encode())


def new_loop(seed: int) -> VirtualLoop:
    """A loop, and with it, until it is closed, everything else that knows of time or chance."""
    loop = VirtualLoop()
    state = random.getstate()
    loop.at_close.callback(random.setstate, state)
    random.seed(seed)
    for target, changes in _standins(loop):
        loop.at_close.enter_context(mock.patch.multiple(target, **changes))
    return loop


def _standins(loop: VirtualLoop) -> list[tuple[Any, dict[str, Any]]]:
    def monotonic(_: SystemClock) -> float:
        return loop.time()

    def now_ms(_: SystemClock) -> int:
        return EPOCH_MS + int((loop.time() - START) * 1000)

    def sleep(seconds: float) -> None:
        if threading.get_ident() == loop.thread:
            loop.pass_by(seconds)
        else:
            _sleep(seconds)

    port = {"open": ports.open_port, "close": ports.close_port, "write": ports.write_port}
    return [
        (time, {"sleep": sleep}),
        (SystemClock, {"monotonic": monotonic, "now_ms": now_ms}),
        (PtyPort, port),
        (serial, {"Serial": functools.partial(ports.Serial, loop)}),
        (serial_asyncio, {"SerialTransport": ports.SerialEnd}),
    ]
