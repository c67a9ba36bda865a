"""The store in use: what a start finds half done is finished; a reload to none is refused."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from meterd.cli.demo import settings
from meterd.config.settings import StoreSettings
from meterd.daemon.site import Site
from meterd.daemon.store_lifecycle import Store
from meterd.model.clock import SystemClock
from meterd.model.sample import Layout, Poll
from meterd.store.db.extras import DRIVERS, MissingDriverError
from meterd.store.tools.correct import Ask

POWER = Layout.of([("active_power", "W")])


async def started(wanted: StoreSettings) -> Store:
    store = Store(wanted)
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
    wanted = StoreSettings(url=f"sqlite:///{path}")
    store = await started(wanted)
    for number in range(10):
        store.writer.take(Poll("main", now - 10_000 + number, POWER, (1.0,)))
    ask = Ask("main", "active_power", now - 20_000, now, "a loose wire", "anna")
    await store.corrections.mark(ask, now)
    await store.close()
    broken_off(path)
    store = await started(wanted)
    assert store.finishing is not None
    await store.finishing
    assert [one.state for one in await store.corrections.all()] == ["marked"]
    assert "correction 1 was broken off; it is finished now" in caplog.text
    await store.close()


@pytest.mark.parametrize("backend", sorted(DRIVERS))
async def test_a_reload_to_a_server_without_its_driver_leaves_the_store_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    ups = 'devices: {ups: {driver: megatec, link: "serial:///dev/nowhere", interval: 1h}}\n'
    site = Site(SystemClock())
    await site.apply(settings(f"{ups}store: {{url: 'sqlite:///{tmp_path}/m.db'}}\n"))
    before = site.reader
    monkeypatch.setitem(sys.modules, DRIVERS[backend].module, None)
    with pytest.raises(MissingDriverError):
        await site.apply(settings(f"{ups}store: {{url: '{backend}://u:p@127.0.0.1:9/m'}}\n"))
    assert site.reader is before
    assert await site.reader.series() is not None
    await site.close()
