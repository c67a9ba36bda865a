"""Acks, silences, and what of all that outlives a restart."""

import json

import pytest

from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.alerts.silences import MAX_SILENCES, Silence
from tests.alerts.polls import START_MS, FakeClock, poll
from tests.alerts.test_engine import Recorder

HIGH = Rule("high", "voltage.l1", above=253, notify=("ops",))
SLOW = Rule("slow", "voltage.l1", above=253, hold=60, notify=("ops",))
HOUR = 3_600_000


class Desk:
    """An engine with one hook and a clock."""

    def __init__(self, *rules: Rule) -> None:
        self.clock, self.ops, self.rules = FakeClock(), Recorder(), rules or (HIGH,)
        self.alerts = Alerts(self.rules, {"ops": self.ops}, clock=self.clock)

    def silence(self, seconds: float = 600, **what: str) -> Silence:
        end = self.clock.now_ms() + round(seconds * 1000)
        return self.alerts.silence(Silence("", self.clock.now_ms(), end, **what))

    def see(self, value: float) -> None:
        at = (self.clock.now_ms() - START_MS) / 1000
        self.alerts.take(poll(value, at))

    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.alerts.tick()

    def restarted(self, away: float = 5.0) -> "Desk":
        """Another process, some seconds later, whose monotonic clock began anew."""
        executor = Desk(*self.rules)
        executor.clock.utc, executor.clock.now = self.clock.utc + round(away * 1000), 3.0
        alerts = self.alerts
        saved, past = json.loads(json.dumps([alerts.snapshot(), alerts.snapshot_resolved()]))
        executor.alerts.restore(saved, past)
        return executor


def test_a_silenced_alert_is_told_when_the_silence_ends_and_it_still_fires() -> None:
    executor = Desk()
    executor.silence(600, device="main")
    executor.see(254.0)
    executor.wait(599)
    assert executor.ops.said() == []
    executor.wait(2)
    assert executor.ops.said() == [("high", "firing")]
    executor.see(240.0)
    assert executor.ops.said() == [("high", "firing"), ("high", "resolved")]


def test_what_began_and_ended_in_silence_is_never_told() -> None:
    executor = Desk()
    executor.silence(600)
    executor.see(254.0)
    executor.see(240.0)
    executor.wait(700)
    assert executor.ops.said() == []


def test_the_end_of_what_was_told_before_the_silence_is_told() -> None:
    executor = Desk()
    executor.see(254.0)
    executor.silence(600)
    executor.see(240.0)
    assert executor.ops.said() == [("high", "firing"), ("high", "resolved")]


def test_what_somebody_knows_is_not_told_at_the_end_of_a_silence() -> None:
    executor = Desk()
    executor.silence(600)
    executor.see(254.0)
    (alert,) = executor.alerts.active()
    executor.alerts.ack(alert.id, "anna", "seen")
    executor.wait(700)
    assert executor.ops.said() == []
    with pytest.raises(LookupError):
        executor.alerts.ack("none", "anna", "")


@pytest.mark.parametrize(
    ("what", "covers"),
    [
        ({}, True),
        ({"device": "main"}, True),
        ({"device": "solar"}, False),
        ({"rule": "high", "quantity": "voltage.l1"}, True),
        ({"rule": "high", "quantity": "voltage.l2"}, False),
        ({"rule": "low"}, False),
    ],
)
def test_a_silence_covers_what_all_its_words_fit(what: dict[str, str], covers: bool) -> None:
    executor = Desk()
    silence = executor.silence(600, **what)
    executor.see(254.0)
    (alert,) = executor.alerts.active()
    assert executor.alerts.silenced_by(alert) == ([silence.id] if covers else [])
    assert (executor.ops.said() == []) is covers


def test_a_silence_can_be_ended_early_and_is_forgotten_when_over() -> None:
    executor = Desk()
    silence = executor.silence(600)
    executor.see(254.0)
    assert executor.alerts.unsilence(silence.id)
    assert not executor.alerts.unsilence(silence.id)
    executor.wait(1)
    assert executor.ops.said() == [("high", "firing")]
    executor.silence(10)
    executor.wait(11)
    assert executor.alerts.silences() == []


def test_there_is_an_end_to_silences() -> None:
    executor = Desk()
    for _ in range(MAX_SILENCES):
        executor.silence()
    with pytest.raises(ValueError, match="already"):
        executor.silence()


def test_a_restart_tells_nothing_twice_and_the_end_once() -> None:
    before = Desk()
    before.see(254.0)
    (alert,) = before.alerts.active()
    before.alerts.ack(alert.id, "anna", "seen")
    after = before.restarted()
    after.see(254.0)
    assert after.ops.said() == []
    assert after.alerts.active()[0].id == alert.id
    ack = after.alerts.ack_of(alert.id)
    assert ack is not None
    assert (ack.by, ack.comment) == ("anna", "seen")
    after.see(240.0)
    assert after.ops.said() == [("high", "resolved")]
    assert after.restarted().alerts.active()[0].state == "resolved"


def test_a_for_goes_on_over_a_restart_and_the_time_between_does_not_count() -> None:
    before = Desk(SLOW)
    before.see(254.0)
    before.wait(40)
    after = before.restarted(away=300)
    after.wait(15)
    after.see(254.0)
    assert after.ops.said() == []
    after.wait(6)
    assert after.ops.said() == [("slow", "firing")]


def test_silence_holds_over_a_restart() -> None:
    before = Desk()
    before.silence(600)
    before.see(254.0)
    after = before.restarted()
    after.see(254.0)
    after.wait(500)
    assert after.ops.said() == []
    after.wait(100)
    assert after.ops.said() == [("high", "firing")]


def test_alerts_of_a_rule_that_is_another_now_are_left_behind() -> None:
    before = Desk()
    before.see(254.0)
    after = Desk(Rule("high", "voltage.l1", above=260, notify=("ops",)))
    after.alerts.restore(before.alerts.snapshot())
    assert after.alerts.active() == []


@pytest.mark.parametrize("saved", [{}, {"alerts": [{}], "acks": [], "silences": [], "untold": []}])
def test_what_is_no_state_changes_nothing(saved: dict[str, object]) -> None:
    executor = Desk()
    with pytest.raises((KeyError, TypeError, ValueError)):
        executor.alerts.restore(saved)
    assert executor.alerts.active() == []


def test_many_silences_cost_each_alert_only_those_of_its_device() -> None:
    executor = Desk()
    for number in range(200):
        executor.silence(600 + number, device=f"meter-{number}")
    everywhere = executor.silence(5)
    here = executor.silence(900, device="main")
    executor.see(254.0)
    (alert,) = executor.alerts.active()
    assert set(executor.alerts.silenced_by(alert)) == {here.id, everywhere.id}
    assert len(executor.alerts.silences()) == 202
    assert executor.alerts.silences()[0] == everywhere
    assert executor.alerts.unsilence(here.id)
    executor.wait(5)
    assert executor.ops.said() == [("high", "firing")]
