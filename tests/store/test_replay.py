"""Journal rows become polls again; one of series that nobody knows is put aside."""

from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.blocks.chunk import Chunk
from meterd.store.compaction.session import StoreSession
from meterd.store.db.quarantine import DamageError
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.replay import replay, wal_chunks
from meterd.store.reader import Reader
from meterd.store.writer import Writer

from .rigs import NEVER, opened, poll, raw, rows, samples, store, url_of
from .test_trouble import found


async def kept(path: Path, *devices: str) -> None:
    """A row of the journal for each device."""
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        for time, device in enumerate(devices, 1):
            writer.take(poll(time, float(time), device=device))
            await writer.flush()


@pytest.mark.parametrize(
    ("table", "says"),
    [("series", "series 2 of two, which the store does not have"), ("device", "device 2")],
)
async def test_a_row_of_what_is_not_known_is_put_aside_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str, says: str
) -> None:
    path = tmp_path / "meterd.db"
    await kept(path, "main", "two", "main")
    async with opened(Writer(url_of(path), commit=NEVER)) as writer:
        await writer.do(lambda session: _forget(session, table))
    with pytest.raises(StoreError, match=says):
        Reader.outside(url_of(path))
    async with store(path) as (writer, reader):
        assert await raw(reader) == [(1, 1.0), (3, 3.0)]
        assert writer.status.writable
    assert says in caplog.text
    assert len(found(tmp_path, "meterd.damaged-journal-*")) == 1
    assert [time for time, _, _ in samples(path)] == [1, 3]
    assert rows(path, "SELECT count(*) FROM journal") == [(2,)]


def _forget(session: StoreSession, table: str) -> None:
    with session.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM series WHERE id = 2")
        if table == "device":
            connection.exec_driver_sql("DELETE FROM device WHERE id = 2")


def test_a_series_of_another_device_is_not_taken_for_its_own() -> None:
    catalog, head = Catalog(), Head()
    head.take(poll(1, 1.0))
    (chunk,) = wal_chunks(head.uncommitted(10), catalog)
    catalog.device("two")
    other = [Chunk(2, chunk.times, tuple(chunk.columns))]
    with pytest.raises(DamageError, match="series 1 of two"):
        replay([(7, other)], Head(), catalog)
