import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.quantity import Kind
from meterd.model.sample import Quality, QualityFlag
from meterd.store.db import migrate, store_url
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.view import HeadView
from meterd.store.query import range_reader
from meterd.store.query.range_query import SeriesInfo
from meterd.store.reader import Reader

from .rigs import METER, poll, raw, store, url_of


async def test_without_a_file_only_what_is_pending_is_there(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    head = Head()
    head.take(poll(1000, 230.0))
    reader = Reader(url_of(path), HeadView(head, Catalog()))
    assert await raw(reader) == [(1000, 230.0)]
    info = SeriesInfo("main", "voltage.l1", "V", Kind.GAUGE, 1000, 1000)
    assert await reader.series() == [info]
    reader.close()
    assert not path.exists()


async def test_an_empty_store_answers_with_nothing(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (_, reader):
        assert await reader.series() == []
        assert await reader.range(None, None, 0, 10, 0, "avg") == []


async def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    migrate.upgrade(store_url.find(url_of(path)))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    with pytest.raises(StoreError) as refused:
        Reader.outside(url_of(path))
    assert refused.value.code == "newer_schema"


async def test_what_was_polled_is_visible_at_once(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for moment in range(10):
            writer.take(poll(moment, float(moment)))
            assert await raw(reader) == [(t, float(t)) for t in range(moment + 1)]
            if moment % 3 == 0:
                await writer.flush()


async def test_a_window_holds_its_start_and_not_its_end(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for moment in (10, 20, 30):
            writer.take(poll(moment, 1.0))
        for _ in ("pending", "stored"):
            (found,) = await reader.range(["main"], None, 10, 30, 0, "avg")
            assert [t for t, _ in found.points] == [10, 20]
            (found,) = await reader.range(["main"], None, 10, 30, 7, "count")
            assert found.points == [(7, 1.0), (14, 1.0)]
            await writer.flush()


async def test_null_and_invalid_values_are_gaps(tmp_path: Path) -> None:
    wrong = {0: QualityFlag(Quality.INVALID, "out of range")}
    async with store(tmp_path / "meterd.db") as (writer, reader):
        writer.take(poll(1, 230.0))
        writer.take(poll(2, None, doubts={0: QualityFlag(Quality.STALE, "not read")}))
        writer.take(poll(3, 9e9, doubts=wrong))
        writer.take(poll(4, 231.0, doubts={0: QualityFlag(Quality.SUSPECT, "jumped")}))
        for _ in ("pending", "stored"):
            assert await raw(reader) == [(1, 230.0), (4, 231.0)]
            (found,) = await reader.range(["main"], None, 0, 10, 2, "max")
            assert found.points == [(0, 230.0), (4, 231.0)]
            await writer.flush()


async def test_the_last_of_a_bucket_is_the_newest_whatever_came_first(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for moment in (3, 7):
            writer.take(poll(moment, float(moment)))
        await writer.flush()
        for moment in (5, 4):
            writer.take(poll(moment, float(moment)))
        for _ in ("pending", "stored"):
            (found,) = await reader.range(["main"], None, 0, 10, 10, "last")
            assert found.points == [(0, 7.0)]
            await writer.flush()


async def test_columns_ascend_and_of_one_time_the_later_sample_counts(tmp_path: Path) -> None:
    name = ("main", "voltage.l1", "V")
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for moment in (3, 7):
            writer.take(poll(moment, float(moment)))
        await writer.flush()
        for moment, value in ((5, 5.0), (4, 4.0), (7, 8.0)):
            writer.take(poll(moment, value))
        for _ in ("pending", "stored"):
            ((times, values),) = reader.columns([name], 0, 10)
            assert times.tolist() == [3, 4, 5, 7]
            assert values.tolist() == [3.0, 4.0, 5.0, 8.0]
            await writer.flush()


async def test_a_value_taken_back_is_not_served_from_the_store(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        writer.take(poll(1, 230.0))
        await writer.flush()
        writer.take(poll(1, None, doubts={0: QualityFlag(Quality.INVALID, "not available")}))
        for _ in ("pending", "stored"):
            assert await raw(reader) == []
            await writer.flush()


async def test_names_choose_the_series(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for device in ("b", "a"):
            writer.take(poll(1, 1.0, 2.0, 3.0, layout=METER, device=device))
        for _ in ("pending", "stored"):
            names = [("a", "active_power"), ("b", "active_power")]
            found = await reader.range(None, ["active_power", "frequency"], 0, 10, 0, "avg")
            assert [(one.device, one.quantity) for one in found] == names
            assert len(await reader.range(["b"], None, 0, 10, 0, "avg")) == 3
            assert await reader.range(["c"], None, 0, 10, 0, "avg") == []
            assert await reader.range([], None, 0, 10, 0, "avg") == []
            assert await reader.range(None, None, 10, 0, 0, "avg") == []
            await writer.flush()


async def test_series_tell_kind_and_extent(tmp_path: Path) -> None:
    async with store(tmp_path / "meterd.db") as (writer, reader):
        writer.take(poll(5, 1.0, 2.0, 3.0, layout=METER))
        await writer.flush()
        writer.take(poll(9, 1.0))
        assert await reader.series() == [
            SeriesInfo("main", "active_energy.import", "Wh", Kind.COUNTER, 5, 5),
            SeriesInfo("main", "active_power", "W", Kind.GAUGE, 5, 5),
            SeriesInfo("main", "voltage.l1", "V", Kind.GAUGE, 5, 9),
        ]


@pytest.mark.parametrize(("limit", "step"), [("MOST_SAMPLES", 0), ("MOST_READ", 5)])
async def test_too_wide_a_question_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, step: int
) -> None:
    monkeypatch.setattr(range_reader, limit, 10)
    async with store(tmp_path / "meterd.db") as (writer, reader):
        for moment in range(11):
            writer.take(poll(moment, 1.0))
        await writer.flush()
        (found,) = await reader.range(None, None, 0, 10, step, "avg")
        assert found.points
        with pytest.raises(StoreError, match="ask for") as refused:
            await reader.range(None, None, 0, 11, step, "avg")
        assert refused.value.code == "too_much"


async def test_what_is_no_question_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    reader = Reader(url_of(tmp_path / "meterd.db"), HeadView(Head(), Catalog()))
    with pytest.raises(ValueError, match="agg must be one of avg min"):
        await reader.range(None, None, 0, 10, 5, "median")
    with pytest.raises(ValueError, match="step must be"):
        await reader.range(None, None, 0, 10, -5, "avg")
    reader.close()


async def test_an_abandoned_question_frees_its_thread(tmp_path: Path) -> None:
    started = threading.Event()

    def endless(abandoned: threading.Event) -> None:
        started.set()
        assert abandoned.wait(10)

    async with store(tmp_path / "meterd.db") as (_, reader):
        for _ in range(3):  # more than there are threads
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader._run(endless)
        async with asyncio.timeout(60):
            await reader._run(lambda abandoned: None)
    assert started.is_set()
