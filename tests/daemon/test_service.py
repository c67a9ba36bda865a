"""What keeps a process alive for years: containment, heartbeats, the watchdog's socket."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from meterd.daemon import service
from meterd.daemon.poll_timeout import PollTimeout
from meterd.errors import ConfigError, DeviceError, LinkCode, LinkError
from meterd.model.driver import Driver
from meterd.model.sample import Fault, Poll, Reading, failed
from tests.virtual import virtual


class Broken:
    """A driver that fails with whatever it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def read(self) -> Sequence[Reading]:
        raise self.error


async def test_a_bug_in_a_driver_is_a_fault_of_its_device(caplog: pytest.LogCaptureFixture) -> None:
    driver = service.ContainedDriver("main", Broken(ZeroDivisionError("division by zero")))
    for _ in range(3):
        with pytest.raises(DeviceError, match="ZeroDivisionError") as caught:
            await driver.read()
        assert caught.value.code == "driver_bug"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [LinkError("gone", code=LinkCode.TIMEOUT), DeviceError("no")])
async def test_honest_faults_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await service.ContainedDriver("main", Broken(error)).read()
    assert caught.value is error


class Hangs:
    """A driver that never comes back."""

    async def read(self) -> Sequence[Reading]:
        await asyncio.Event().wait()
        return []


async def test_a_driver_that_hangs_is_given_up() -> None:
    driver = service.ContainedDriver("main", Hangs(), PollTimeout(0.01))
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            await driver.read()
        assert caught.value.code == "driver_stuck"
    # The task goes on as if nobody had ever cancelled it.
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await asyncio.sleep(0)


async def test_of_many_drivers_only_those_that_hang_are_given_up() -> None:
    class Answers:
        async def read(self) -> Sequence[Reading]:
            await asyncio.sleep(0)
            return []

    async def polls(driver: service.ContainedDriver) -> str:
        try:
            for _ in range(1000):
                await driver.read()
        except DeviceError as error:
            return error.code
        return "well"

    limit = PollTimeout(0.05)
    drivers: list[Driver] = [Answers(), Hangs(), Answers(), Hangs()]
    contained = [service.ContainedDriver("d", driver, limit) for driver in drivers]
    found = await asyncio.gather(*map(polls, contained))
    assert found == ["well", "driver_stuck", "well", "driver_stuck"]


async def test_who_stops_a_poll_is_not_told_that_its_driver_hangs() -> None:
    driver = service.ContainedDriver("main", Hangs(), PollTimeout(60.0))
    task = asyncio.ensure_future(driver.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_sink_fails_alone_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    class Bad:
        def take(self, poll: Poll) -> None:
            raise KeyError("oops")

    sink = service.ContainedSink(Bad())
    for _ in range(3):
        sink.take(failed("main", 1, Fault("timeout", "")))
    assert len(caplog.records) == 1


async def test_a_loop_that_a_bug_ended_starts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "_RESTART_PAUSE", 0.0)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("a bug")

    with caplog.at_level(logging.ERROR):
        await service.forever("bus", work)
    assert runs == 3
    assert len(caplog.records) == 2


class Systemd:
    """The receiving end of sd_notify."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._sock.recv(1000).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._sock.close()


@virtual
async def test_the_watchdog_is_patted_only_while_everything_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    late: dict[str, float] = {}
    task = asyncio.create_task(service.watch(lambda: late))
    await asyncio.sleep(0.1)
    assert systemd.heard() == ["WATCHDOG=1"]
    late["bus tcp://x"] = 99.0
    await asyncio.sleep(1.1)
    assert systemd.heard() == []
    late.clear()
    await asyncio.sleep(0.6)
    assert systemd.heard()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    systemd.close()


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.notify("READY=1")


async def test_sigterm_stops_and_a_bad_reload_changes_nothing() -> None:
    async def reload() -> None:
        raise ConfigError("meterd.yaml:3:1: error[C020]: unknown key")

    told: list[Exception] = []
    signals = service.Signals(reload, told.append)
    signals.serve_reloads()
    os.kill(os.getpid(), signal.SIGHUP)
    while not told:
        await asyncio.sleep(0.01)
    assert "meterd.yaml:3:1" in str(told[0])
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(signals.stopped(), 60)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)


@pytest.mark.parametrize("ignored", [False, True], ids=["terminal", "nohup"])
async def test_without_a_reload_a_hang_up_stops_unless_nohup_was_asked_for(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    loop, later = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, later.set)
    try:
        signals = service.Signals()
        stopped = asyncio.create_task(signals.stopped())
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(later.wait(), 60)
        await asyncio.sleep(0)
        assert stopped.done() is not ignored
        stopped.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, before)


@contextmanager
def handlers_gone() -> Iterator[None]:
    """Signals mean to the next test what they meant before."""
    try:
        yield
    finally:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def turns(count: int = 5) -> None:
    """Signals are handled in the loop's next rounds."""
    for _ in range(count):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "sent",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT),
        (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM),
    ],
)
async def test_however_often_it_is_asked_a_stop_is_orderly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sent: Sequence[int]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    async def reload() -> None: ...

    with handlers_gone():
        signals = service.Signals(reload)
        for number in sent:
            os.kill(os.getpid(), number)
            await turns()
        await asyncio.wait_for(signals.stopped(), 60)
        assert ended == []
        assert caplog.text.count("stopping already") == 1


@virtual
async def test_only_a_third_signal_well_after_the_first_ends_the_process_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", lambda *_: None, raising=False)
    signals = service.Signals()
    signals._asked_to_stop()
    await asyncio.sleep(service.IMPATIENCE_S + 1)
    signals._asked_to_stop()
    assert ended == []
    signals._asked_to_stop()
    assert ended == [1]


async def test_what_is_asked_for_during_a_reload_is_done_once_after_it() -> None:
    begun, go_on, count = asyncio.Event(), asyncio.Event(), 0

    async def reload() -> None:
        nonlocal count
        count += 1
        begun.set()
        await go_on.wait()

    with handlers_gone():
        signals = service.Signals(reload)
        # During the start: it waits for the end of that.
        os.kill(os.getpid(), signal.SIGHUP)
        await turns()
        assert count == 0
        signals.serve_reloads()
        await asyncio.wait_for(begun.wait(), 60)
        begun.clear()
        for _ in range(8):
            os.kill(os.getpid(), signal.SIGHUP)
            await turns()
        assert count == 1
        go_on.set()
        await asyncio.wait_for(begun.wait(), 60)
        await turns()
        assert count == 2
        signals.stop()
        await signals.stopped()


async def test_a_stop_during_a_reload_calls_it_off_and_waits_for_its_end() -> None:
    begun, notes = asyncio.Event(), []

    async def reload() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            notes.append("put away")

    with handlers_gone():
        signals = service.Signals(reload)
        signals.serve_reloads()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(begun.wait(), 60)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(signals.stopped(), 60)
        assert notes == ["put away"]


async def test_a_bug_in_a_reload_is_told_like_any_other_reason() -> None:
    told: list[Exception] = []

    async def reload() -> None:
        raise RuntimeError("oops")

    with handlers_gone():
        signals = service.Signals(reload, told.append)
        signals.serve_reloads()
        os.kill(os.getpid(), signal.SIGHUP)
        while not told:
            await turns()
        assert "RuntimeError: oops" in str(told[0])
        signals.stop()
        await signals.stopped()
