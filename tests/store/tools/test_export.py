"""Export: what was stored comes out and can be imported again, a day in memory at a time."""

import csv
import io
import json
from pathlib import Path

from meterd.store.reader import Reader
from meterd.store.tools.backfill import backfill
from meterd.store.tools.csv_import import CsvFile
from meterd.store.tools.export import TEXTS, Wanted, lines
from meterd.store.writer import Writer
from tests.store.rigs import Hands, opened, samples, store, url_of
from tests.store.test_hours import DAY, HOUR, START, feed, history

ALL = Wanted(None, None, 0, 1 << 50)


def text(reader: Reader, form: str, wanted: Wanted = ALL) -> str:
    return "".join(TEXTS[form](lines(reader, wanted)))


async def test_journal_blocks_and_memory_come_out_alike(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        polls = history(1, START, 30)
        await feed(writer, hands, polls)
        before = text(reader, "csv")
        await writer.settle()
        assert text(reader, "csv") == before
    rows = list(csv.DictReader(io.StringIO(before)))
    assert len(rows) == sum(len(one.values) for one in polls)
    nulls = [row for row in rows if not row["value"]]
    assert {(row["quality"], row["reason"]) for row in nulls} == {("invalid", "not available")}


async def test_what_comes_out_goes_in_again(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "a.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(2, START, 26))
        await writer.settle()
        said = text(reader, "csv")
    (tmp_path / "a.csv").write_text(said)
    found = CsvFile(tmp_path / "a.csv", None, hands.now)
    found.check()
    async with opened(Writer(url_of(tmp_path / "b.db"), commit=1e9, clock=hands)) as other:
        await backfill(other, found.rows(), lambda _: None)
    again = Reader.outside(url_of(tmp_path / "b.db"))
    assert sorted(text(again, "csv").splitlines()) == sorted(said.splitlines())
    again.close()
    assert samples(tmp_path / "a.db") == samples(tmp_path / "b.db")


async def test_a_window_is_cut_exactly(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(3, START, 30))
        await writer.settle()
        start, end = START + 23 * HOUR + 5000, START + 25 * HOUR
        wanted = Wanted(frozenset({"main"}), frozenset({"active_power"}), start, end)
        found = list(lines(reader, wanted))
        assert (found[0].time, found[-1].time) == (start + 5000, end - 10_000)
        assert len(found) == 719
        nobody = Wanted(frozenset({"other"}), None, start, end)
        assert list(lines(reader, nobody)) == []


async def test_pieces_are_small_and_objects_are_lines(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        await feed(writer, hands, history(4, START, 6))
        pieces = list(TEXTS["ndjson"](lines(reader, ALL)))
        assert max(map(len, pieces)) < 200_000
        objects = [json.loads(line) for line in "".join(pieces).splitlines()]
        assert objects[0]["time"] == "2023-12-09T00:00:00.000Z"
        assert {type(one["value"]) for one in objects} == {float, type(None)}


async def test_a_day_without_samples_between_costs_nothing(tmp_path: Path) -> None:
    hands = Hands(START)
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, reader):
        polls = history(5, START, 1) + history(5, START + 5 * DAY, 1)
        await feed(writer, hands, polls)
        assert len(list(lines(reader, ALL))) == sum(len(one.values) for one in polls)
