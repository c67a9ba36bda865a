"""Corrections: marked values do not count, are kept with who and why, and come back."""

from pathlib import Path
from typing import Any

import pytest

from meterd.errors import StoreError
from meterd.store import database
from meterd.store.ledger import Ledger
from meterd.store.reader import Reader
from meterd.store.tools import check
from meterd.store.tools.correct import Ask, Corrections, NothingThereError
from meterd.store.writer import Writer
from tests.store.rigs import Hands, raw, rows, store, url_of
from tests.store.test_sealing import DAY, HOUR, START, feed, history

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
    (column,) = told.span.columns
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
    assert list(check.problems(database.find(url_of(path)))) == []


class BrokenOffError(Exception):
    """Whoever corrects is gone."""


def breaks(monkeypatch: pytest.MonkeyPatch, corrections: Corrections, after: int) -> None:
    """So many days are replaced, and then nothing more."""
    left, real = [after], corrections._take

    async def take(*some: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise BrokenOffError
        await real(*some)

    monkeypatch.setattr(corrections, "_take", take)


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
    assert list(check.problems(database.find(url_of(path)))) == []


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


def damage(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE corrected SET body = x'0102'")


async def test_work_for_the_writers_thread_ends_with_it(tmp_path: Path) -> None:
    writer = Writer(url_of(tmp_path / "meterd.db"))
    await writer.open()
    assert await writer.do(lambda ledger: ledger.numbers()) == []
    await writer.close()
    with pytest.raises(StoreError, match="not open"):
        await writer.do(lambda ledger: 1)


async def test_an_interval_from_long_before_the_first_sample_costs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(START)
    looked: list[int] = []
    find = Corrections._found

    async def counted(self: Corrections, what: Ask, names: Any, day: int) -> Any:
        looked.append(day)
        return await find(self, what, names, day)

    monkeypatch.setattr(Corrections, "_found", counted)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(1, START, 2))
        corrections = Corrections(writer, reader)
        made = await corrections.mark(ask(79_000, START + 40 * 365 * DAY), hands.now)
        assert made.n == 720
        assert set(looked) == {START // DAY}
        with pytest.raises(NothingThereError, match="no valid active_power in that time"):
            await corrections.mark(ask(79_000, START), hands.now)
