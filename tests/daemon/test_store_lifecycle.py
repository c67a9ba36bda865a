"""The store in use: what a start finds half done is finished."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meterd.config.settings import StoreSettings
from meterd.daemon.store_lifecycle import Store
from meterd.model.clock import SystemClock
from meterd.model.sample import Layout, Poll
from meterd.store.tools.correct import Ask

POWER = Layout.of([("active_power", "W")])


async def started(settings: StoreSettings) -> Store:
    store = Store(settings)
    await store.open()
    store.go_on()
    return store


def broken_off(path: Path) -> None:
    """As if meterd had died before the end."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE correction SET done = NULL")


async def test_a_correction_that_was_broken_off_is_finished_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, now = tmp_path / "meterd.db", SystemClock().now_ms()
    settings = StoreSettings(url=f"sqlite:///{path}")
    store = await started(settings)
    for number in range(10):
        store.writer.take(Poll("main", now - 10_000 + number, POWER, (1.0,)))
    ask = Ask("main", "active_power", now - 20_000, now, "a loose wire", "anna")
    await store.corrections.mark(ask, now)
    await store.close()
    broken_off(path)
    store = await started(settings)
    assert store.finishing is not None
    await store.finishing
    assert [one.state for one in await store.corrections.all()] == ["marked"]
    assert "correction 1 was broken off; it is finished now" in caplog.text
    await store.close()
