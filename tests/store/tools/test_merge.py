"""Two devices of the store become one, if they were not polled at the same time."""

from pathlib import Path

import pytest

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Poll
from meterd.store.db import renames, store_url
from meterd.store.db.renames import RenameError
from meterd.store.db.replacements import Replacement, add, of
from meterd.store.reader import Reader
from meterd.store.tools.check import problems
from meterd.store.tools.correct import Ask, Corrections
from meterd.store.tools.merge import merge_devices
from meterd.store.writer import Writer
from tests.store.rigs import METER, Hands, poll, rows, store, url_of

HOUR = 3_600_000
MINUTE = 60_000
NOON = 1_700_006_400_000 // (24 * HOUR) * 24 * HOUR + 12 * HOUR


def polls(device: str, start: int, count: int) -> list[Poll]:
    """One each minute; the counter goes on with the time."""
    return [
        poll(time, 230.0, 60.0, (time - NOON) / MINUTE + 100_000, device=device, layout=METER)
        for time in range(start, start + count * MINUTE, MINUTE)
    ]


def take(writer: Writer, some: list[Poll]) -> None:
    for one in some:
        writer.take(one)


async def voltages(reader: Reader, device: str) -> list[int]:
    found = await reader.range([device], ["voltage.l1"], 0, 1 << 50, 0, "avg")
    return [time for one in found for time, _ in one.points]


async def rises(reader: Reader, device: str) -> float:
    """Of the register, over all there is."""
    name = device, "active_energy.import", "Wh"
    found = reader.quarters(name, 0, NOON + 100 * HOUR)
    return sum(one.increase for one in found.values() if one.increase is not None) / 1000


@pytest.mark.parametrize("to_file", [False, True])
@pytest.mark.parametrize("is_later", [False, True])
async def test_what_was_two_is_as_if_it_had_been_one(
    tmp_path: Path, to_file: bool, is_later: bool
) -> None:
    """Sealed and not, on one day and on others; whichever was polled first is named first."""
    first = polls("one", NOON - 30 * HOUR, 30 * 60 - 20)
    second = polls("other", NOON, 90)
    hands = Hands(NOON + 2 * HOUR)
    told = ("other", "one") if is_later else ("one", "other")
    path = tmp_path / "meterd.db"
    async with store(path, to_file=to_file, clock=hands) as (writer, reader):
        take(writer, first)
        await writer.settle()
        take(writer, second)
        await merge_devices(writer, reader, *told, who="anna", now=NOON)
        times = [one.time for one in (*first, *second)]
        assert await voltages(reader, told[1]) == times
        assert await voltages(reader, told[0]) == []
        whole = await rises(reader, told[1])
    alone = tmp_path / "alone.db"
    async with store(alone, to_file=to_file, clock=hands) as (writer, reader):
        take(writer, polls(told[1], NOON - 30 * HOUR, 30 * 60 - 20))
        await writer.settle()
        take(writer, polls(told[1], NOON, 90))
        await writer.settle()
        assert await rises(reader, told[1]) == whole
    for question in (
        "SELECT device, quantity, time_ms, n, increase FROM v_hourly ORDER BY 2, 3",
        'SELECT device, quantity, time_ms, n, "min", "max" FROM v_daily ORDER BY 2, 3',
        "SELECT device, quantity, first_ms, last_ms FROM v_series ORDER BY 2",
        "SELECT device, quantity, time_ms, value FROM v_newest ORDER BY 2",
    ):
        assert rows(path, question) == rows(alone, question)
    assert list(problems(store_url.find(url_of(path)))) == []
    assert renames.of(url_of(path)) == {told[0]: told[1]}
    async with store(path, to_file=to_file, clock=hands) as (writer, reader):
        take(writer, polls(told[0], NOON + 2 * HOUR, 1))
        assert len(await voltages(reader, told[1])) == len(times) + 1


async def test_those_polled_at_the_same_time_are_two(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        take(writer, polls("one", NOON, 10))
        take(writer, polls("other", NOON + 9 * MINUTE, 10))
        with pytest.raises(RenameError, match="at the same time"):
            await merge_devices(writer, reader, "one", "other", who="", now=NOON)
        with pytest.raises(RenameError, match="no device lost"):
            await merge_devices(writer, reader, "one", "lost", who="", now=NOON)
        assert len(await voltages(reader, "one")) == 10


async def test_broken_off_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        take(writer, polls("one", NOON - 3 * HOUR, 60))
        take(writer, polls("other", NOON, 60))
        with monkeypatch.context() as patched:

            async def broken(*_: object) -> None:
                raise StoreError("away", code=StoreCode.UNAVAILABLE)

            patched.setattr(writer, "absorb", broken)
            with pytest.raises(StoreError):
                await merge_devices(writer, reader, "one", "other", who="", now=NOON)
        # By now both have the same times.
        await merge_devices(writer, reader, "one", "other", who="", now=NOON)
        assert len(await voltages(reader, "other")) == 120
        assert {one.device for one in reader.names()} == {"other"}


async def test_what_was_deleted_of_it_leaves_its_rollups(tmp_path: Path) -> None:
    path, hands = tmp_path / "meterd.db", Hands(NOON + 48 * HOUR)
    async with store(path, clock=hands) as (writer, reader):
        take(writer, polls("one", NOON - 72 * HOUR, 600))
        take(writer, polls("other", NOON, 60))
        await writer.settle()
    before = rows(path, "SELECT quantity, time_ms, n FROM v_daily WHERE device = 'one'")
    async with store(path, clock=hands, keep=80 * 3600.0) as (writer, reader):
        await writer.settle()
        # A clock that is ahead of what is stored is believed after an hour.
        hands.now, hands.elapsed = hands.now + 2 * HOUR, hands.elapsed + 7200
        await writer.settle()
        assert await voltages(reader, "one") == []
        await merge_devices(writer, reader, "one", "other", who="", now=NOON)
    after = rows(path, "SELECT quantity, time_ms, n FROM v_daily WHERE device = 'other'")
    assert set(before) < set(after)
    assert len(after) == len(before) + 3


async def test_corrections_can_still_be_undone(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        take(writer, polls("one", NOON - 3 * HOUR, 60))
        take(writer, polls("other", NOON, 60))
        book = Corrections(writer, reader)
        ask = Ask("one", "voltage.l1", NOON - 3 * HOUR, NOON - 3 * HOUR + 30 * MINUTE, "x", "anna")
        made = await book.mark(ask, NOON + HOUR)
        one = Replacement(NOON - 3 * HOUR, NOON, "anna")
        await writer.do(lambda session: add(session, "one", one))
        await merge_devices(writer, reader, "one", "other", who="", now=NOON)
        assert len(await voltages(reader, "other")) == 90
        await book.undo(made.id, "anna", NOON + HOUR)
        assert len(await voltages(reader, "other")) == 120
        assert await writer.do(lambda session: of(session, "other")) == [one]
