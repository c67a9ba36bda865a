"""`meterd import`: what it tells, and that a running meterd or a mistake writes nothing."""

from meterd.store import database
from tests.cli.stores import Site
from tests.store.rigs import samples

HEAD = "time,device,quantity,unit,value\n"


def test_it_tells_what_came_along(empty: Site) -> None:
    file = empty.folder / "h.csv"
    file.write_text(HEAD + "2026-01-01T00:00:00Z,shed,active_energy.import,kWh,1.5\n")
    done = empty("import", str(file))
    assert done.code == 0, done.err
    assert "1 samples of 1 devices, 2026-01-01T00:00:00.000Z to" in done.err
    assert "meterd.yaml has no device shed" in done.err
    assert samples(empty.path) == [(1767225600000, "active_energy.import", 1500.0)]


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
    lock = database.find(f"sqlite:///{site.path}").lock()
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
