"""The daemon's events: logged, counted, and the newest kept."""

import pytest

from meterd.daemon.events import EventLog
from meterd.model.event import Event, EventKind
from meterd.testing import FakeClock


def test_events_are_logged_counted_and_kept_newest_first(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    events = EventLog(clock)
    down = Event(EventKind.DEVICE_DOWN, "a", 1000, "down: no answer [timeout]")
    reset = Event(EventKind.RESET, "a", 2000, "began anew", {"quantity": "active_energy.import"})
    events.add(down)
    events.add(reset)
    events.note(EventKind.RELOADED, "reloaded: 2 devices")
    assert caplog.messages == [
        "a is down: no answer [timeout]",
        "a: active_energy.import: began anew",
        "reloaded: 2 devices",
    ]
    assert [event.kind for event in events.newest()] == ["reloaded", "reset", "device_down"]
    assert events.newest()[0].time == clock.now_ms()
    assert events.counts == {("a", "device_down"): 1, ("a", "reset"): 1, ("", "reloaded"): 1}


def test_of_many_events_the_newest_stay() -> None:
    events = EventLog(FakeClock())
    for number in range(1200):
        events.add(Event(EventKind.GLITCH, "a", number, "jumped"))
    assert [event.time for event in events.newest()] == list(range(1199, 699, -1))
    assert events.counts["a", "glitch"] == 1200
