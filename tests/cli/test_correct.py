"""`meterd correct`: alone, through a daemon that runs, listed, undone; mistakes."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from meterd.api.app import ServingRules, serve
from meterd.api.auth import tokens
from meterd.api.auth.authenticator import Access
from meterd.model.clock import SystemClock
from tests.api.stored import stored_site
from tests.cli.command import Ended, meterd
from tests.cli.stores import CONFIGURATION, Site

WINDOW = ("--start", "now-10h", "--end", "now-9h")
MARK = ("correct", "main", "active_power", *WINDOW, "--why", "clamp was off")


def valid(site: Site) -> int:
    lines = site("export", "--quantity", "active_power").out.splitlines()
    return sum(",good," in line for line in lines)


def test_marked_listed_and_undone_without_a_daemon(site: Site) -> None:
    before = valid(site)
    done = site(*MARK, "--who", "anna", "--format", "json")
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)["corrections"]
    assert (made["samples"], made["state"], made["who"]) == (60, "marked", "anna")
    assert valid(site) == before - 60
    (listed,) = json.loads(site("correct", "--list", "--format", "json").out)["corrections"]
    assert listed == made
    assert "\tundone\t" in site("correct", "--undo", "1").out
    assert valid(site) == before
    assert site("db", "check").code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("correct",), 2, "DEVICE is missing"),
        (("correct", "main", "active_power", *WINDOW), 2, "--why is missing"),
        (("correct", "main", "active_power", *WINDOW[:3], "now+1h", "--why", "x"), 2, "future"),
        (
            ("correct", "main", "active_power", "--start", "x", *WINDOW[2:], "--why", "x"),
            2,
            "no time",
        ),
        (("correct", "main", "frequency", *WINDOW, "--why", "x"), 1, "store has no frequency"),
        (("correct", "--undo", "9"), 1, "does not exist"),
        (("correct", "--list", "--undo", "9"), 2, "do not go together"),
        (("correct", "main", "--finish"), 2, "do not go together"),
    ],
)
def test_mistakes_are_told(site: Site, words: tuple[str, ...], code: int, says: str) -> None:
    done = site(*words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_what_was_broken_off_is_shown_and_finished(site: Site) -> None:
    before = valid(site)
    assert "Nothing was broken off" in site("correct", "--finish").err
    assert site(*MARK).code == 0
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("UPDATE correction SET done = NULL, n = 0")
    done = site("correct", "--list", "--format", "json")
    assert json.loads(done.out)["corrections"][0]["state"] == "unfinished"
    assert "unfinished: 1" in done.err
    done = site("correct", "--finish", "--format", "json")
    (made,) = json.loads(done.out)["corrections"]
    assert (made["state"], made["samples"], valid(site)) == ("marked", 60, before - 60)


async def through_daemon(
    folder: Path, access: Access, words: Callable[[int], tuple[str, ...]], **env: str
) -> tuple[Ended, list[Any]]:
    """A daemon's API beside a command of another process; and what the store says then."""
    async with stored_site(folder / "meterd.db") as site:
        assert site.corrections is not None
        running = await serve(site, "127.0.0.1", 0, clock=SystemClock(), rules=ServingRules(access))
        try:
            config = folder / "meterd.yaml"
            api = f"api: {{listen: '127.0.0.1:{running.port}'}}\n"
            store = f'store: {{url: "sqlite:///{folder}/meterd.db"}}\n'
            config.write_text(CONFIGURATION + api + store)
            done = await meterd(*words(0), "-c", config, env=env)
            return done, await site.corrections.all()
        finally:
            await running.close()


def mark(_: int) -> tuple[str, ...]:
    window = ("--start", "2026-11-21T09:00:00Z", "--end", "2026-11-21T09:30:00Z")
    return ("correct", "main", "active_power", *window, "--why", "clamp", "--format", "json")


async def test_a_daemon_that_runs_is_asked_to_do_it(tmp_path: Path) -> None:
    done, known = await through_daemon(tmp_path, Access(), mark)
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)["corrections"]
    assert made["samples"] == 30
    assert [one.why for one in known] == ["clamp"]


async def test_a_daemon_that_wants_a_login_gets_the_token(tmp_path: Path) -> None:
    secret = await asyncio.to_thread(
        tokens.add, tmp_path / "tokens", "phone", ("read", "admin"), 1, None
    )
    access = Access(login_always=True, tokens=tmp_path / "tokens")
    done, known = await through_daemon(tmp_path, access, mark)
    assert done.code == 1
    assert "METERD_TOKEN" in done.err
    assert known == []
    done, known = await through_daemon(tmp_path, access, mark, METERD_TOKEN=secret)
    assert done.code == 0, done.err
    assert [one.who for one in known] == ["phone"]


async def test_a_daemon_without_its_api_is_told(tmp_path: Path) -> None:
    async with stored_site(tmp_path / "meterd.db"):
        config = tmp_path / "meterd.yaml"
        store = f'store: {{url: "sqlite:///{tmp_path}/meterd.db"}}\n'
        config.write_text(f"{CONFIGURATION}api: {{listen: '127.0.0.1:1'}}\n{store}")
        done = await meterd(*mark(0), "-c", config)
    assert done.code == 1
    assert "its API on 127.0.0.1:1 cannot be reached" in done.err


def test_a_right_value_of_a_counter_changes_energy_and_is_undone(site: Site) -> None:
    before = site("energy", "--period", "day", "--start", "now-2d").out
    words = ("correct", "main", "active_energy.import", "--start", "now-3m", "--end", "now")
    done = site(*words, "--set", "44.2 kWh", "--why", "misread", "--format", "json")
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)["corrections"]
    assert (made["state"], made["value"]) == ("set", 44_200.0)
    assert site("energy", "--period", "day", "--start", "now-2d").out != before
    assert site("correct", "--undo", "1").code == 0
    assert site("energy", "--period", "day", "--start", "now-2d").out == before
    assert site("db", "check").code == 0


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ("12,5", 2, "--set '12,5' is no value; write a number"),
        ("1e999", 2, "is no value"),
        ("inf", 2, "is no value"),
        ("5 °C", 1, "is in W: '°C' is nothing like it"),
        ("", 2, "is no value"),
    ],
)
def test_a_value_that_is_none_is_refused(site: Site, value: str, code: int, says: str) -> None:
    done = site(*MARK, "--set", value)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_a_guarded_total_points_to_its_counter(site: Site) -> None:
    words = ("correct", "main", "guarded.active_energy.import", *WINDOW, "--why", "x")
    done = site(*words)
    assert done.code == 1
    assert "correct active_energy.import instead" in done.err


async def test_a_daemon_that_runs_is_asked_to_set_a_value(tmp_path: Path) -> None:
    done, known = await through_daemon(
        tmp_path, Access(), lambda port: (*mark(port), "--set", "1.5kW")
    )
    assert done.code == 0, done.err
    assert [(one.state, one.value) for one in known] == [("set", 1500.0)]
