"""`meterd devices`: listed, also those that only the store knows; renamed without a daemon."""

import json
from pathlib import Path

import pytest

from tests.cli.stores import Site


def other_device(site: Site, name: str) -> None:
    """The configuration has another device now, and that one no more."""
    text = site.config.read_text()
    site.config.write_text(text.replace("  main:", f"  {name}:"))


def test_alone_it_lists_what_is_configured(site: Site) -> None:
    done = site("devices", "--format", "json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert list(row) == ["device", "driver", "map", "link", "interval", "enabled"]


def test_what_only_the_store_knows_is_listed_on_demand(site: Site) -> None:
    other_device(site, "kitchen")
    rows = json.loads(site("devices", "--all", "--format", "json").out)
    assert [(row["device"], row["driver"], bool(row["last"])) for row in rows] == [
        ("kitchen", "modbus", False),
        ("main", None, True),
    ]


def test_energy_of_a_device_that_was_removed(site: Site) -> None:
    """By its name, and among all while it lies in the time that is asked for."""
    other_device(site, "kitchen")
    named = site("energy", "main", "--in", "yesterday", "--format", "json")
    assert named.code == 0, named.err
    (row,) = json.loads(named.out)["energy"]
    assert row["value"] > 0
    everything = json.loads(site("energy", "--in", "yesterday", "--format", "json").out)["energy"]
    assert everything == [row]
    later = site("energy", "--start", "now-1m", "--end", "now", "--period", "hour")
    assert later.code == 0, later.err


@pytest.mark.parametrize("command", ["energy", "export"])
def test_an_unknown_device_is_still_a_mistake(site: Site, command: str) -> None:
    done = site(command, "mian")
    assert done.code == 2
    assert "did you mean main?" in done.err


def test_renamed_without_a_daemon_and_back(site: Site) -> None:
    before = json.loads(site("energy", "main", "--format", "json").out)["energy"]
    done = site("devices", "rename", "main", "kitchen", "--who", "anna", "--format", "json")
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert (row["device"], row["was"]) == ("kitchen", "main")
    assert f"{site.config}:3:3: write kitchen here instead of main" in done.err
    # The configuration still says main.
    rows = json.loads(site("energy", "--format", "json").out)["energy"]
    assert {one["device"] for one in rows} == {"kitchen"}
    assert [one["value"] for one in rows[:-1]] == [one["value"] for one in before[:-1]]
    lines = site("export", "kitchen", "--quantity", "active_power").out.splitlines()
    assert len(lines) > 1000
    assert site("db", "check").code == 0
    back = site("devices", "rename", "kitchen", "main")
    assert (back.code, back.err) == (0, "")
    rows = json.loads(site("energy", "--format", "json").out)["energy"]
    assert [one["value"] for one in rows[:-1]] == [one["value"] for one in before[:-1]]


def test_check_tells_where_a_former_name_stands(site: Site) -> None:
    assert "C108" not in site("check").err
    assert site("devices", "rename", "main", "kitchen").code == 0
    done = site("check")
    assert (
        f"{site.config}:3:3: warning[C108]: main was renamed: it is polled as kitchen" in done.err
    )
    assert "write kitchen in the configuration" in done.err


def test_what_is_imported_under_a_former_name_is_the_same_devices(
    site: Site, tmp_path: Path
) -> None:
    assert site("devices", "rename", "main", "kitchen").code == 0
    file = tmp_path / "more.csv"
    first = site.start // 1000 - 600
    rows = "".join(f"{first + 60 * n},230,{n / 1000}\n" for n in range(10))
    file.write_text(f"time,main/voltage.l1,main/active_energy.import [kWh]\n{rows}")
    done = site("import", str(file))
    assert done.code == 0, done.err
    assert "stays alone" not in done.err
    assert "230" in site("export", "kitchen", "--quantity", "voltage.l1").out
    # Its counters are counted like all others.
    asked = ("--quantity", "guarded.active_energy.import", "--end", str(site.start // 1000))
    assert len(site("export", "kitchen", *asked).out.splitlines()) == 1 + 10


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("main", "Kitchen"), 2, "must be a device id"),
        (("main", "main"), 1, "called main already"),
        (("lost", "kitchen"), 1, "no device lost"),
        (("main",), 2, "Missing argument"),
    ],
)
def test_mistakes_are_told(site: Site, words: tuple[str, ...], code: int, says: str) -> None:
    done = site("devices", "rename", *words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_replaced_listed_and_undone_without_a_daemon(site: Site) -> None:
    before = json.loads(site("energy", "--format", "json").out)["energy"]
    at = f"{(site.start + 1440 * 60_000) / 1000:.0f}"
    done = site("devices", "replace", "main", "--at", at, "--who", "anna", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["replaced"] is True
    listed = json.loads(site("devices", "replace", "main", "--list", "--format", "json").out)
    ((who, device),) = ((one["who"], one["device"]) for one in listed["replacements"])
    assert (who, device) == ("anna", "main")
    energy = json.loads(site("energy", "--format", "json").out)["energy"]
    # Nothing is booked across: 10 Wh a minute, of one minute.
    values = [[one["value"] or 0.0 for one in rows] for rows in (before, energy)]
    assert sum(values[0]) - sum(values[1]) == pytest.approx(10.0)
    assert site("db", "check").code == 0
    assert site("devices", "replace", "main", "--at", at, "--undo").code == 0
    assert json.loads(site("energy", "--format", "json").out)["energy"] == before


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("main", "--at", "now+1h"), 2, "future"),
        (("main", "--at", "x"), 2, "no time"),
        (("main", "--undo"), 2, "--undo needs --at"),
        (("lost", "--at", "now-1h"), 1, "no device lost"),
        (("main", "--at", "2020-01-01"), 1, "nothing to separate"),
        (("main", "--at", "now-1h", "--undo"), 1, "was not replaced"),
    ],
)
def test_mistakes_of_replace_are_told(
    site: Site, words: tuple[str, ...], code: int, says: str
) -> None:
    done = site("devices", "replace", *words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_merged_without_a_daemon(site: Site, tmp_path: Path) -> None:
    """What the configuration called otherwise from one day on."""
    before = json.loads(site("energy", "main", "--period", "year", "--format", "json").out)
    now = int(site.start / 1000) + 3 * 86_400
    file = tmp_path / "later.csv"
    rows = "".join(f"{now + 60 * n},{43.2 + n / 100}\n" for n in range(2, 12))
    file.write_text(f"time,kitchen/active_energy.import [kWh]\n{rows}")
    assert site("import", str(file)).code == 0
    refused = site("devices", "rename", "main", "kitchen")
    assert (refused.code, "already" in refused.err) == (1, True)
    done = site("devices", "rename", "main", "kitchen", "--merge")
    assert done.code == 0, done.err
    assert site("db", "check").code == 0
    energy = ("energy", "kitchen", "--start", "2020", "--end", "now+1d", "--period", "year")
    after = json.loads(site(*energy, "--format", "json").out)["energy"]
    had = sum(row["value"] or 0 for row in before["energy"])
    # Ten minutes more, and the one between.
    assert sum(row["value"] or 0 for row in after) == pytest.approx(had + 130, abs=20)
    refused = site("devices", "rename", "kitchen", "main")
    assert refused.code == 0
