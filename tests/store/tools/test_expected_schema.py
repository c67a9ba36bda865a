"""Backups that are not what meterd makes: nothing of theirs runs, and nothing else goes wrong."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import migrate, store_url
from meterd.store.db.connections import Database
from meterd.store.db.expected_schema import schema_differences
from meterd.store.tools import backup, check
from meterd.store.writer import Writer
from tests.store.rigs import METER, poll

FIXTURES = Path(__file__).parents[1] / "fixtures"


async def copy_of_a_store(folder: Path) -> Path:
    writer = Writer(f"sqlite:///{folder}/source.db")
    await writer.open()
    for n in range(50):
        writer.take(poll(1_700_000_000_000 + 10_000 * n, 230.0, 5.0, float(n), layout=METER))
    await writer.settle()
    await writer.close()
    backup.backup(store_url.find(f"sqlite:///{folder}/source.db"), folder / "copy.db")
    return folder / "copy.db"


@pytest.mark.parametrize("version", migrate.versions())
def test_a_store_of_each_schema_is_as_meterd_makes_it(tmp_path: Path, version: str) -> None:
    path = tmp_path / "store.db"
    migrate.make(store_url.find(f"sqlite:///{path}"), version)
    assert list(schema_differences(path, version)) == []


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_stores_of_older_meterds_are_sound(tmp_path: Path, version: str) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FIXTURES / f"{version}.sql").read_text())
    assert list(schema_differences(path, version)) == []
    migrate.upgrade(store_url.find(f"sqlite:///{path}"))
    assert list(schema_differences(path, migrate.versions()[-1])) == []


async def test_a_store_that_was_in_use_and_analyzed_is_sound(tmp_path: Path) -> None:
    copy = await copy_of_a_store(tmp_path)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("ANALYZE")
    target = store_url.find(f"sqlite:///{tmp_path}/meterd.db")
    backup.restore(target, copy, 0)
    assert list(check.problems(target)) == []


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "CREATE TRIGGER gone AFTER INSERT ON block BEGIN DELETE FROM rollup; END",
            "trigger 'gone'",
        ),
        ("CREATE TRIGGER v INSTEAD OF INSERT ON v_series BEGIN SELECT 1; END", "trigger 'v'"),
        ("CREATE TABLE more (x)", "table 'more'"),
        ("CREATE VIEW more AS SELECT load_extension('x')", "view 'more'"),
        ("DROP VIEW v_series; CREATE VIEW v_series AS SELECT 1 AS device", "view 'v_series'"),
        ("CREATE INDEX slow ON device(abs(id))", "indexes of its table 'device'"),
        ("CREATE UNIQUE INDEX one ON block(device_id)", "indexes of its table 'block'"),
        ("ALTER TABLE device ADD COLUMN x GENERATED ALWAYS AS (id + 1)", "columns of its table"),
        ("ALTER TABLE device ADD COLUMN y DEFAULT 1", "columns of its table 'device'"),
        ("ALTER TABLE memo ADD COLUMN z CHECK (z > 1)", "columns of its table 'memo'"),
        ("DROP VIEW v_daily; DROP VIEW v_hourly; DROP TABLE hour", "lacks the table 'hour'"),
        ("CREATE VIRTUAL TABLE ghost USING fts5(x)", "virtual table 'ghost'"),
    ],
)
async def test_what_meterd_never_made_is_refused_and_told(
    tmp_path: Path, sql: str, told: str
) -> None:
    copy = await copy_of_a_store(tmp_path)
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript(sql)
    target = store_url.find(f"sqlite:///{tmp_path}/meterd.db")
    with pytest.raises(StoreError) as refused:
        backup.restore(target, copy, 0)
    assert refused.value.code == "corrupt"
    assert told in str(refused.value)
    assert "stays as it is" in str(refused.value)
    assert not (tmp_path / "meterd.db").exists()
    assert any(told in one for one in check.problems(store_url.find(f"sqlite:///{copy}")))


async def test_damage_of_any_kind_is_an_error_and_the_store_stays(tmp_path: Path) -> None:
    copy = await copy_of_a_store(tmp_path)
    good = copy.read_bytes()
    target = store_url.find(f"sqlite:///{tmp_path}/source.db")
    chance = random.Random(7)
    codes: set[str] = set()
    for turn in range(60):
        data = bytearray(good)
        if turn % 3 == 0:
            del data[chance.randrange(len(data)) :]
        for _ in range(chance.choice((1, 8, 200))):
            if data:
                # The first pages hold the schema.
                where = chance.choice((len(data), min(len(data), 4096), min(len(data), 600)))
                data[chance.randrange(where)] = chance.randrange(256)
        copy.write_bytes(data)
        codes.add(restored(target, copy, turn * 1000))
    assert codes - {""} <= {"corrupt", "unfit", "unavailable", "newer_schema", "older_schema"}
    assert "corrupt" in codes


def restored(target: Database, copy: Path, now: int) -> str:
    """The code of the error; "" where it went well: what was hit may have been free."""
    try:
        backup.restore(target, copy, now)
    except StoreError as error:
        return error.code
    return ""


@pytest.mark.parametrize("name", ["folder", "pipe", "nothing"])
def test_what_is_no_file_is_told(tmp_path: Path, name: str) -> None:
    import os

    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    target = store_url.find(f"sqlite:///{tmp_path}/meterd.db")
    with pytest.raises(StoreError, match="is not there" if name == "nothing" else "is no file"):
        backup.restore(target, tmp_path / name, 0)
