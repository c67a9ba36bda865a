"""`meterd db`: formats, exit codes and what it tells; the work is tested in tests/store."""

import csv
import io
import json
import sqlite3
from contextlib import closing

from meterd.store.db import migrate
from tests.cli.stores import DAYS, SERIES, Site
from tests.store.rigs import rows, samples


def test_info_is_told_in_every_format(site: Site) -> None:
    facts = json.loads(site("db", "info", "--format", "json").out)
    assert facts["samples"] == DAYS * 1440 * SERIES
    assert facts["schema"] == migrate.versions()[-1]
    assert facts["bytes_per_sample"] > 0
    told = {
        row["what"]: row["value"]
        for row in csv.DictReader(io.StringIO(site("db", "info", "--format", "csv").out))
    }
    assert told["samples"] == str(DAYS * 1440 * SERIES)
    assert told["oldest"] == facts["oldest"]
    assert f"samples\t{DAYS * 1440 * SERIES}" in site("db", "info").out


def test_a_sound_store_is_exit_code_0_and_a_damaged_one_1(site: Site) -> None:
    done = site("db", "check", "--format", "json")
    assert (done.code, json.loads(done.out)) == (0, {"problems": []})
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("UPDATE rollup SET max = 12345 WHERE id = (SELECT min(id) FROM rollup)")
    connection.close()
    done = site("db", "check")
    assert done.code == 1
    assert "roll-up of main active_" in done.out
    assert "hint: restore a backup" in done.err


def test_no_store_is_told_and_not_made(empty: Site) -> None:
    for words in (("info",), ("check",), ("backup", "copy.db"), ("compact",)):
        done = empty("db", *words)
        assert (done.code, "no store yet" in done.err or "not" in done.err) == (1, True), done
    assert not empty.path.exists()


def test_a_backup_is_taken_put_back_and_never_overwritten(site: Site) -> None:
    copy = site.folder / "copy.db"
    done = site("db", "backup", str(copy))
    assert done.code == 0, done.err
    assert f"meterd db restore {copy}" in done.err
    assert site("db", "backup", str(copy)).code == 1
    before = samples(site.path)
    site.path.unlink()
    done = site("db", "restore", str(copy))
    assert done.code == 0, done.err
    assert samples(site.path) == before


def test_what_is_no_backup_is_told_and_the_store_stays(site: Site) -> None:
    before = samples(site.path)
    for name, says in (("history.csv", "no backup of a store"), ("nothing.db", "is not there")):
        done = site("db", "restore", str(site.folder / name))
        assert (done.code, says in done.err, "store.url" in done.out) == (1, True, False), done
    assert samples(site.path) == before


def test_a_store_in_use_is_not_restored(site: Site) -> None:
    from meterd.store.db import store_url

    copy = site.folder / "copy.db"
    site("db", "backup", str(copy))
    lock = store_url.find(f"sqlite:///{site.path}").lock()
    try:
        assert site("db", "restore", str(copy)).code == 75
        assert site("db", "compact").code == 75
        assert site("db", "migrate").code == 75
        assert site("db", "info").code == 0
    finally:
        lock.release()


def test_a_move_tells_what_to_write_where(site: Site) -> None:
    copy = site.folder / "moved.db"
    done = site("db", "move", f"sqlite:///{copy}")
    assert done.code == 0, done.err
    assert "store.url" in done.err
    assert samples(copy) == samples(site.path)
    assert "0 were sent now" in site("db", "move", f"sqlite:///{copy}").err


def test_migrating_keeps_a_copy_and_does_nothing_twice(site: Site) -> None:
    assert "already" in site("db", "migrate").err
    newest = migrate.versions()[-1]
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("DROP TABLE corrected")
        connection.execute("DROP TABLE correction")
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
    connection.close()
    assert newest > "0004"
    assert "`meterd db migrate`" in site("db", "info").err
    done = site("db", "migrate")
    assert done.code == 0, done.err
    assert f"The schema is {newest} now" in done.err
    # One copy, not one of the command and one of the migration.
    (kept,) = site.folder.glob("meterd.db.*-0004*")
    assert rows(kept, "SELECT version_num FROM alembic_version") == [("0004",)]
    assert list(site.folder.glob("meterd.db.before-*")) == []
    assert site("db", "check").code == 0


def test_compacting_says_what_it_did(site: Site) -> None:
    done = site("db", "compact")
    assert done.code == 0, done.err
    assert "blocks became" in done.err
