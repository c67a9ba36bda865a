"""`meterd import`: what it tells, and that a running meterd or a mistake writes nothing."""

import json
import sqlite3
from contextlib import closing

from meterd.store.db import store_url
from tests.cli.stores import Site
from tests.store.rigs import rows, samples

DAY = 86_400_000

HEAD = "time,device,quantity,unit,value\n"


def test_it_tells_what_came_along(empty: Site) -> None:
    file = empty.folder / "h.csv"
    file.write_text(HEAD + "2026-01-01T00:00:00Z,shed,active_energy.import,kWh,1.5\n")
    done = empty("import", str(file))
    assert done.code == 0, done.err
    assert "1 samples of 1 devices, 2026-01-01T00:00:00.000Z to" in done.err
    assert "meterd.yaml has no device shed" in done.err
    assert samples(empty.path) == [
        (1767225600000, "active_energy.import", 1500.0),
        (1767225600000, "guarded.active_energy.import", 1500.0),
    ]


def test_a_dry_run_makes_no_store(empty: Site) -> None:
    file = empty.folder / "h.csv"
    file.write_text(HEAD + "2026-01-01T01:00:00,main,voltage.l1,,230\n")
    done = empty("import", str(file), "--dry-run")
    assert done.code == 1
    assert f"{file}:2: time '2026-01-01T01:00:00' does not say its zone" in done.err
    done = empty("import", str(file), "--dry-run", "--zone", "Europe/Berlin")
    assert (done.code, "2026-01-01T00:00:00.000Z" in done.err) == (0, True)
    assert not empty.path.exists()


def test_a_mistake_anywhere_writes_nothing(empty: Site) -> None:
    file = empty.folder / "h.csv"
    good = "2026-01-01T01:00:00Z,main,voltage.l1,,230\n"
    file.write_text(HEAD + good + good.replace("230", "two") + good)
    done = empty("import", str(file))
    assert done.code == 1
    assert f"{file}:3: value 'two' is no number" in done.err
    assert not empty.path.exists()


def test_a_store_in_use_is_left_alone(site: Site) -> None:
    lock = store_url.find(f"sqlite:///{site.path}").lock()
    try:
        assert site("import", str(site.folder / "history.csv")).code == 75
    finally:
        lock.release()


def test_nothing_and_nowhere_are_told(empty: Site) -> None:
    (empty.folder / "h.csv").write_text(HEAD)
    assert "holds no samples" in empty("import", str(empty.folder / "h.csv")).err
    done = empty("import", str(empty.folder / "x.csv"))
    assert (done.code, "No such file" in done.err) == (1, True)
    done = empty("import", str(empty.folder / "h.csv"), "--zone", "Berlin")
    assert (done.code, "There is no time zone 'Berlin'" in done.err) == (2, True)


def test_imported_energy_is_energy(site: Site) -> None:
    day = (site.start // DAY + 1) * DAY // 1000
    window = ("--start", str(day), "--end", str(day + 86_400))
    done = site("energy", "main", "--period", "hour", *window, "--format", "json")
    hours = json.loads(done.out)["energy"]
    assert [(one["value"], one["method"]) for one in hours] == [(600, "counter")] * 24
    assert all(one["complete"] for one in hours)


def test_a_day_of_which_only_roll_ups_are_left_is_not_made_anew_by_chance(site: Site) -> None:
    day = site.start // DAY + 1
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute(f"DELETE FROM block WHERE t0 < {(day + 1) * DAY}")
    daily = f"SELECT quantity, n, max FROM v_daily WHERE time_ms = {day * DAY} ORDER BY 1"
    before = rows(site.path, daily)
    assert [row[1] for row in before] == [1440, 1440, 1440]
    file = site.folder / "one.csv"
    file.write_text(f"time,main/voltage.l1\n{day * DAY // 1000 + 60},230\n")
    done = site("import", str(file))
    assert (done.code, "only their roll-ups" in done.err) == (1, True), done
    assert rows(site.path, daily) == before
    # Days that have their samples take more of them.
    file.write_text(f"time,main/voltage.l1\n{(day + 1) * DAY // 1000 + 60},230\n")
    assert site("import", str(file)).code == 0
    assert rows(site.path, daily) == before
    done = site("import", str(site.folder / "history.csv"), "--replace")
    assert done.code == 0, done.err
    assert rows(site.path, daily) == before


def test_a_reason_with_escape_sequences_is_a_mistake(empty: Site) -> None:
    file = empty.folder / "h.csv"
    head = HEAD.strip() + ",quality,reason\n"
    file.write_text(head + "2026-01-01T01:00:00Z,main,voltage.l1,,,invalid,\x1b[2Jx\n")
    done = empty("import", str(file))
    assert done.code == 1
    assert f"{file}:2: reason '\\x1b[2Jx' holds control characters" in done.err
    assert not empty.path.exists()


def test_formulas_are_texts_for_people_and_come_back_as_they_were(empty: Site) -> None:
    file, back = empty.folder / "h.csv", empty.folder / "back.csv"
    head = HEAD.strip() + ",quality,reason\n"
    row = "2026-01-01T01:00:00Z,main,voltage.l1,,,invalid,{}\n"
    file.write_text(head + row.format("=1+1"))
    assert empty("import", str(file)).code == 0
    assert empty("export", "-o", str(back)).code == 0
    assert back.read_text().splitlines()[1].endswith(",invalid,'=1+1")
    assert empty("export").out.splitlines()[1].endswith(",invalid,=1+1")
    assert empty("export", "--spreadsheet").out.splitlines()[1].endswith(",invalid,'=1+1")
    assert empty("import", str(back)).code == 0
    assert empty("export").out.splitlines()[1].endswith(",invalid,=1+1")
    assert empty("export", "-o", str(back), "--raw-csv").code == 0
    assert back.read_text().splitlines()[1].endswith(",invalid,=1+1")


def test_what_is_no_csv_is_told_without_reading_it_all(empty: Site) -> None:
    import os

    os.mkfifo(empty.folder / "pipe")
    (empty.folder / "long").write_text("x" * 3_000_000)
    (empty.folder / "nul").write_text(HEAD + "2026-01-01T01:00:00Z,main,voltage.l1,,2\0\n")
    (empty.folder / "latin").write_bytes(HEAD.encode() + b"\xff\n")
    for name, says in (
        ("/dev/zero", "it is no file"),
        ("pipe", "it is no file"),
        ("long", "is no CSV: a line is longer"),
        ("nul", "holds a NUL"),
        ("latin", "is no UTF-8"),
    ):
        done = empty("import", str(empty.folder / name))
        assert done.code == 1, name
        assert says in done.err
