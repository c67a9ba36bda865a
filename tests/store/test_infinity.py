"""No infinity enters the store by any door; what older stores hold of them is null, and why."""

import json
import math
import sqlite3
from array import array
from contextlib import closing
from pathlib import Path

import pytest

from meterd.model.sample import Layout, Poll
from meterd.store.blocks import (
    array_decoder,
    block,
    commit_record,
    rollup,
    rollup_arrays,
    rollup_codec,
)
from meterd.store.blocks.chunk import Chunk, ChunkColumn, RowBatch
from meterd.store.db import store_url
from meterd.store.head.head import Head, as_batches
from meterd.store.reader import Reader
from meterd.store.tools import check
from meterd.store.wal.spool import pack, unpack
from tests.store.rigs import Hands, rows, samples, store, url_of
from tests.store.test_hours import DAY, HOUR, START, feed, history

INF = float("inf")
WHY = "no number that can be measured"
POWER = "active_power"
WILD = [INF, -INF, 1.5e300]


def chunk(*values: float, states: tuple[tuple[int, int, str], ...] = ()) -> Chunk:
    times = array("q", range(1000, 1000 + len(values)))
    return Chunk(1, times, (ChunkColumn(7, range(len(values)), array("d", values), states),))


@pytest.mark.parametrize("wild", WILD)
def test_blocks_and_journal_rows_of_older_stores_are_read_as_nulls(wild: float) -> None:
    written = chunk(
        1.5, wild, math.nan, 2.5, states=((2, 0, ""), (1, 4, "not there"), (1, 2, "hm"))
    )
    states = ((1, 0, ""), (1, 4, WHY), (1, 4, "not there"), (1, 2, "hm"))
    blocks = block.decode(block.encode(written))
    for found in (blocks, *commit_record.decode(commit_record.encode([written], {}))):
        (column,) = found.columns
        assert [str(value) for value in column.values] == ["1.5", "nan", "nan", "2.5"]
        assert column.states == states
    (line,) = array_decoder.decode(block.encode(written))
    assert [str(float(value)) for value in line.values] == ["1.5", "nan", "nan", "2.5"]
    assert line.states == states
    sheet = RowBatch(1, array("q", [1, 2]), (7,), array("d", [wild, 3.0]))
    ((column,),) = [one.columns for one in commit_record.decode(commit_record.encode([sheet], {}))]
    assert (str(column.values[0]), column.values[1]) == ("nan", 3.0)


def test_what_was_made_of_infinities_is_not_known() -> None:
    day = START // DAY
    quarter = rollup.QuarterRollup(2, 1.0, INF, INF)
    body = rollup_codec.pack(day, {day * 96: quarter})
    found = rollup_codec.unpack(body)[1][day * 96]
    assert (found.n, found.min, str(found.max), str(found.sum)) == (2, 1.0, "nan", "nan")
    lanes = rollup_arrays.decode([body])
    assert [str(float(lane[0])) for lane in (lanes.low, lanes.high, lanes.total)] == [
        *("1.0", "nan", "nan")
    ]


@pytest.mark.parametrize("wild", WILD)
async def test_polls_late_polls_and_the_spool(tmp_path: Path, wild: float) -> None:
    path = tmp_path / "meterd.db"
    layout = Layout.of([(POWER, "W"), ("voltage.l1", "V")])
    hands = Hands(START)
    polls = [Poll("main", START + n, layout, (wild, 230.0)) for n in range(3)]
    # As an older meterd, or another process, may have left them.
    head = Head()
    head.take(Poll("main", START + 3, layout, (1.0, 230.0)))
    (left,) = head.uncommitted(10)
    left.tables[0][0] = wild
    async with store(path, clock=hands) as (writer, reader):
        writer.take(polls[0])
        await writer.put(as_batches(polls[1:2]))
        for one in unpack(pack([left])):
            writer.take(one)
        await writer.flush()
        told = reader.day("main", START // DAY, {("main", POWER, "W")})
    assert told is not None
    (column,) = told.chunk.columns
    assert all(map(math.isnan, column.values))
    assert column.states == ((3, 4, WHY),)
    assert all(value is None or math.isfinite(value) for _, _, value in samples(path))


def older(path: Path) -> None:
    """As meterd 0.3 left it that had imported `1e999`: in blocks, roll-ups and plain rows."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for key, body in connection.execute("SELECT id, body FROM block").fetchall():
            found = block.decode(body)
            columns = []
            for column in found.columns:
                values = array("d", column.values)
                values[5] = INF
                columns.append(column._replace(values=values))
            wild = block.encode(Chunk(found.device, found.times, tuple(columns)))
            connection.execute("UPDATE block SET body = ? WHERE id = ?", (wild, key))
        for key, body in connection.execute("SELECT id, quarters FROM rollup").fetchall():
            day, quarters = rollup_codec.unpack(body)
            first = min(quarters)
            one = quarters[first]
            quarters[first] = rollup.QuarterRollup(max(one.n, 1), one.min, INF, INF, one.increase)
            connection.execute(
                "UPDATE rollup SET max = 9e999, sum = 9e999, quarters = ? WHERE id = ?",
                (rollup_codec.pack(day, quarters), key),
            )
        connection.execute("UPDATE hour SET max = 9e999, sum = -9e999")
        connection.execute("UPDATE newest SET value = 9e999")
        connection.execute("INSERT INTO sample VALUES (5, 1, 9e999, 0, NULL)")
        for name in ("value", "lost"):
            connection.execute(f"ALTER TABLE correction DROP COLUMN {name}")
        connection.execute("UPDATE alembic_version SET version_num = '0005'")


async def test_a_store_that_has_infinities_is_made_sound(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        await feed(writer, hands, history(1, START, 60))
        await writer.settle()
    older(path)
    async with store(path, clock=hands) as (writer, reader):
        wild = ("hour", "max"), ("hour", "sum"), ("newest", "value"), ("sample", "value")
        for table, name in wild:
            assert rows(path, f"SELECT count(*) FROM {table} WHERE abs({name}) > 1e300") == [(0,)]
        # Before and after its days are made anew.
        for _ in range(2):
            for step in (0, 60_000, 900_000, HOUR, DAY):
                for agg in ("avg", "min", "max", "sum", "last"):
                    found = await reader.range(None, None, START, START + 3 * DAY, step, agg)
                    assert found
                    json.dumps([one.points for one in found], allow_nan=False)
            await writer.settle()
        assert rows(path, "SELECT count(*) FROM rollup WHERE max > 1e300 OR sum > 1e300") == [(0,)]
    assert list(check.problems(store_url.find(url_of(path)))) == []
    outside = Reader.outside(url_of(path))
    told = outside.day("main", START // DAY, {("main", POWER, "W")})
    outside.close()
    assert told is not None
    (column,) = told.chunk.columns
    assert (1, 4, WHY) in column.states
