"""T3: what is polled before the clock is set gets its time once it is; nothing is dated 1970."""

import asyncio
from pathlib import Path

import pytest

from meterd.daemon.timeline import Timeline
from meterd.model.clock import EARLIEST_MS
from meterd.model.sample import Poll, Quality, QualityFlag
from tests.store.rigs import Hands, poll, raw, samples, store

RIGHT = 1_790_000_000_000
GOOD, INVALID = QualityFlag(Quality.GOOD, ""), Quality.INVALID


@pytest.fixture(autouse=True)
def awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long this machine slept is asked of two clocks one after the other."""
    monkeypatch.setattr("meterd.daemon.timeline.suspended_s", lambda: 0.0)


class Kept:
    def __init__(self) -> None:
        self.polls: list[Poll] = []

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)


def rig(hands: Hands, most: int = 1000) -> tuple[Timeline, Kept]:
    timeline, kept = Timeline(hands, most=most), Kept()
    timeline.sink = kept
    return timeline, kept


def polled(timeline: Timeline, hands: Hands, count: int, *, step: int = 0) -> list[int]:
    """Polls each ten seconds; the clock steps by so many ms before the last. Their elapsed ms."""
    moments = []
    for number in range(count):
        hands.now += 10_000 + (step if number == count - 1 else 0)
        hands.elapsed += 10
        moments.append(round(hands.elapsed * 1000))
        timeline.take(poll(hands.now, float(number)))
    return moments


def test_they_wait_and_keep_their_rhythm() -> None:
    hands = Hands(5_000)
    timeline, kept = rig(hands)
    moments = polled(timeline, hands, 5)
    # First a fake clock's time of last year, or so it may be: still not right.
    moments += polled(timeline, hands, 2, step=946_684_800_000)
    assert kept.polls == []
    moments += polled(timeline, hands, 3, step=RIGHT - 946_684_800_000)
    moments += polled(timeline, hands, 2)
    offset = hands.now - round(hands.elapsed * 1000)
    assert [one.time for one in kept.polls] == [moment + offset for moment in moments]
    assert [one.values[0] for one in kept.polls] == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 0, 1]


def test_a_poll_that_was_under_way_when_the_clock_was_set_counts_from_its_start() -> None:
    hands = Hands(RIGHT)
    timeline, kept = rig(hands)
    timeline.take(Poll("main", 7_000, poll(0, 1.0).layout, (1.0,), took=2.5))
    assert [one.time for one in kept.polls] == [RIGHT - 2_500]


def test_a_right_clock_holds_nothing_back() -> None:
    hands = Hands(EARLIEST_MS)
    timeline, kept = rig(hands)
    first = poll(EARLIEST_MS, 1.0)
    timeline.take(first)
    assert kept.polls == [first]


def test_the_oldest_go_where_memory_would_not_end(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands(5_000)
    timeline, kept = rig(hands, most=3)
    polled(timeline, hands, 6, step=RIGHT)
    assert [one.values[0] for one in kept.polls] == [3, 4, 5]
    assert timeline.dropped == 3
    assert "3 older ones are lost" in caplog.text


def test_what_never_gets_a_time_is_told(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands(5_000)
    timeline, kept = rig(hands)
    polled(timeline, hands, 4)
    timeline.close()
    assert kept.polls == []
    assert "4 polls are lost" in caplog.text


async def test_no_row_is_older_than_the_program_and_none_is_deleted(tmp_path: Path) -> None:
    path, hands = tmp_path / "meterd.db", Hands(5_000)
    timeline = Timeline(hands)
    async with store(path, clock=hands, keep=7 * 86_400.0) as (writer, reader):
        timeline.sink = writer
        polled(timeline, hands, 400)
        await writer.settle()
        polled(timeline, hands, 10, step=RIGHT)
        await writer.settle()
        assert len(await raw(reader)) == 410
    found = [time for time, _, _ in samples(path)]
    assert len(found) == 410
    assert min(found) > RIGHT


MANY = 12_000


class Turns:
    """How many polls come at the most between two turns of the loop."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.most = 0

    async def until(self, count: int) -> None:
        before = len(self.kept.polls)
        while before < count:
            await asyncio.sleep(0)
            found = len(self.kept.polls)
            assert found > before
            self.most, before = max(self.most, found - before), found


async def test_many_that_waited_leave_the_loop_its_turns() -> None:
    """What is polled meanwhile is behind them; the loop dates some 200 of them at a time."""
    hands = Hands(5_000)
    timeline, kept = rig(hands, most=MANY)
    moments = polled(timeline, hands, MANY - 1)
    moments += polled(timeline, hands, 1, step=RIGHT)
    turns = Turns(kept)
    for _ in range(50):
        await asyncio.sleep(0)
        moments += polled(timeline, hands, 1)
    await turns.until(len(moments))
    assert turns.most <= 200
    offset = hands.now - round(hands.elapsed * 1000)
    assert [one.time for one in kept.polls] == [moment + offset for moment in moments]


async def test_many_that_are_dated_again_leave_the_loop_its_turns() -> None:
    """Each of them comes twice more: invalid at its wrong time, and at the right one."""
    hands = Hands(RIGHT)
    timeline, kept = rig(hands)
    polled(timeline, hands, MANY // 100)  # each ten seconds, within two hours
    for _ in range(MANY // 1000):
        for number in range(1000 - 10):
            timeline.take(poll(hands.now + 1 + number, float(number), device=f"d{number}"))
        hands.now, hands.elapsed = hands.now + 10_000, hands.elapsed + 10
    before = len(kept.polls)
    polled(timeline, hands, 1, step=-3_600_000)
    turns = Turns(kept)
    await turns.until(3 * before + 1)
    assert turns.most <= 200
    last = {(one.device, one.time): one for one in kept.polls}
    valid = [one for one in last.values() if one.doubts.get(0, GOOD).quality is not INVALID]
    assert len(valid) == before + 1
    assert max(one.time for one in valid) == hands.now


async def test_what_is_under_way_at_the_end_is_kept() -> None:
    hands = Hands(5_000)
    timeline, kept = rig(hands, most=MANY)
    polled(timeline, hands, MANY - 1)
    polled(timeline, hands, 1, step=RIGHT)
    assert len(kept.polls) < MANY
    timeline.close()
    assert len(kept.polls) == MANY
    await asyncio.sleep(0)
    assert len(kept.polls) == MANY
