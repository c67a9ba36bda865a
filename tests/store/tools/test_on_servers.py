"""Backups and moves of stores on servers: whole or not there, with journal file and plain rows."""

from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.tools import backup, check
from meterd.store.tools.move import move
from meterd.store.writer import Writer
from tests.store.rigs import Hands, opened, samples, store, url_of
from tests.store.servers import conftest
from tests.store.servers.engines import Engine
from tests.store.test_hours import HOUR, START, feed, history
from tests.store.test_trouble import found

postgres, maria, galera = conftest.postgres, conftest.maria, conftest.galera
server = conftest.server


async def test_a_journal_file_and_plain_rows_go_to_a_server_and_into_a_backup(
    server: Engine, tmp_path: Path
) -> None:
    (url, *_), path, copy = server.urls("beside"), tmp_path / "a.db", tmp_path / "copy.db"
    hands = Hands(START)
    async with store(path, clock=hands, to_file=True, rows=86_400) as (writer, _):
        await feed(writer, hands, history(2, START, 4.5))
        await writer.settle()
        first = move(store_url.find(url_of(path)), url)
        assert first.rows["journal"] == 1
        assert first.rows["sample"] == len(samples(path))
        again = move(store_url.find(url_of(path)), url)
        assert again.sent <= 1
        expected = samples(path)
    there = store_url.find(url)
    assert list(check.problems(there)) == []
    with pytest.raises(KeyboardInterrupt):
        backup.of_server(there, copy, interrupted)
    with pytest.raises(StoreError, match="is no file"):
        backup.restore(there, copy, START)
    assert found(tmp_path, "copy.db*") == []
    backup.of_server(there, copy)
    assert [file.name for file in found(tmp_path, "copy.db*")] == ["copy.db"]
    assert samples(copy) == expected
    async with opened(Writer(url, commit=1e9, clock=hands)) as writer:
        hands.now = START + 30 * HOUR
        await writer.settle()
    assert list(check.problems(there)) == []


def interrupted(_: int) -> None:
    raise KeyboardInterrupt
