import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.quantity import Kind, declare
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.engine import storage_engine
from meterd.store.head.head import SeriesBatch
from meterd.store.writer import Writer

from .rigs import METER, NEVER, Hands, opened, poll, raw, rows, samples, store, url_of


async def test_what_was_taken_is_stored_with_quality_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    doubts = {
        1: QualityFlag(Quality.INVALID, "not available"),
        2: QualityFlag(Quality.SUSPECT, "jumped"),
    }
    async with store(path) as (writer, _):
        writer.take(poll(1000, 230.1, None, 7.0, layout=METER, doubts=doubts))
        await writer.flush()
        assert writer.status.queued == 0
    assert rows(
        path,
        "SELECT device.name, quantity, unit, kind, time, value, quality, reason FROM newest "
        "JOIN series ON series.id = series_id JOIN device ON device.id = device_id "
        "ORDER BY series.id",
    ) == [
        ("main", "voltage.l1", "V", "gauge", 1000, 230.1, 0, None),
        ("main", "active_power", "W", "gauge", 1000, None, 4, "not available"),
        ("main", "active_energy.import", "Wh", "counter", 1000, 7.0, 2, "jumped"),
    ]


async def test_closing_commits_everything(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        for moment in range(2500):
            writer.take(poll(moment, 230.0))
    assert len(samples(path)) == 2500


async def test_commits_come_by_themselves(tmp_path: Path) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def confirmed(polls: object) -> None:
        loop.call_soon_threadsafe(done.set)

    writer = Writer(url_of(tmp_path / "meterd.db"), commit=0.02, confirmed=confirmed)
    async with opened(writer), asyncio.timeout(60):
        writer.take(poll(1000, 230.0))
        await done.wait()
        assert len(samples(tmp_path / "meterd.db")) == 1


async def test_a_poll_is_confirmed_only_when_others_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    seen: list[tuple[int, int]] = []

    def confirmed(batches: Sequence[SeriesBatch]) -> None:
        seen.append((sum(len(batch.times) for batch in batches), len(samples(path))))

    async with opened(Writer(url_of(path), commit=NEVER, confirmed=confirmed)) as writer:
        monkeypatch.setattr(storage_engine, "BATCH", 1000)
        for moment in range(1500):
            writer.take(poll(moment, 230.0))
        await writer.flush()
    assert seen == [(1000, 1000), (500, 1500)]


async def test_status_tells_how_the_writer_fares(tmp_path: Path) -> None:
    hands = Hands()
    async with store(tmp_path / "meterd.db", clock=hands) as (writer, _):
        writer.take(poll(1000, 230.0))
        assert (writer.status.writable, writer.status.queued) == (True, 1)
        assert writer.status.last_commit == 0
        hands.elapsed = 200.0
        await writer.flush()
        status = writer.status
        assert (status.queued, status.committed, status.dropped) == (0, 1, 0)
        assert (status.last_commit, status.alive) == (hands.now / 1000, 200.0)
    assert not writer.status.writable


async def test_the_same_time_and_series_again_replaces(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        writer.take(poll(1000, 230.0))
        await writer.flush()
        writer.take(poll(1000, 231.0))
        writer.take(poll(1000, 232.0))
        await writer.flush()
        assert await raw(reader) == [(1000, 232.0)]
    assert len(samples(path)) == 1


async def test_a_clock_that_steps_back_loses_nothing(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for start in (7_200_000, 3_600_500):
            for moment in range(start, start + 10_000, 1000):
                writer.take(poll(moment, float(moment)))
            await writer.flush()
        expected = [*range(3_600_500, 3_610_500, 1000), *range(7_200_000, 7_210_000, 1000)]
        assert await raw(reader) == [(moment, float(moment)) for moment in expected]
        (info,) = await reader.series()
        assert (info.first, info.last) == (3_600_500, 7_209_000)


async def test_a_unit_that_changes_begins_another_series(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for moment, unit in ((1000, "V"), (2000, "A"), (3000, "V")):
            layout = Layout.of([("x.probe", unit)])
            writer.take(poll(moment, float(moment), layout=layout))
            await writer.flush()
        found = await reader.range(["main"], ["x.probe"], 0, 10_000, 0, "avg")
        assert [(one.unit, one.points) for one in found] == [
            ("A", [(2000, 2000.0)]),
            ("V", [(1000, 1000.0), (3000, 3000.0)]),
        ]


async def test_a_restart_goes_on_with_the_same_series(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    for moment in (1000, 2000, 3000):
        async with opened(Writer(url_of(path), commit=NEVER)) as writer:
            writer.take(poll(moment, 230.0))
    assert rows(path, "SELECT count(*) FROM series") == [(1,)]
    assert [row[0] for row in samples(path)] == [1000, 2000, 3000]


async def test_a_second_daemon_on_the_same_data_is_refused(tmp_path: Path) -> None:
    url = url_of(tmp_path / "meterd.db")
    async with opened(Writer(url)):
        second = Writer(url)
        with pytest.raises(StoreError) as refused:
            await second.open()
        assert refused.value.code == "already_running"
        await second.close()
    async with opened(Writer(url)) as third:
        assert third.status.writable


async def test_a_store_that_cannot_be_opened_frees_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE theirs (x)")
    writer = Writer(url_of(path))
    with pytest.raises(StoreError, match="another program's"):
        await writer.open()
    with pytest.raises(StoreError, match="not open"):
        await writer.flush()
    await writer.close()
    assert rows(path, "SELECT name FROM sqlite_master") == [("theirs",)]
    path.unlink()
    async with opened(Writer(url_of(path))):
        pass


async def test_a_taken_poll_costs_the_loop_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    writer = Writer(url_of(path))
    writer.take(Poll("main", 1, METER, (1.0, 2.0, 3.0)))
    # Not even opened: taking needs neither thread nor file.
    assert writer.status.queued == 3
    assert not path.exists()


async def test_memos_are_found_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        assert writer.recall("counters main") is None
        writer.remember("counters main", "one")
        await writer.flush()
        writer.remember("counters main", "two")
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        assert writer.recall("counters main") == "two"


async def test_a_gauge_of_ones_own_that_turns_out_to_count_is_a_counter_from_then_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "meterd.db"
    layout = Layout.of([("x.s.water", "m³"), ("device.up", "1")])
    kind = "SELECT kind FROM series WHERE quantity = 'x.s.water'"
    async with store(path) as (writer, _):
        writer.take(poll(1000, 10.0, 1.0, layout=layout))
        await writer.flush()
    assert rows(path, kind) == [("gauge",)]
    declare("x.s.water", "m³", Kind.COUNTER)
    async with store(path) as (writer, reader):
        writer.take(poll(2000, 10.5, 1.0, layout=layout))
        await writer.flush()
        assert {one.quantity: one.kind for one in await reader.series()}["x.s.water"] == "counter"
    assert rows(path, kind) == [("counter",)]
