"""One poll of one device, and what becomes of what was noticed."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from meterd.errors import LinkCode, LinkError
from meterd.model.event import Event, EventKind, Notice
from meterd.model.sample import Reading
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.normalise import Normaliser
from meterd.testing import FakeClock


class Noticing:
    """A driver that notices something at each read, and fails if told to."""

    Options: ClassVar[type[Any]] = dict

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.fails = False

    async def read(self) -> Sequence[Reading]:
        self.notices.append(Notice(EventKind.ROWS_LEFT_OUT, "rows left out", {"rows": 2}))
        if self.fails:
            raise LinkError("no answer", code=LinkCode.TIMEOUT)
        return [Reading("no.such", 1.0, "V"), Reading("voltage.l1", 230.0, "V")]


@pytest.fixture
def driver() -> Noticing:
    return Noticing()


async def test_what_a_driver_and_the_normaliser_noticed_are_events_of_the_device(
    driver: Noticing,
) -> None:
    events: list[Event] = []
    clock = FakeClock()
    device = PollTarget("a", driver, 1.0, Normaliser("a"), noticed=events.append)
    poll = await poll_once(device, (), clock)
    assert [event.kind for event in events] == ["rows_left_out", "driver_mistake"]
    assert {(event.device, event.time) for event in events} == {("a", poll.time)}
    assert events[0].data == {"rows": 2}
    assert events[1].quantity == "no.such"
    await poll_once(device, (), clock)
    assert [event.kind for event in events[2:]] == ["rows_left_out"]


async def test_a_failed_poll_tells_what_was_noticed_too(driver: Noticing) -> None:
    driver.fails = True
    events: list[Event] = []
    device = PollTarget("a", driver, 1.0, Normaliser("a"), noticed=events.append)
    assert not (await poll_once(device, (), FakeClock())).up
    assert [event.kind for event in events] == ["rows_left_out"]


async def test_where_nobody_listens_an_event_is_a_line_of_the_log(
    driver: Noticing, caplog: pytest.LogCaptureFixture
) -> None:
    await poll_once(PollTarget("a", driver, 1.0, Normaliser("a")), (), FakeClock())
    assert caplog.messages[0] == "a: rows left out"
    assert caplog.messages[1].startswith("a: no.such is left out")


class Wordless:
    """A driver that returns, and says nothing."""

    Options: ClassVar[type[Any]] = dict

    async def read(self) -> Sequence[Reading]:
        return []


async def test_a_driver_that_gives_no_reading_does_not_make_its_device_up() -> None:
    poll = await poll_once(PollTarget("a", Wordless(), 1.0, Normaliser("a")), (), FakeClock())
    assert poll.value("device.up") == 0
    assert poll.fault is not None
    assert poll.fault.code == "nothing_said"
