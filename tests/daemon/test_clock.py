"""What the wall clock does is no energy: polls under a clock that steps, up to bills and PromQL."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.api.promapi.store_source import StoreSource
from meterd.daemon.timeline import SETTLED, Timeline
from meterd.model.event import EventKind
from meterd.model.quantity import GUARDED
from meterd.model.sample import Layout, Poll, Quality, QualityFlag, Reading
from meterd.poll.counters import Counters
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.normalise import Normaliser
from meterd.promql.engine import instant
from meterd.store.reader import Reader
from meterd.testing import FakeClock
from tests.store.rigs import store

IMPORT = "active_energy.import"
HOUR = 3_600_000
START = 1_795_860_000_000
W = 3000.0
STEP_S = 5.0


class Meter:
    """Counts 3 kW by the time that really passes."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._began = clock.now

    async def read(self) -> Sequence[Reading]:
        wh = 1e6 + W * (self._clock.now - self._began) / 3600
        return [Reading(IMPORT, round(wh, 3), "Wh"), Reading("active_power", W, "W")]


@dataclass
class Told:
    """Events of meterd itself."""

    events: list[tuple[EventKind, str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, kind: EventKind, text: str, data: Any) -> None:
        self.events.append((kind, text, dict(data)))

    @property
    def kinds(self) -> dict[str, int]:
        return dict(Counter(str(kind) for kind, _, _ in self.events))


@dataclass
class Kept:
    """A sink that keeps of each time and column the last word, as the store does."""

    polls: dict[int, Poll] = field(default_factory=dict)
    order: list[Poll] = field(default_factory=list)

    def take(self, poll: Poll) -> None:
        self.polls[poll.time] = poll
        self.order.append(poll)

    def valid(self) -> list[Poll]:
        """In time order, without those that stand at a wrong time."""
        found = [self.polls[time] for time in sorted(self.polls)]
        wrong = Quality.INVALID
        return [poll for poll in found if all(d.quality is not wrong for d in poll.doubts.values())]


class Rig:
    """A meter, polled under a clock that is `shift` seconds off the truth."""

    def __init__(self) -> None:
        self.clock = FakeClock(now=5000.0, utc_ms=START)
        self.told = Told()
        self.timeline = Timeline(self.clock, self.told)
        self.shift = 0.0
        self.polls = 0
        self.device = PollTarget(
            "main", Meter(self.clock), STEP_S, Normaliser("main"), Counters("main")
        )

    def set(self, shift: float) -> None:
        """The clock is off by so many seconds from here on."""
        self.clock.utc_ms += (shift - self.shift) * 1000
        self.shift = shift

    async def poll(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            await poll_once(self.device, (self.timeline,), self.clock)
            self.clock.pass_by(STEP_S)
            self.polls += 1


# (seconds after the start, by how many the clock is off from there on), as long as it lasts
CLOCKS: dict[str, list[tuple[float, float]]] = {
    "right": [],
    "two hours ahead at the start": [(0, 7202.3), (30, 0)],
    "a day behind at the start": [(0, -86_400), (60, 0)],
    "ahead by 40 s until it is set": [(0, 40), (1800, 0)],
    "two hours ahead for a while": [(2000, 7202.3), (2030, 0)],
    "half an hour behind for a while": [(3000, -1800), (3060, 0)],
    "back and forth": [(at * 1.0, 40 * (n % 2)) for n, at in enumerate(range(600, 2400, 60))],
    "a year ahead for ten minutes": [(3000, 31_536_000), (3600, 0)],
    "smeared by a second in an hour": [(at * 5.0, at / 720) for at in range(721)],
    "ahead, more ahead and right": [(0, 60), (60, 7200), (120, 0)],
}


async def _hours(reader: Reader, hours: int) -> tuple[list[float], int]:
    """Wh of each hour, and how many quarter hours are estimated."""
    name = "main", GUARDED + IMPORT, "Wh"
    found = await asyncio.to_thread(reader.quarters, name, START, START + hours * HOUR)
    sums = [0] * hours
    for number, one in found.items():
        sums[(number * 900_000 - START) // HOUR] += one.increase or 0
    return [one / 1000 for one in sums], sum(one.estimated for one in found.values())


_BELIEVED = ("two hours ahead for a while", "half an hour behind for a while", "back and forth")


@pytest.mark.parametrize(
    ("case", "settled"), [*((case, False) for case in CLOCKS), *((c, True) for c in _BELIEVED)]
)
async def test_energy_is_right_whatever_the_clock_does(
    case: str, settled: bool, tmp_path: Path
) -> None:
    rig = Rig()
    before = 3 if settled else 0
    hours_due = before + 2
    async with store(tmp_path / "m.db", clock=rig.clock) as (writer, reader):
        rig.timeline.sink = writer
        await rig.poll(before * 3600)
        at = 0.0
        for moment, shift in CLOCKS[case]:
            await rig.poll(moment - at)
            at = moment
            rig.set(shift)
            await writer.flush()
        await rig.poll(2 * 3600 + 600 - at)
        await writer.flush()
        for _ in range(2):
            hours, _ = await _hours(reader, hours_due)
            # The first poll is all that the first hour knows of its beginning.
            assert hours[0] == pytest.approx(W, abs=60 * W / 3600 if before == 0 else 10)
            assert sum(hours) == pytest.approx(W * hours_due, abs=60 * W / 3600)
            assert max(hours) <= W + 41 * W / 3600
            source = StoreSource(reader, {})
            for metric in ("meterd_guarded", "meterd"):
                text = f"increase({metric}_active_energy_import_watthours_total[2h])"
                end = START + hours_due * HOUR
                data = (await asyncio.to_thread(instant, source, text, end)).data
                assert isinstance(data, tuple)
                (one,) = data
                assert one.values[0] == pytest.approx(2 * W, abs=90 * W / 3600)
            rig.clock.utc_ms += 30 * HOUR
            await writer.settle()


async def test_what_was_taken_under_a_wrong_clock_gets_its_right_times() -> None:
    rig, kept = Rig(), Kept()
    rig.timeline.sink = kept
    rig.set(7202.3)
    await rig.poll(30)
    rig.set(0)
    await rig.poll(300)
    valid = kept.valid()
    assert [poll.time for poll in valid] == [START + 5000 * n for n in range(66)]
    stray = [poll for time, poll in kept.polls.items() if time > START + HOUR]
    assert len(stray) == 6
    for poll in stray:
        assert {doubt.quality for doubt in poll.doubts.values()} == {Quality.INVALID}
        assert set(poll.doubts) == set(range(len(poll.values)))
    suspect = [n for n, poll in enumerate(valid) if poll.doubts.get(0)]
    # Those six, and a minute after the step.
    assert suspect == list(range(18))
    assert all(valid[n].doubts[0].quality is Quality.SUSPECT for n in suspect)
    assert all(len(poll.values) - 1 not in poll.doubts for poll in valid)
    (event,) = rig.told.events
    assert event[0] is EventKind.CLOCK_STEPPED
    assert event[2] == {"seconds": -7202.3, "polls": 6}
    assert "set back by 2.001 h: 6 polls" in event[1]


async def test_a_clock_that_comes_back_puts_polls_where_it_had_put_them() -> None:
    """Busy machines hand polls on by some milliseconds later, so the offset is never the same."""
    rig, kept = Rig(), Kept()
    rig.timeline.sink = kept
    for number in range(12):
        rig.set((0, 40, 7200.3)[number % 3])
        for _ in range(2):
            began = rig.clock.now_ms()
            rig.clock.pass_by(0.001 * (number % 5))
            rig.timeline.take(Poll("main", began, PLAIN, (1.0, 1.0)))
            rig.clock.pass_by(5)
    # Where each of the three clocks would have had them: nothing beside.
    assert len(kept.polls) <= 3 * 24


async def test_a_believed_clock_that_goes_back_moves_no_poll_over_another() -> None:
    rig, kept = Rig(), Kept()
    rig.timeline.sink = kept
    await rig.poll(SETTLED + 600)
    rig.set(-40)
    await rig.poll(300)
    assert len(kept.valid()) == rig.polls
    totals = [poll.value(GUARDED + IMPORT) for poll in kept.valid()]
    known = [one for one in totals if one is not None]
    assert known == sorted(known)
    assert len(known) == rig.polls - 2  # the first two of all
    times = [poll.time for poll in kept.valid()]
    # Half as far apart until the clock is there, which takes twice the step.
    apart = [b - a for a, b in pairwise(times)]
    assert set(apart[-15:]) == {5000}
    assert apart.count(2500) == 16
    assert rig.told.kinds == {"clock_stepped": 1}
    assert "half as far apart, until it has caught up in 70 s" in rig.told.events[0][1]


@pytest.mark.parametrize(
    ("settled", "shift"), [(True, -40.0), (True, 7202.3), (False, -40.0), (False, 7202.3)]
)
@pytest.mark.parametrize("renamed", [0, 5, 30, 300])
async def test_a_device_that_is_renamed_around_a_step_keeps_its_order_and_its_times(
    settled: bool, shift: float, renamed: float
) -> None:
    """The same as without the new name: so many seconds after the clock was set."""

    async def history(name: str) -> list[tuple[int, Sequence[float | None], list[QualityFlag]]]:
        rig, kept = Rig(), Kept()
        rig.timeline.sink = kept
        await rig.poll(SETTLED + 600 if settled else 300)
        rig.set(shift)
        await rig.poll(renamed)
        if name != "main":
            rig.device = rig.device.renamed(name)
            rig.timeline.rename("main", name)
        await rig.poll(60)
        rig.set(0)
        await rig.poll(120)
        assert {poll.device for poll in kept.order[-20:]} == {name}
        return [(one.time, one.values, list(one.doubts.values())) for one in kept.order]

    assert await history("kitchen") == await history("main")


def test_polls_that_wait_for_a_clock_come_under_the_name_that_the_device_has_by_then() -> None:
    clock, kept = FakeClock(now=5000.0, utc_ms=5_000), Kept()
    timeline = Timeline(clock)
    timeline.sink = kept
    timeline.take(Poll("main", clock.now_ms(), PLAIN, (1.0, 1.0)))
    timeline.take(Poll("other", clock.now_ms(), PLAIN, (1.0, 1.0)))
    clock.pass_by(5)
    timeline.rename("main", "kitchen")
    clock.utc_ms += START
    timeline.take(Poll("kitchen", clock.now_ms(), PLAIN, (1.0, 1.0)))
    assert [poll.device for poll in kept.order] == ["kitchen", "other", "kitchen"]


def test_a_device_that_two_names_led_to_goes_on_after_the_later_of_both() -> None:
    clock, kept = FakeClock(now=5000.0, utc_ms=START), Kept()
    timeline = Timeline(clock)
    timeline.sink = kept
    timeline.begin({"main": START - 9000, "kitchen": START + 9000}, Notes())
    timeline.rename("main", "kitchen")
    timeline.take(Poll("kitchen", START, PLAIN, (1.0, 1.0)))
    (poll,) = kept.order
    assert poll.time > START + 9000


async def test_a_clock_that_stands_behind_the_store_at_the_start() -> None:
    """As a computer without a clock of its own begins with the hour at which it last noted it."""
    rig, kept = Rig(), Kept()
    rig.timeline.sink = kept
    rig.timeline.begin({"main": START - 10_000}, Notes())
    rig.set(-1800)
    await rig.poll(30)
    assert all(poll.time > START - 10_000 for poll in kept.valid())
    assert rig.told.kinds == {"clock_behind": 1}
    rig.set(0)
    await rig.poll(30)
    assert [poll.time for poll in kept.valid()] == [START + 5000 * n for n in range(12)]


class Notes:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def remember(self, name: str, body: str) -> None:
        self.texts[name] = body

    def recall(self, name: str) -> str | None:
        return self.texts.get(name)


async def test_what_a_wrong_clock_left_in_the_future_holds_nobody_up_after_a_restart() -> None:
    rig, notes = Rig(), Notes()
    rig.timeline.sink = Kept()
    rig.timeline.begin({}, notes)
    await rig.poll(SETTLED + 60)
    rig.set(7200)
    await rig.poll(20)
    rig.timeline.save(notes)
    ahead = int(rig.clock.utc_ms)
    rig.set(0)
    rig.timeline, kept = Timeline(rig.clock, rig.told), Kept()
    rig.timeline.sink = kept
    rig.timeline.begin({"main": ahead}, notes)
    now = int(rig.clock.utc_ms)
    await rig.poll(10)
    assert [poll.time for poll in kept.order] == [now, now + 5000]
    kind, text, data = rig.told.events[-1]
    assert (kind, data) == (EventKind.CLOCK_BEHIND, {"seconds": 7185.0 + 15})
    assert "ahead, of a clock that was wrong" in text
    rig.timeline, kept = Timeline(rig.clock, rig.told), Kept()
    rig.timeline.sink = kept
    rig.timeline.begin({"main": now + 60_000}, notes)
    await rig.poll(5)
    assert kept.order[0].time > now + 60_000


@pytest.mark.parametrize("ahead", [HOUR, 2 * HOUR + 2300, 22 * HOUR, 300 * 24 * HOUR])
async def test_strays_that_are_stored_already_count_once(ahead: int, tmp_path: Path) -> None:
    """Six polls of 30 s that stand ahead of all others, from before times were looked after."""
    layout = Layout.of([(IMPORT, "Wh"), (GUARDED + IMPORT, "Wh")])
    clock = FakeClock(utc_ms=START)
    true = {START + 5000 * n: round(1e6 + W * 5 * n / 3600, 3) for n in range(4 * 720)}
    async with store(tmp_path / "m.db", clock=clock) as (writer, reader):
        for number, (time, wh) in enumerate(true.items()):
            if 10 <= number < 16:
                writer.take(Poll("main", time + ahead, layout, (wh, wh)))
            writer.take(Poll("main", time, layout, (wh, wh)))
            clock.utc_ms = time
        await writer.flush()
        for _ in range(2):
            hours, _ = await _hours(reader, 4)
            assert hours == pytest.approx([W] * 4, abs=6)
            text = "increase(meterd_guarded_active_energy_import_watthours_total[4h])"
            source = StoreSource(reader, {})
            data = (await asyncio.to_thread(instant, source, text, START + 4 * HOUR)).data
            assert isinstance(data, tuple)
            assert data[0].values[0] == pytest.approx(4 * W, abs=10)
            clock.utc_ms += 60 * HOUR
            await writer.settle()


async def test_a_stray_of_days_does_not_count_when_its_time_comes(tmp_path: Path) -> None:
    """Half a minute stands ten days ahead; then the ten days pass, an hour of each polled."""
    layout = Layout.of([(GUARDED + IMPORT, "Wh")])
    clock, day = FakeClock(utc_ms=START), 24 * HOUR
    async with store(tmp_path / "m.db", clock=clock) as (writer, reader):
        for number in range(6):
            writer.take(Poll("main", START + 10 * day + 5000 * number, layout, (1e6 + number,)))
        for step in range(12 * 360):
            passed = step // 360 * day + step % 360 * 10_000
            # The tenth day's hour is another one than the strays'.
            time = START + passed + (2 * HOUR if passed >= 10 * day else 0)
            writer.take(Poll("main", time, layout, (1e6 + W * passed / HOUR,)))
            clock.utc_ms = time
        await writer.flush()
        true = W * (11 * 24 + 1)
        for _ in range(2):
            hours, _ = await _hours(reader, 12 * 24)
            assert sum(hours) == pytest.approx(true, rel=0.01)
            clock.utc_ms += 60 * HOUR
            await writer.settle()


async def test_energy_of_a_device_that_no_commit_has_numbered_yet(tmp_path: Path) -> None:
    rig = Rig()
    async with store(tmp_path / "m.db", clock=rig.clock) as (writer, reader):
        rig.timeline.sink = writer
        await rig.poll(3600)
        hours, _ = await _hours(reader, 1)
        assert hours == pytest.approx([W], abs=15)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"believed": "x"}', "nonsense"])
async def test_a_damaged_note_is_none(text: str) -> None:
    rig, notes, kept = Rig(), Notes(), Kept()
    notes.texts["clock"] = text
    rig.timeline.sink = kept
    rig.timeline.begin({"main": START + 60_000}, notes)
    await rig.poll(5)
    assert kept.order[0].time > START + 60_000


async def test_a_first_run_of_minutes_leaves_nothing_that_holds_the_next_one_up() -> None:
    """The clock was two hours ahead at first; then meterd is started again, by hand."""
    rig, notes = Rig(), Notes()
    rig.timeline.sink = Kept()
    rig.timeline.begin({}, notes)
    rig.set(7200)
    await rig.poll(20)
    rig.set(0)
    await rig.poll(60)
    rig.timeline.save(notes)
    rig.timeline, kept = Timeline(rig.clock, rig.told), Kept()
    rig.timeline.sink = kept
    rig.timeline.begin({"main": START + 7_215_000}, notes)
    await rig.poll(10)
    assert [poll.time for poll in kept.order] == [START + 80_000, START + 85_000]


async def test_a_clock_that_flaps_fills_no_log_and_dates_no_poll_for_ever() -> None:
    rig, kept = Rig(), Kept()
    rig.timeline.sink = kept
    for number in range(200):
        rig.set(40 * (number % 2))
        await rig.poll(10)
    assert rig.told.kinds == {"clock_stepped": 20}
    assert len(kept.valid()) == rig.polls
    assert len(kept.order) < 10 * rig.polls
    rig.clock.pass_by(3600)
    rig.set(300)
    await rig.poll(10)
    # The hour in which no poll was taken was none for the clock either.
    assert "times more since the last word" in rig.told.events[-1][1]


async def test_sleep_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    asleep = 0.0
    monkeypatch.setattr("meterd.daemon.timeline.slept", lambda: asleep)
    rig.timeline = Timeline(rig.clock, rig.told)
    rig.timeline.sink = kept = Kept()
    await rig.poll(60)
    asleep = 28_800.0
    rig.clock.utc_ms += asleep * 1000
    await rig.poll(60)
    assert rig.told.events == []
    assert not any(poll.doubts.get(0) for poll in kept.order)


PLAIN = Layout.of([("active_power", "W"), ("device.up", "1")])

_Moves = list[tuple[int, int, str]]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(0, 4000), st.integers(-7200, 7200), st.sampled_from("ab")),
        min_size=1,
        max_size=60,
    ),
    st.integers(3, 200),
)
def test_polls_keep_their_order_and_none_is_lost(moves: _Moves, remembered: int) -> None:
    """Each move: so many seconds pass, the clock is off by so many, and a device is polled."""
    clock = FakeClock(utc_ms=START)
    kept = {"a": Kept(), "b": Kept()}
    timeline = Timeline(clock, Told(), most_remembered=remembered)

    class Both:
        def take(self, poll: Poll) -> None:
            kept[poll.device].take(poll)

    timeline.sink = Both()
    taken: dict[str, list[float]] = {"a": [], "b": []}
    shift = 0
    for number, (seconds, off, device) in enumerate(moves):
        clock.pass_by(seconds)
        clock.utc_ms += (off - shift) * 1000
        shift = off
        timeline.take(Poll(device, clock.now_ms(), PLAIN, (float(number), 1.0)))
        taken[device].append(float(number))
    for device, sink in kept.items():
        assert [poll.values[0] for poll in sink.valid()] == taken[device]
