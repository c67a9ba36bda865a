"""A start while a tool has the store: it waits, and only another daemon ends it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from meterd.config.settings import Settings, StoreSettings
from meterd.daemon import store_wait
from meterd.daemon.events import EventLog
from meterd.daemon.service import Signals
from meterd.daemon.site import Site
from meterd.daemon.store_wait import apply_when_free
from meterd.errors import StoreError
from meterd.model.clock import SystemClock
from meterd.model.event import EventKind
from meterd.store.db.lockfile import Claim, LockFile


class Turns:
    """A clock that does something at each sleep instead of waiting."""

    def __init__(self, do: Callable[[int], None]) -> None:
        self._do = do
        self.turns = 0

    def monotonic(self) -> float:
        return 100.0 + self.turns

    def now_ms(self) -> int:
        return SystemClock().now_ms() + 700_000 * self.turns

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 5
        self.turns += 1
        self._do(self.turns)


def settings(folder: Path) -> Settings:
    return Settings(store=StoreSettings(url=f"sqlite:///{folder}/meterd.db"))


async def test_it_waits_until_the_tool_has_ended_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(store_wait, "notify", told.append)
    lock = LockFile(tmp_path / "meterd.db", Claim("meterd import old.csv", 60))

    def turn(number: int) -> None:
        if number == 5:
            lock.release()

    clock, site = Turns(turn), Site(SystemClock())
    wanted = settings(tmp_path)
    events = EventLog(clock)
    await apply_when_free(lambda: site.apply(wanted), wanted, events, clock)
    try:
        assert clock.turns == 5
        assert [event.kind for event in reversed(events.newest())] == [
            EventKind.STORE_HELD,
            EventKind.STORE_FREE,
        ]
        text = events.newest()[-1].text
        assert text.startswith("the start waits: ")
        assert "is held by meterd import old.csv (pid " in text
        assert "for 60 s at most" in text
        # Longer than it said: told, and not with each look.
        late = [one for one in caplog.messages if "longer than it said" in one]
        assert len(late) == 1, caplog.messages
        # systemd must not take the waiting for a start that hangs.
        assert sum("EXTEND_TIMEOUT_USEC=" in one for one in told) == 5
        assert site.store_status().writable
    finally:
        await site.close()


async def test_another_daemon_ends_it_at_once(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "meterd.db")
    clock, site = Turns(lambda _: None), Site(SystemClock())
    wanted = settings(tmp_path)
    with pytest.raises(StoreError) as refused:
        await apply_when_free(lambda: site.apply(wanted), wanted, EventLog(clock), clock)
    assert refused.value.code == "already_running"
    assert clock.turns == 0
    lock.release()


async def test_a_daemon_that_was_quicker_after_the_tool_ends_it(tmp_path: Path) -> None:
    locks = [LockFile(tmp_path / "meterd.db", Claim("meterd import old.csv", 60))]

    def turn(number: int) -> None:
        if number == 2:
            locks.pop().release()
            locks.append(LockFile(tmp_path / "meterd.db"))

    clock, site = Turns(turn), Site(SystemClock())
    wanted = settings(tmp_path)
    with pytest.raises(StoreError) as refused:
        await apply_when_free(lambda: site.apply(wanted), wanted, EventLog(clock), clock)
    assert refused.value.code == "already_running"
    locks.pop().release()


async def test_who_waits_can_be_told_to_stop(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "meterd.db", Claim("meterd import old.csv", 60))
    signals = Signals()
    clock, site = Turns(lambda _: signals.stop()), Site(SystemClock())
    wanted = settings(tmp_path)
    done = await asyncio.wait_for(
        signals.unless_stopped(
            apply_when_free(lambda: site.apply(wanted), wanted, EventLog(clock), clock)
        ),
        30,
    )
    assert done is False
    await site.close()
    lock.release()
