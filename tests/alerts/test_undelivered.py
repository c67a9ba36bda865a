"""Notices that were not delivered go on after a reload and after a restart."""

import json

import pytest

from meterd.alerts.hooks import Webhook
from meterd.daemon.saved_alerts import SavedAlerts
from tests.alerts.hooks.test_webhook import QUICK, Receiver, served
from tests.alerts.polls import FakeClock, poll
from tests.alerts.test_engine import RULE, Recorder, engine
from tests.alerts.test_silences import Desk
from tests.ports import free_port


def test_what_was_not_delivered_is_told_after_a_restart() -> None:
    before = Desk()
    before.see(254.0)
    before.ops.waiting = before.ops.told
    after = before.restarted()
    assert after.ops.told == before.ops.told
    after.see(240.0)
    assert after.ops.said() == [("high", "firing"), ("high", "resolved")]


def test_what_was_delivered_is_not() -> None:
    before = Desk()
    before.see(254.0)
    assert before.restarted().ops.told == []


def test_what_waits_for_a_hook_that_is_gone_is_left() -> None:
    before = engine(RULE, ops=Recorder())
    saved = json.loads(json.dumps(before.snapshot()))
    saved["owed"] = {"night": [{"alert": {"state": "firing"}}]}
    with pytest.raises((KeyError, TypeError)):
        engine(RULE, ops=Recorder()).restore(saved)
    del saved["owed"]
    engine(RULE, ops=Recorder()).restore(saved)


def test_a_reload_hands_over_what_waits() -> None:
    old, new = Recorder(), Recorder()
    alerts = engine(RULE, ops=old)
    alerts.take(poll(254.0))
    old.waiting = list(old.told)
    alerts.replace([RULE], {"ops": new})
    assert new.said() == [("high", "firing")]
    assert old.waiting == []
    alerts.replace([RULE], {"ops": new})
    assert new.said() == [("high", "firing")]


class Memo:
    def __init__(self) -> None:
        self.bodies: list[str] = []

    def remember(self, name: str, body: str) -> None:
        self.bodies.append(body)

    def recall(self, name: str) -> str | None:
        return self.bodies[-1]


def test_a_delivery_is_noted_so_that_no_restart_repeats_it() -> None:
    ops, clock, memo = Recorder(), FakeClock(), Memo()
    alerts = engine(RULE, clock=clock, ops=ops)
    memory = SavedAlerts(alerts, clock)
    alerts.take(poll(254.0))
    ops.waiting = list(ops.told)
    memory.look(memo)
    ops.forget()
    for _ in range(3):
        memory.look(memo)
    assert [bool(json.loads(body)["owed"]) for body in memo.bodies] == [True, False]


async def test_a_webhook_that_was_down_is_told_after_the_restart() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    first = Webhook("ops", url, backoff=QUICK)
    await first.start()
    alerts = engine(RULE, ops=first)
    alerts.take(poll(254.0))
    await first.close(0)
    saved = json.loads(json.dumps(alerts.snapshot()))
    second = Webhook("ops", url, backoff=QUICK)
    await second.start()
    engine(RULE, ops=second).restore(saved)
    async with served(Receiver(), port) as receiver:
        await receiver.count(1)
    await second.close(0)
    assert receiver.bodies[0]["text"] == "mains is too high"
    assert receiver.bodies[0]["labels"] == {"building": "A"}
    assert second.undelivered() == ()
