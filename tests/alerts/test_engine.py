"""The sink: who is told what, and that nobody waits for it."""

import logging

import pytest

from meterd.alerts.engine import Alerts
from meterd.alerts.hooks import Hook, Notification, Webhook
from meterd.alerts.rule import Rule
from meterd.errors import ConfigError
from meterd.model.alert import AlertState
from tests.alerts.polls import FakeClock, poll

RULE = Rule("high", "voltage.l1", above=253, notify=("ops",), text="mains is too high")
SLOW = Rule("slow", "voltage.l1", above=253, hold=3, notify=("ops", "night"))


class Recorder:
    """A hook that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Notification] = []
        self.waiting: list[Notification] = []

    async def start(self) -> None:
        pass

    def post(self, notice: Notification) -> None:
        self.told.append(notice)

    def undelivered(self) -> list[Notification]:
        return self.waiting

    def forget(self) -> None:
        self.waiting = []

    async def close(self, grace: float) -> None:
        pass

    def said(self) -> list[tuple[str, str]]:
        return [(notice.alert.rule, notice.alert.state.value) for notice in self.told]


def engine(*rules: Rule, clock: FakeClock | None = None, **hooks: Hook) -> Alerts:
    labels = {"main": {"building": "A"}}
    return Alerts(rules, hooks, clock=clock or FakeClock(), site="Home", labels=labels)


def test_firing_and_resolved_are_told_with_site_text_and_labels() -> None:
    ops = Recorder()
    alerts = engine(RULE, ops=ops)
    alerts.take(poll(254.0))
    alerts.take(poll(250.0))
    assert ops.said() == [("high", "firing"), ("high", "resolved")]
    notice = ops.told[0]
    assert (notice.site, notice.text, notice.labels) == (
        "Home",
        "mains is too high",
        {"building": "A"},
    )
    assert notice.key == f"{notice.alert.id}.firing"


def test_pending_is_not_told_and_time_makes_it_fire() -> None:
    ops, night, clock = Recorder(), Recorder(), FakeClock()
    alerts = engine(SLOW, clock=clock, ops=ops, night=night)
    alerts.take(poll(254.0))
    clock.move(2)
    alerts.tick()
    assert ops.said() == []
    assert [alert.state for alert in alerts.active()] == [AlertState.PENDING]
    clock.move(1)
    alerts.tick()
    assert ops.said() == night.said() == [("slow", "firing")]


def test_a_rule_without_a_text_says_what_it_sees() -> None:
    ops = Recorder()
    alerts = engine(
        Rule("a", "voltage.l1", above=253, notify=("ops",)),
        Rule("b", "device.up", equals=1, notify=("ops",)),
        ops=ops,
    )
    alerts.take(poll(254.5))
    assert [notice.text for notice in ops.told] == ["voltage.l1 is 254.5 V", "device.up is 1"]


def test_only_the_hooks_of_the_rule_are_told() -> None:
    ops, night = Recorder(), Recorder()
    engine(RULE, ops=ops, night=night).take(poll(254.0))
    assert (len(ops.told), len(night.told)) == (1, 0)


def test_one_line_is_logged_for_firing_and_one_for_resolved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alerts = engine(RULE, ops=Recorder())
    with caplog.at_level(logging.INFO):
        for value in (254.0, 255.0, None, 250.0, 249.0):
            alerts.take(poll(value))
    assert [record.getMessage() for record in caplog.records] == [
        "alert high firing on main: mains is too high",
        "alert high resolved on main: mains is too high",
    ]


def test_a_hook_that_is_not_there_is_refused_before_anything_changes() -> None:
    with pytest.raises(ConfigError, match="notifies ops, but the hooks are night"):
        engine(RULE, night=Recorder())
    ops = Recorder()
    alerts = engine(RULE, ops=ops)
    with pytest.raises(ConfigError):
        alerts.replace([SLOW], {"ops": ops})
    alerts.take(poll(254.0))
    assert ops.said() == [("high", "firing")]


def test_after_a_reload_the_end_of_a_lost_alert_goes_to_the_new_hook() -> None:
    old, new = Recorder(), Recorder()
    alerts = engine(RULE, ops=old)
    alerts.take(poll(254.0))
    alerts.replace([], {"ops": new}, site="Away")
    assert old.said() == [("high", "firing")]
    assert new.said() == [("high", "resolved")]
    assert new.told[0].site == "Away"
    assert new.told[0].alert.id == old.told[0].alert.id


def test_after_a_reload_a_device_that_is_gone_has_no_alerts_left() -> None:
    ops = Recorder()
    alerts = engine(RULE, ops=ops)
    alerts.take(poll(254.0))
    alerts.replace([RULE], {"ops": ops}, devices=["another"])
    assert ops.said() == [("high", "firing"), ("high", "resolved")]


async def test_the_loop_looks_every_second() -> None:
    clock = FakeClock()
    ops = Recorder()
    started = clock.now

    class Enough(Exception):  # noqa: N818 (it is an end, not an error)
        pass

    async def sleep(seconds: float) -> None:
        clock.move(seconds)
        if clock.now - started > 5:
            raise Enough

    clock.sleep = sleep  # type: ignore[method-assign]
    alerts = engine(SLOW, clock=clock, ops=ops, night=Recorder())
    alerts.take(poll(254.0))
    with pytest.raises(Enough):
        await alerts.run()
    assert ops.said() == [("slow", "firing")]
    assert ops.told[0].alert.updated - ops.told[0].alert.since == 3000


def test_polls_are_taken_at_once_while_a_hook_delivers_nothing() -> None:
    hook = Webhook("ops", "http://127.0.0.1:9/", limit=10)
    alerts = engine(RULE, ops=hook)
    for number in range(1000):
        alerts.take(poll(254.0 if number % 2 else 250.0))
    assert (hook.waiting, hook.dropped) == (10, 989)
