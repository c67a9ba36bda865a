"""Alerts and silences stay when the daemon is stopped and started again."""

from pathlib import Path

import pytest

from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.alerts.silences import Silence
from meterd.config.settings import Settings, StoreSettings
from meterd.daemon.saved_alerts import SavedAlerts, silenced
from meterd.daemon.site import Site
from meterd.model.clock import SystemClock
from meterd.model.sample import Layout, Poll
from meterd.testing import FakeClock

POWER = Layout.of([("active_power", "W")])


class Memos:
    def __init__(self, body: str | None = None) -> None:
        self.bodies = {} if body is None else {"alerts": body}
        self.writes = self.written = 0

    def remember(self, name: str, body: str) -> None:
        self.bodies[name] = body
        self.writes += 1
        self.written += len(body)

    def recall(self, name: str) -> str | None:
        return self.bodies.get(name)


async def test_a_silence_outlives_the_daemon(tmp_path: Path) -> None:
    settings = Settings(store=StoreSettings(url=f"sqlite:///{tmp_path / 'm.db'}"))
    clock = SystemClock()
    first = Site(clock)
    await first.apply(settings)
    end = clock.now_ms() + 3_600_000
    silence = first.alerting.silence(Silence("", clock.now_ms(), end, device="main"))
    await first.close()
    second = Site(clock)
    await second.apply(settings)
    assert second.alerting.silences() == [silence]
    await second.close()


async def test_the_rules_of_silences_can_be_read_from_a_store_that_is_closed(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    clock = SystemClock()
    assert silenced(url, clock.now_ms()) == []
    site = Site(clock)
    await site.apply(Settings(store=StoreSettings(url=url)))
    now = clock.now_ms()
    for rule, end in (("gone", now + 3_600_000), ("", now + 3_600_000), ("over", now + 1)):
        site.alerting.silence(Silence("", now, end, rule=rule, device="main"))
    await site.close()
    assert silenced(url, now + 2) == ["gone"]
    (tmp_path / "m.db").write_bytes(b"no database")
    assert silenced(url, now) == []


def test_what_did_not_change_is_not_written_again() -> None:
    clock, memos = FakeClock(), Memos()
    alerts = Alerts([], {}, clock=clock)
    memory = SavedAlerts(alerts, clock)
    memory.look(memos)
    assert memos.writes == 0
    alerts.silence(Silence("", 0, clock.now_ms() + 1000))
    for _ in range(3):
        memory.look(memos)
    assert memos.writes == 1


def test_an_alert_that_flaps_costs_flash_what_changed() -> None:
    """A thousand that were resolved are not written again with each change, and outlive a stop."""
    clock, memos = FakeClock(), Memos()
    rules = [Rule(name="low", quantity="active_power", below=0.0)]
    alerts = Alerts(rules, {}, clock=clock)
    memory = SavedAlerts(alerts, clock)
    for second in range(800):
        alerts.take(Poll("m", second * 1000, POWER, (-1.0 if second % 2 else 1.0,)))
        memory.look(memos)
        clock.pass_by(1)
    assert memos.written < 800 * 700
    memory.save(memos)
    later = Alerts(rules, {}, clock=clock)
    SavedAlerts(later, clock).restore(memos)
    assert len(later.active()) == len(alerts.active()) > 300


def test_a_long_note_rests_after_it_was_written() -> None:
    clock, memos = FakeClock(), Memos()
    alerts = Alerts([], {}, clock=clock)
    memory = SavedAlerts(alerts, clock)
    for number in range(400):
        alerts.silence(Silence("", 0, clock.now_ms() + 10**7, device=f"device-{number}" * 20))
    for number in range(600):
        alerts.silence(Silence("", 0, clock.now_ms() + 10**7, device=f"device {number}"))
        memory.look(memos)
        clock.pass_by(1)
    assert memos.written < 600 * 20_000 * 1.2
    assert memos.writes > 5


@pytest.mark.parametrize("body", ["", "{}", "[]", "null", '{"alerts": 1}', "\x00"])
def test_a_note_that_is_damaged_is_logged_and_left(
    body: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    memory = SavedAlerts(Alerts([], {}, clock=clock), clock)
    memory.restore(Memos(body))
    assert "begin anew" in caplog.text


async def test_who_subscribes_gets_every_poll_until_they_leave(tmp_path: Path) -> None:
    taken: list[Poll] = []

    class Follower:
        def take(self, poll: Poll) -> None:
            taken.append(poll)

    site = Site(SystemClock())
    await site.apply(Settings(store=StoreSettings(url=f"sqlite:///{tmp_path / 'm.db'}")))
    leave = site.subscribe(Follower())
    sinks = list(site._sinks)
    # Another store replaces the sinks, and nobody is forgotten.
    await site.apply(Settings(store=StoreSettings(url=f"sqlite:///{tmp_path / 'n.db'}")))
    assert sinks[-1] in site._sinks
    leave()
    leave()
    assert sinks[-1] not in site._sinks
    await site.close()
