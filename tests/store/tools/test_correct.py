"""Corrections: marked values do not count, are kept with who and why, and come back."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Layout, Poll
from meterd.store.blocks.chunk import Chunk, merge
from meterd.store.compaction.session import StoreSession
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.tools import check
from meterd.store.tools.correct import Ask, Corrections, NothingThereError, UnfitError
from meterd.store.writer import Writer
from tests.store import trimming
from tests.store.rigs import Hands, raw, rows, store, url_of
from tests.store.test_hours import DAY, HOUR, START, feed, history

POWER = "active_power"
ENERGY = "active_energy.import"


def ask(start: int, end: int, quantity: str = POWER, device: str = "main") -> Ask:
    return Ask(device, quantity, start, end, "clamp was off", "anna")


async def whole(reader: Reader, step: int, agg: str, quantity: str = POWER) -> list[float]:
    found = await reader.range(["main"], [quantity], START, START + 60 * HOUR, step, agg)
    return [value for _, value in found[0].points]


@pytest.mark.parametrize("is_settled", [False, True])
async def test_a_marked_interval_counts_nowhere_and_returns(
    tmp_path: Path, is_settled: bool
) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(1, START, 50))
        if is_settled:
            await writer.settle()
        before = {
            (step, agg): await whole(reader, step, agg)
            for step in (0, 900_000, DAY)
            for agg in (("avg",) if step == 0 else ("max", "count"))
        }
        corrections = Corrections(writer, reader)
        # Over midnight, and from the journal into blocks.
        start, end = START + 23 * HOUR, START + 25 * HOUR
        made = await corrections.mark(ask(start, end), hands.now)
        assert (made.n, made.who, made.done) == (720, "anna", hands.now)
        points = await raw(reader, POWER)
        assert not [time for time, _ in points if start <= time < end]
        assert len(points) == len(before[0, "avg"]) - 720
        assert sum(await whole(reader, DAY, "count")) == sum(before[DAY, "count"]) - 720
        assert len(await whole(reader, 900_000, "max")) == len(before[900_000, "max"]) - 8
        undone = await corrections.undo(made.id, "bert", hands.now + 1)
        assert (undone.undone, undone.undone_by) == (hands.now + 1, "bert")
        for (step, agg), values in before.items():
            assert await whole(reader, step, agg) == values


async def test_the_audit_has_the_old_values_and_who_and_why(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(2, START, 3))
        corrections = Corrections(writer, reader)
        await corrections.mark(ask(START, START + HOUR), hands.now)
        (known,) = await corrections.all()
    assert (known.why, known.device, known.n) == ("clamp was off", "main", 360)
    assert rows(path, "SELECT who, why, n FROM correction") == [("anna", "clamp was off", 360)]
    assert rows(path, "SELECT n FROM corrected") == [(360,)]
    outside = Reader.outside(url_of(path))
    told = outside.day("main", START // DAY, {("main", POWER, "W")})
    outside.close()
    assert told is not None
    # The values themselves stay where they were; only their quality says that they do not count.
    (column,) = told.chunk.columns
    assert column.states[0] == (360, 4, "marked: clamp was off")
    assert column.values[0] == history(2, START, 3)[0].value(POWER)


async def test_a_marked_stretch_of_a_counter_is_interpolated(tmp_path: Path) -> None:
    hands = Hands(START)
    name = ("main", ENERGY, "Wh")
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(3, START, 50))
        await writer.settle()
        before = reader.quarters(name, START, START + 50 * HOUR)
        corrections = Corrections(writer, reader)
        start = START + 5 * HOUR
        await corrections.mark(ask(start, start + HOUR, ENERGY), hands.now)
        after = reader.quarters(name, START, START + 50 * HOUR)
        assert sum(q.increase or 0 for q in after.values()) == sum(
            q.increase or 0 for q in before.values()
        )
        assert [q.estimated for n, q in after.items() if start // 900_000 <= n][:4] == [True] * 4


async def test_what_is_not_there_cannot_be_marked_or_undone(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(4, START, 2))
        corrections = Corrections(writer, reader)
        with pytest.raises(NothingThereError, match="no valid active_power"):
            await corrections.mark(ask(START - DAY, START), hands.now)
        with pytest.raises(NothingThereError, match="store has no voltage"):
            await corrections.mark(ask(START, START + HOUR, "voltage"), hands.now)
        assert await corrections.all() == []
        made = await corrections.mark(ask(START, START + HOUR), hands.now)
        with pytest.raises(NothingThereError):
            await corrections.mark(ask(START, START + HOUR), hands.now)
        await corrections.undo(made.id, "anna", hands.now)
        for number in (made.id, 77):
            with pytest.raises(NothingThereError, match=r"undone already|does not exist"):
                await corrections.undo(number, "anna", hands.now)


async def test_the_newest_value_is_marked_for_people_too(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    question = f"SELECT quality FROM v_newest WHERE quantity = '{POWER}'"
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(5, START, 2))
        await writer.settle()
        assert rows(path, question) == [("good",)]
        corrections = Corrections(writer, reader)
        made = await corrections.mark(ask(START + HOUR, START + 3 * HOUR), hands.now)
        assert rows(path, question) == [("invalid",)]
        await corrections.undo(made.id, "anna", hands.now)
        assert rows(path, question) == [("good",)]


async def test_marks_survive_a_restart_before_they_are_sealed(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(6, START, 1.5))
        await Corrections(writer, reader).mark(ask(START + HOUR, START + 2 * HOUR), hands.now)
    async with store(path, clock=hands) as (writer, reader):
        assert len(await raw(reader, POWER)) == 360
        (known,) = await Corrections(writer, reader).all()
        await Corrections(writer, reader).undo(known.id, "anna", hands.now)
        assert len(await raw(reader, POWER)) == 540


async def test_what_a_long_commit_said_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        # One row of the journal over hours, of which most are sealed.
        for one in history(7, START, 5.5):
            writer.take(one)
        hands.now = START + 5 * HOUR + HOUR // 2
        await writer.settle()
        await Corrections(writer, reader).mark(ask(START + HOUR, START + 2 * HOUR), hands.now)
    async with store(path, clock=hands) as (writer, reader):
        assert len(await raw(reader, POWER)) == 4.5 * 360
        await writer.settle()
        assert len(await raw(reader, POWER)) == 4.5 * 360


async def test_hours_of_which_nothing_is_left_are_no_rows_any_more(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    question = f"SELECT time_ms, n, max FROM v_hourly WHERE quantity = '{POWER}' ORDER BY 1"
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(4, START, 30))
        await writer.settle()
        before = rows(path, question)
        corrections = Corrections(writer, reader)
        window = START + 3 * HOUR, START + 5 * HOUR + HOUR // 2
        made = await corrections.mark(ask(*window), hands.now)
        after = rows(path, question)
        assert len(after) == len(before) - 2
        assert (after[3][0], after[3][1]) == (START + 5 * HOUR, 180)
        await corrections.undo(made.id, "anna", hands.now)
        assert rows(path, question) == before
    assert list(check.problems(store_url.find(url_of(path)))) == []


class BrokenOffError(Exception):
    """Whoever corrects is gone."""


def breaks(monkeypatch: pytest.MonkeyPatch, corrections: Corrections, after: int) -> None:
    """So many days are replaced, and then nothing more."""
    left, real = [after], corrections._write_replacement

    async def take(*some: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise BrokenOffError
        await real(*some)

    monkeypatch.setattr(corrections, "_write_replacement", take)


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_one_that_was_broken_off_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    start, end = START + 20 * HOUR, START + 50 * HOUR
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(8, START, 56, every=60_000))
        await writer.settle()
        before = await raw(reader, POWER)
        corrections = Corrections(writer, reader)
        breaks(monkeypatch, corrections, after)
        with pytest.raises(BrokenOffError):
            await corrections.mark(ask(start, end), hands.now)
        (known,) = await corrections.all()
        assert (known.state, known.done) == ("unfinished", None)
    async with store(path, clock=hands) as (writer, reader):
        corrections = Corrections(writer, reader)
        other = await corrections.mark(ask(START + 51 * HOUR, START + 52 * HOUR), hands.now)
        first = (await corrections.all())[1]
        assert (first.state, other.state, first.n) == ("marked", "marked", 30 * 60)
        assert not [time for time, _ in await raw(reader, POWER) if start <= time < end]
        assert await corrections.finish(hands.now) == []
        for one in (first, other):
            await corrections.undo(one.id, "anna", hands.now)
        assert await raw(reader, POWER) == before
    assert list(check.problems(store_url.find(url_of(path)))) == []


async def test_undoing_that_was_broken_off_shows_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(9, START, 30, every=60_000))
        await writer.settle()
        before = await raw(reader, POWER)
        corrections = Corrections(writer, reader)
        made = await corrections.mark(ask(START + HOUR, START + 28 * HOUR), hands.now)
        breaks(monkeypatch, corrections, 1)
        with pytest.raises(BrokenOffError):
            await corrections.undo(made.id, "bert", hands.now)
        monkeypatch.undo()
        assert [one.state for one in await corrections.all()] == ["unfinished"]
        (done,) = await Corrections(writer, reader).finish(hands.now)
        assert (done.state, done.undone_by) == ("undone", "bert")
        assert await raw(reader, POWER) == before


async def test_one_whose_old_values_are_damaged_does_not_hold_up_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(10, START, 4))
        corrections = Corrections(writer, reader)
        breaks(monkeypatch, corrections, 0)
        with pytest.raises(BrokenOffError):
            await corrections.mark(ask(START, START + HOUR), hands.now)
        monkeypatch.undo()
        await writer.do(damage)
        made = await corrections.mark(ask(START + HOUR, START + 2 * HOUR), hands.now)
        assert (made.n, made.state) == (360, "marked")
        assert "correction 1 cannot be finished" in caplog.text


def damage(session: StoreSession) -> None:
    with session.transaction() as connection:
        connection.exec_driver_sql("UPDATE corrected SET body = x'0102'")


async def test_work_for_the_writers_thread_ends_with_it(tmp_path: Path) -> None:
    writer = Writer(url_of(tmp_path / "meterd.db"))
    await writer.open()
    assert await writer.do(lambda session: session.numbers()) == []
    await writer.close()
    with pytest.raises(StoreError, match="not open"):
        await writer.do(lambda session: 1)


async def test_an_interval_from_long_before_the_first_sample_costs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(START)
    looked: list[int] = []
    find = Corrections._chunk_of_day

    async def counted(self: Corrections, what: Ask, names: Any, day: int) -> Any:
        looked.append(day)
        return await find(self, what, names, day)

    monkeypatch.setattr(Corrections, "_chunk_of_day", counted)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(1, START, 2))
        corrections = Corrections(writer, reader)
        made = await corrections.mark(ask(79_000, START + 40 * 365 * DAY), hands.now)
        assert made.n == 720
        assert set(looked) == {START // DAY}
        with pytest.raises(NothingThereError, match="no valid active_power in that time"):
            await corrections.mark(ask(79_000, START), hands.now)


# -- a right value ---------------------------------------------------------------------------------


def setting(value: float, unit: str = "", quantity: str = POWER) -> Ask:
    return Ask(
        "main", quantity, START + HOUR, START + HOUR + 60_000, "misread", "anna", value, unit
    )


async def test_a_right_value_counts_is_estimated_and_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, reader):
        await feed(writer, hands, history(11, START, 30))
        await writer.settle()
        before = await raw(reader, POWER)
        corrections = Corrections(writer, reader)
        made = await corrections.mark(setting(1.25, "kW"), hands.now)
        assert (made.n, made.state, made.value) == (6, "set", 1250.0)
        start = START + HOUR
        found = [
            value for time, value in await raw(reader, POWER) if start <= time < start + 60_000
        ]
        assert found == [1250.0] * 6
        told = reader.day("main", START // DAY, {("main", POWER, "W")})
        assert told is not None
        (column,) = told.chunk.columns
        assert (6, 1, "entered: misread") in column.states
        await corrections.undo(made.id, "bert", hands.now)
        assert await raw(reader, POWER) == before
    assert list(check.problems(store_url.find(url_of(path)))) == []


async def test_a_value_is_set_over_what_was_marked_and_undone_before_it(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(12, START, 3))
        before = await raw(reader, POWER)
        corrections = Corrections(writer, reader)
        marked = await corrections.mark(ask(START + HOUR, START + 2 * HOUR), hands.now)
        set_ = await corrections.mark(setting(5.0), hands.now)
        assert (marked.n, set_.n) == (360, 6)
        with pytest.raises(NothingThereError, match="correction 2 came after it"):
            await corrections.undo(marked.id, "anna", hands.now)
        for one in (set_, marked):
            await corrections.undo(one.id, "anna", hands.now)
        assert await raw(reader, POWER) == before


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (setting(1.0, "°C"), "active_power is in W: '°C' is nothing like it"),
        (setting(1e298, "kW"), "is no number that can be measured"),
        (setting(float("inf")), "is no number that can be measured"),
        (setting(float("nan")), "is no number that can be measured"),
        (setting(1.0, "Wh", f"guarded.{ENERGY}"), f"worked out from {ENERGY}: correct {ENERGY}"),
    ],
)
async def test_what_makes_no_sense_is_refused(tmp_path: Path, what: Ask, says: str) -> None:
    hands = Hands(START)
    layout = Layout.of([(POWER, "W"), (ENERGY, "Wh"), (f"guarded.{ENERGY}", "Wh")])
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        polls = [Poll("main", START + HOUR + n, layout, (1.0, 2.0, 2.0)) for n in range(9)]
        await feed(writer, hands, polls)
        corrections = Corrections(writer, reader)
        with pytest.raises(UnfitError, match=says):
            await corrections.mark(what, hands.now)
        assert await corrections.all() == []


async def test_one_that_was_broken_off_goes_on_with_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(13, START, 56, every=60_000))
        await writer.settle()
        before = await raw(reader, POWER)
        corrections = Corrections(writer, reader)
        breaks(monkeypatch, corrections, 1)
        what = Ask("main", POWER, START + 20 * HOUR, START + 50 * HOUR, "x", "anna", 7.0)
        with pytest.raises(BrokenOffError):
            await corrections.mark(what, hands.now)
        monkeypatch.undo()
        (done,) = await Corrections(writer, reader).finish(hands.now)
        assert (done.state, done.n, done.value) == ("set", 30 * 60, 7.0)
        found = await raw(reader, POWER)
        assert [v for t, v in found if what.start <= t < what.end] == [7.0] * 1800
        await corrections.undo(done.id, "anna", hands.now)
        assert await raw(reader, POWER) == before


async def test_counters_are_counted_anew_from_the_first_to_the_last_read(tmp_path: Path) -> None:
    hands = Hands(START)
    told: list[tuple[str, str, int, int]] = []

    async def recount(*what: Any) -> None:
        told.append(what)

    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(14, START, 30))
        corrections = Corrections(writer, reader, recount)
        made = await corrections.mark(ask(1000, START + HOUR, ENERGY), hands.now)
        await corrections.mark(ask(1000, START + HOUR), hands.now)
        await corrections.undo(made.id, "anna", hands.now)
    assert told == [("main", ENERGY, START, START + HOUR - 60_000)] * 2


# -- where raw samples are deleted -----------------------------------------------------------------


@pytest.mark.parametrize("quantity", [POWER, ENERGY])
async def test_what_keep_raw_left_no_samples_of_is_not_touched(
    tmp_path: Path, quantity: str
) -> None:
    path = tmp_path / "meterd.db"
    polls = trimming.history(6)
    await trimming.trimmed(path, polls, keep=2)
    hands = Hands(polls[-1].time)
    tables = [f"SELECT * FROM {name} ORDER BY 1" for name in ("hour", "rollup", "dirty", "newest")]
    async with store(path, clock=hands) as (writer, reader):
        await writer.settle()
        before = [rows(path, table) for table in tables]
        deleted = trimming.START + 3 * DAY
        (left,) = rows(path, f"SELECT min(t0) >= {deleted} FROM block")
        assert left == (1,)
        old = f"SELECT * FROM v_hourly WHERE time_ms < {deleted} ORDER BY 1, 2, 3, 4"
        known = rows(path, old)
        corrections = Corrections(writer, reader)
        window = deleted - 10 * HOUR, deleted + 30 * HOUR
        made = await corrections.mark(ask(*window, quantity), hands.now)
        assert rows(path, old) == known
        assert [rows(path, table) for table in tables] != before
        await corrections.undo(made.id, "anna", hands.now)
        assert [rows(path, table) for table in tables] == before
    assert list(check.problems(store_url.find(url_of(path)))) == []


async def test_what_was_deleted_since_cannot_be_put_back_and_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    polls = trimming.history(6)
    await trimming.trimmed(path, polls, keep=400)
    hands = Hands(polls[-1].time)
    first = trimming.START
    async with store(path, clock=hands) as (writer, reader):
        corrections = Corrections(writer, reader)
        await corrections.mark(ask(first, first + HOUR), hands.now)
        await corrections.mark(ask(first + 20 * HOUR, first + 5 * DAY), hands.now)
    await trimming.trimmed(path, polls[-1:], keep=2)
    async with store(path, clock=hands) as (writer, reader):
        await writer.settle()
        known = rows(path, "SELECT * FROM hour ORDER BY id")
        corrections = Corrections(writer, reader)
        with pytest.raises(NothingThereError, match=r"cannot be undone.*are deleted"):
            await corrections.undo(1, "anna", hands.now)
        assert rows(path, "SELECT * FROM hour ORDER BY id") == known
        undone = await corrections.undo(2, "anna", hands.now)
        assert (undone.state, undone.lost) == ("undone", 1440 + 3 * 8640)
    assert list(check.problems(store_url.find(url_of(path)))) == []


# -- what it costs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_settled", [False, True])
async def test_the_loop_does_no_more_for_more_samples(tmp_path: Path, is_settled: bool) -> None:
    """Steps of the interpreter on the loop's thread: all else is done by others."""
    counts: list[int] = []
    for number in (2000, 8000):
        hands = Hands(START)
        async with store(tmp_path / f"{number}.db", clock=hands) as (writer, reader):
            await feed(writer, hands, history(15, START, number / 3600, every=1000))
            if is_settled:
                hands.now += 3 * HOUR
                await writer.settle()
            corrections = Corrections(writer, reader)
            await corrections.all()
            what = ask(START, START + number * 1000)
            with stepping() as steps:
                made = await corrections.mark(what, hands.now)
                await corrections.undo(made.id, "anna", hands.now)
            assert made.n == number
            counts.append(steps[0])
    assert counts[1] <= counts[0] * 1.5


@contextmanager
def stepping() -> Iterator[list[int]]:
    count = [0]

    def seen(frame: FrameType, event: str, _: object) -> Any:
        count[0] += event == "line"
        return seen

    before = sys.gettrace()
    sys.settrace(seen)
    try:
        yield count
    finally:
        sys.settrace(before)


def test_late_samples_of_a_closed_day_are_merged_with_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each merge costs a day's cells: one for each of its hours would be 24 times as much."""
    cells: list[int] = []

    def counted(chunks: Sequence[Chunk]) -> Chunk:
        cells.append(sum(chunk.samples for chunk in chunks))
        return merge(chunks)

    async def run() -> None:
        hands = Hands(START)
        async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
            await feed(writer, hands, history(16, START, 60))
            await writer.settle()
            monkeypatch.setattr("meterd.store.compaction.hours.merge", counted)
            await Corrections(writer, reader).mark(ask(START, START + DAY), hands.now)

    asyncio.run(run())
    day = 8640 * 3 + 1440
    assert sum(cells) <= 3 * day
