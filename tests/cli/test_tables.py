"""Tables on narrow terminals: no value, time or name is ever broken; what went is told."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from meterd.cli import output
from meterd.cli.output import cell
from tests.cli.command import Ended
from tests.cli.inside import inside
from tests.cli.stores import Site
from tests.cli.test_output import on_a_terminal

WIDTHS = (40, 60, 80, 120)
CONFIG = """\
devices:
  main: {driver: modbus, map: eastron_sdm630, link: "tcp://192.0.2.7?framer=rtu"}
  cellar-left-behind-the-boiler: {driver: modbus, map: schneider_iem3155, link: "tcp://192.0.2.8"}
  rack-ups: {driver: megatec, link: "serial:///dev/serial/by-id/usb-Prolific-if00-port0"}
"""
ROWS = [
    {
        "device": f"meter-{number}",
        "quantity": "guarded.active_energy.import",
        "start": "2026-10-25 02:00+01:00",
        "value": 36949.4750 * number,
        "unit": "Wh",
        "cost": f"{number * 1234}.56",
        "reason": "the meter refuses register 342 (function 4): illegal data address",
    }
    for number in (1, 20, 300)
]


def narrow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(output, "_terminal_width", lambda: width)


def printed(capsys: pytest.CaptureFixture[str], rows: Sequence[dict[str, Any]], **more: Any) -> Any:
    capsys.readouterr()
    output.show(list(rows[0]), rows, "table", None, **more)
    return capsys.readouterr()


@pytest.mark.parametrize("width", range(8, 140, 4))
def test_every_value_that_is_shown_is_shown_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow(monkeypatch, width)
    done = printed(capsys, ROWS, minor=("reason", "cost"))
    words = done.out.split()
    for row in ROWS:
        assert cell(row["value"]) in words
        assert row["device"] in words
    told = " ".join((done.err + done.out).split())
    for name in ROWS[0]:
        assert name in told, f"{name} went without a word at {width}"
    times = re.findall(r"2026-10-25 02:00\+01:00", told)
    assert times, "a time was broken"
    longest = max(len(text) for row in ROWS for text in map(cell, row.values()))
    if width > longest:
        assert max(map(len, done.out.splitlines())) <= width


def test_the_least_important_columns_go_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"a": number, "b": "x" * 20, "c": f"y{number}" * 8, "d": f"z{number}" * 8}
        for number in (1, 2)
    ]
    narrow(monkeypatch, 60)
    assert printed(capsys, rows, minor=("c", "d")).out.split()[:4] == ["a", "b", "c", "d"]
    narrow(monkeypatch, 45)
    done = printed(capsys, rows, minor=("c", "d"))
    # What is the same in every row goes before all others, and is told once.
    assert done.out.split()[:3] == ["a", "c", "d"]
    assert done.err.split() == ["in", "every", "row:", "b", "x" * 20]
    narrow(monkeypatch, 25)
    done = printed(capsys, rows, minor=("c", "d"))
    assert done.out.split()[:2] == ["a", "d"]
    told = " ".join(done.err.split())
    assert told.endswith("no room here for: c (--format tsv or json has all)")
    narrow(monkeypatch, 10)
    assert printed(capsys, rows, minor=("c",)).out.splitlines()[:2] == ["a  1", f"b  {'x' * 20}"]


def test_a_unit_stays_beside_its_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in WIDTHS:
        narrow(monkeypatch, width)
        assert "Wh" in printed(capsys, ROWS).out


def test_a_table_without_rows_is_no_lone_header(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(("a", "b"), [], "table", None)
    assert capsys.readouterr().out == ""
    output.show(("a", "b"), [], "csv", None)
    assert capsys.readouterr().out == "a,b\n"


def test_random_tables_are_whole_at_any_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(10)
    for _ in range(300):
        columns = [f"column{number}" for number in range(dice.randint(1, 9))]
        rows = [{name: _anything(dice) for name in columns} for _ in range(dice.randint(1, 5))]
        minor = dice.sample(columns, dice.randint(0, len(columns) - 1))
        narrow(monkeypatch, dice.randint(1, 150))
        done = printed(capsys, rows, minor=minor)
        gone = " ".join(done.err.split()).partition("no room here for: ")[2]
        for row in rows:
            kept = [text for name, text in row.items() if name not in gone]
            for word in " ".join(map(cell, kept)).split():
                assert word in (done.out + done.err).split(), (word, done.out)


def _anything(dice: random.Random) -> Any:
    return dice.choice(
        [
            None,
            dice.randint(-(10**12), 10**12),
            round(dice.uniform(-1e6, 1e6), dice.randint(0, 6)),
            "wort " * dice.randint(1, 12),
            "übermäßig" * dice.randint(1, 5),
            "電力" * dice.randint(1, 6),
            "x" * dice.randint(0, 90),
        ]
    )


COMMANDS = (
    ("maps",),
    ("maps", "eastron_sdm630"),
    ("maps", "--quantities"),
    ("drivers",),
    ("devices",),
    ("check",),
    ("doctor",),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_breaks_a_value(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "meterd.yaml"
    file.write_text(CONFIG)
    more = ("-c", str(file)) if words[0] in ("devices", "check", "doctor") else ()
    whole = inside(capsys, *words, *more, "--format", "tsv")
    for width in WIDTHS:
        narrow(monkeypatch, width)
        _are_whole(inside(capsys, *words, *more, "--format", "table"), whole)


def _are_whole(table: Ended, whole: Ended) -> None:
    """Each word of a table stands as such in a cell of the other format, or in a header."""
    known = set(whole.out.split()) | {"low", "(compare", "with", "the", "display)"}
    assert [word for word in table.out.split() if word not in known] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_what_the_store_holds_is_not_broken(
    width: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {words: site(*words, "--format", "tsv").out for words in (("db", "info"),)}
    narrow(monkeypatch, width)
    for words, said in whole.items():
        table = site(*words, "--format", "table").out
        assert [word for word in table.split() if word not in said.split()] == []
    energy = site("energy", "main", "--format", "table").out
    assert re.findall(r"\b\d+\.\d{3}\b", energy)
    assert not re.findall(r"^\s*\d{1,3}\.?\d*$", energy, re.MULTILINE), "a folded number"


def test_a_sound_store_is_told_without_a_lone_header(site: Site) -> None:
    done = site("db", "check")
    assert (done.code, done.out) == (0, "")
    assert "sound" in done.err
    assert site("db", "check", "--format", "table").out == ""


@pytest.mark.parametrize("width", [60, 80])
def test_on_a_real_terminal_lines_fit(width: int, tmp_path: Path) -> None:
    file = tmp_path / "meterd.yaml"
    file.write_text(CONFIG.replace("cellar-left-behind-the-boiler", "cellar"))
    said = on_a_terminal("devices", "-c", str(file), COLUMNS=str(width))
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.splitlines()]
    assert max(map(len, plain)) <= width
    assert "serial:///dev/serial/by-id/usb-Prolific-if00-port0" in said.split()
