"""Keeps a process alive that must run for years: containment, heartbeats, watchdog, signals.

A bug in one driver or sink stays its own: what is run here is contained.
"""

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from meterd.daemon.poll_timeout import PollTimeout
from meterd.drivers.driver_contract import readings_mistake
from meterd.errors import DeviceCode, DeviceError, GeneralCode, LinkError, MeterdError
from meterd.model.columns import Columns
from meterd.model.driver import Driver, Notices
from meterd.model.event import Notice
from meterd.model.sample import Poll, Quality, Reading, Sink

log = logging.getLogger(__name__)

_RESTART_PAUSE = 5.0
# Places in the code of one driver or sink at which bugs were met, and are not told again.
_PLACES = 50
_DEFAULT_WATCHDOG = 60.0
# Seconds after the first signal to stop, before which none ends the process at once.
IMPATIENCE_S = 5.0
_PATIENT_STOPS = 2


class _Bugs:
    """Bugs by their place in the code: their texts may differ each time, and come from a device."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: tuple[tuple[object, ...], ...] = ()

    def is_new(self, error: BaseException) -> bool:
        """Whether this kind of exception is the first at this place."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        line = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        place = type(error), line
        if place in self._places:
            return False
        self._places = (*self._places[1 - _PLACES :], place)
        return True


class ContainedDriver:
    """A driver whose bugs and hangs are faults of its device, not of the daemon.

    `limit` may be one for all drivers; it has to be that of one event loop. `origin` names the
    driver to its author, where a bug is told.
    """

    __slots__ = ("_bugs", "_driver", "_limit", "_noticing", "_origin", "device")

    def __init__(
        self, device: str, driver: Driver, limit: PollTimeout | None = None, origin: str = ""
    ) -> None:
        self.device = device
        self._driver = driver
        self._noticing = driver if isinstance(driver, Notices) else None
        self._limit = limit or PollTimeout()
        self._origin = origin or "the driver"
        self._bugs = _Bugs()

    @property
    def notices(self) -> list[Notice]:
        """The driver's own."""
        return [] if self._noticing is None else self._noticing.notices

    async def read(self) -> Sequence[Reading]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        limit = self._limit
        limit.begin(task)
        answered = False
        readings: Any = None
        try:
            readings = await self._driver.read()
            answered = True
            said = readings if readings.__class__ is Columns else _columns(readings)
        except asyncio.CancelledError as error:
            if limit.end(task) and not task.cancelling():
                text = f"{self._origin} did not come back within {limit.seconds:g} s"
                raise DeviceError(text, code=DeviceCode.DRIVER_STUCK) from error
            raise
        except (LinkError, DeviceError):
            limit.end(task)
            raise
        except Exception as error:
            limit.end(task)
            mistake = readings_mistake(readings) if answered else ""
            raise self._of_bug(error, mistake) from error
        limit.end(task)
        return said

    def _of_bug(self, error: Exception, mistake: str) -> DeviceError:
        """The fault of a bug, which is logged once, with its stack where it is in code."""
        text = f"a bug in {self._origin}: {mistake or f'{type(error).__name__}: {error}'}"
        if self._bugs.is_new(error):
            log.error("%s: %s", self.device, text, exc_info=None if mistake else error)
        return DeviceError(text, code=DeviceCode.DRIVER_BUG)


def _columns(readings: Any) -> Columns:
    """Of single readings. Raises TypeError, or AttributeError, where they are none."""
    said = Columns.of(readings)
    is_list = readings.__class__ is list or isinstance(readings, Sequence)
    if not is_list or (said.remarks and not _are_qualities(said)):
        raise TypeError("what a driver gave is no sequence of Reading")
    return said


def _are_qualities(said: Columns) -> bool:
    return all(remark.quality.__class__ is Quality for remark in said.remarks.values())


class ContainedSink:
    """A sink whose failure does not keep the poll from the others."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._bugs = _Bugs()

    def take(self, poll: Poll) -> None:
        try:
            self._sink.take(poll)
        except Exception as error:
            if self._bugs.is_new(error):
                text = f"{type(self._sink).__name__}: {type(error).__name__}: {error}"
                log.exception("a sink failed: %s", text)


async def forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a loop that never ends by itself; if a bug ends it, say so and start it again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed, and starts again in %g s", name, _RESTART_PAUSE)
        else:
            return
        await asyncio.sleep(_RESTART_PAUSE)


def notify(message: str) -> None:
    """Tell systemd, if it started us (sd_notify(3)); "@" stands for the abstract namespace."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    target = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(message.encode(), target)


async def watch(overdue: Callable[[], Mapping[str, float]]) -> None:
    """Pat the watchdog only while every loop gives signs of life.

    `overdue` names what has been silent for too long, with the seconds. When the event loop
    itself hangs, a thread writes every stack to stderr before systemd acts.
    """
    period = int(os.environ.get("WATCHDOG_USEC") or _DEFAULT_WATCHDOG * 1e6) / 1e6
    complained = False
    try:
        while True:
            faulthandler.dump_traceback_later(period * 0.75)
            late = overdue()
            if not late:
                notify("WATCHDOG=1")
            elif not complained:
                log.error(
                    "no sign of life: %s", ", ".join(f"{n} ({s:.0f} s)" for n, s in late.items())
                )
            complained = bool(late)
            await asyncio.sleep(period / 4)
    finally:
        faulthandler.cancel_dump_traceback_later()


class Signals:
    """SIGTERM and SIGINT stop; SIGHUP reloads, or stops what cannot.

    A stop is orderly however often it is asked for: `timeout`, process groups and service
    managers send a signal twice within microseconds. Only who asks a third time, and
    IMPATIENCE_S after the first, ends the process at once.
    """

    def __init__(
        self,
        reload: Callable[[], Awaitable[None]] | None = None,
        failed: Callable[[MeterdError], None] = lambda _: None,
    ) -> None:
        """`failed` gets the error of a reload that changed nothing. Reloads wait for
        `serve_reloads`.
        """
        self._stop = asyncio.Event()
        self._stops: list[float] = []  # when it was asked for, in seconds of the loop's time
        self._reload = reload
        self._failed = failed
        self._reload_asked = asyncio.Event()
        self._reloads: asyncio.Task[None] | None = None
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # What it was made for: the terminal is gone. `nohup` says that this is no matter.
            loop.add_signal_handler(signal.SIGHUP, self._asked_to_stop)

    async def stopped(self) -> None:
        """Returns on a stop signal; a reload under way is cancelled or finished then."""
        await self._stop.wait()
        if self._reloads is not None:
            self._reloads.cancel()
            await asyncio.gather(self._reloads, return_exceptions=True)
            self._reloads = None

    async def unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work was done; a stop signal cancels it."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            return False
        await task
        return True

    def serve_reloads(self) -> None:
        """Reloads on each signal from now on; at once where one came before."""
        if self._reload is not None and self._reloads is None:
            self._reloads = asyncio.create_task(self._reload_when_asked(self._reload))

    def stop(self) -> None:
        self._stop.set()

    def _asked_to_stop(self) -> None:
        self._stops.append(self._loop.time())
        first, count = self._stops[0], len(self._stops)
        if count > _PATIENT_STOPS and self._stops[-1] - first >= IMPATIENCE_S:
            os._exit(1)
        if count == _PATIENT_STOPS:
            text = "stopping already, and what is in memory goes to the store first; a third signal"
            log.warning("%s, %g s after the first, ends it at once", text, IMPATIENCE_S)
        self._stop.set()

    async def _reload_when_asked(self, reload: Callable[[], Awaitable[None]]) -> None:
        """One reload after the other; signals during one cause one more."""
        while True:
            await self._reload_asked.wait()
            # Before the configuration is read, so that what is asked for later sees what is new.
            self._reload_asked.clear()
            await self._reload_once(reload)

    async def _reload_once(self, reload: Callable[[], Awaitable[None]]) -> None:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            await reload()
        except MeterdError as error:
            self._failed(error)
        except Exception as error:
            log.exception("a reload met a bug")
            text = f"a bug in meterd: {type(error).__name__}: {error}"
            self._failed(MeterdError(text, code=GeneralCode.BUG))
        finally:
            notify("READY=1")
