"""Every reading command in every format: the same rows, data on stdout, talk on stderr."""

import csv
import io
import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from meterd.cli.output import FORMATS, cell
from meterd.drivers.map_library import shipped
from meterd.drivers.registry import names
from tests.cli.command import COMMAND, environment
from tests.cli.inside import inside

ESCAPE = "\x1b"
ALL_FAILED = 5
CONFIG = """\
links:
  bus: {url: "tcp://127.0.0.1:1?framer=rtu"}
devices:
  main: {driver: modbus, map: eastron_sdm630, link: bus, interval: 5s}
  solar: {driver: modbus, map: eastron_sdm120, link: bus, unit: 2}
  spare: {driver: modbus, map: abb_b23, link: "tcp://127.0.0.1:2", enabled: false}
"""
# Command, and what its first column has to name.
READING = {
    "maps": set(shipped()),
    "drivers": set(names()),
    "devices": {"main", "solar", "spare"},
    "check": {"tcp://127.0.0.1:1"},
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "meterd.yaml"
    file.write_text(CONFIG)
    return str(file)


def arguments(command: str, config: str) -> list[str]:
    return [command, *(("-c", config) if command in ("devices", "check") else ())]


def rows(format_: str, text: str) -> list[dict[str, Any]]:
    """Rows with their cells as text, so that all formats can be compared."""
    if format_ == "json":
        return [texts(row) for row in json.loads(text)]
    if format_ == "ndjson":
        return [texts(json.loads(line)) for line in text.splitlines()]
    if format_ == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    header, *lines = (line.split("\t") for line in text.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def texts(row: dict[str, Any]) -> dict[str, str]:
    return {name: cell(value) for name, value in row.items()}


@pytest.mark.parametrize("command", READING)
def test_all_formats_say_the_same(
    command: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(command, config)
    said = {f: inside(capsys, *words, "--format", f) for f in FORMATS}
    assert {done.code for done in said.values()} == {0}
    assert not any(ESCAPE in done.out + done.err for done in said.values())
    expected = rows("csv", said["csv"].out)
    column = next(iter(expected[0]))
    assert {row[column] for row in expected} == READING[command]
    assert rows("tsv", said["tsv"].out) == expected
    for format_ in ("json", "ndjson"):
        # JSON may say more than fits a line.
        found = rows(format_, said[format_].out)
        assert [{name: row[name] for name in expected[0]} for row in found] == expected
    header, *lines = said["table"].out.splitlines()
    assert header.split() == list(expected[0])
    assert len(lines) == len(expected)


@pytest.mark.parametrize("command", READING)
def test_in_a_pipe_it_is_tsv(command: str, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(command, config)
    piped, asked = inside(capsys, *words), inside(capsys, *words, "--format", "tsv")
    assert piped == asked
    assert "\t" in piped.out


def test_one_map_has_its_rows_and_tells_its_source_beside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = inside(capsys, "maps", "eastron_sdm120", "--format", "json")
    document = json.loads(done.out)
    assert document["maker"] == "Eastron"
    assert {"quantity", "function", "address", "type"} <= document["rows"][0].keys()
    assert "source: Eastron" in done.err
    lines = rows("tsv", inside(capsys, "maps", "eastron_sdm120").out)
    assert [line["quantity"] for line in lines] == [row["quantity"] for row in document["rows"]]


def test_the_catalogue_is_a_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["name"]: row for row in rows("tsv", inside(capsys, "maps", "--quantities").out)}
    assert found["active_power"]["unit"] == "W"
    assert found["voltage.l1"]["obis"] == "32.7.0"
    assert "None" not in {text for row in found.values() for text in row.values()}


def test_what_a_check_says_of_itself_is_no_data(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "check", "-c", config, "--format", "json")
    json.loads(done.out)
    assert "ok" in done.err


def on_a_terminal(*words: str, **more: str) -> str:
    """What meterd prints to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm-256color", "COLUMNS": "80", **more})
    with subprocess.Popen([*COMMAND, *words], stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        said = b""
        # EIO is how a terminal says that its last user is gone.
        while data := _read(ours):
            said += data
        os.close(ours)
        assert process.wait(60) == 0
    return said.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_a_terminal_gets_a_table_that_fits() -> None:
    said = on_a_terminal("maps")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.splitlines()]
    assert plain[0].split() == ["name", "maker", "model", "confidence", "rows"]
    assert max(map(len, plain)) <= 80


def test_no_color_means_no_escape_codes() -> None:
    assert ESCAPE not in on_a_terminal("maps", NO_COLOR="1")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    # As in `meterd maps --quantities --format json | head -1`.
    command = [*COMMAND, "maps", "--quantities", "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(60) == 0
        # What is said there besides the list, and nothing of a broken pipe.
        (line,) = err.splitlines()
        assert line.startswith("What meters measure")
