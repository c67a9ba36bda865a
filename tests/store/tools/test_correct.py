"""Corrections: marked values do not count, are kept with who and why, and come back."""

from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.reader import Reader
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
        with pytest.raises(NothingThereError, match="no valid voltage"):
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


async def test_work_for_the_writers_thread_ends_with_it(tmp_path: Path) -> None:
    writer = Writer(url_of(tmp_path / "meterd.db"))
    await writer.open()
    assert await writer.do(lambda ledger: ledger.numbers()) == []
    await writer.close()
    with pytest.raises(StoreError, match="not open"):
        await writer.do(lambda ledger: 1)
